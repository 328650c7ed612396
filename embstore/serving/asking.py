"""Facts of several servers, asked at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from embstore.reading.workers import together
from embstore.serving.forks import note_use
from embstore.serving.link import LinkError
from embstore.serving.remote_records import pool as server_pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embstore.serving.calls import Call
    from embstore.serving.facts import Facts
    from embstore.serving.link import Link

_Name = TypeVar("_Name")
_MOST_AT_ONCE = 32


def ask_all(
    links: Mapping[_Name, Link], call: Call
) -> tuple[dict[_Name, Facts], dict[_Name, LinkError]]:
    """Return the facts that servers tell, and the errors of those that do not answer.

    Parameters
    ----------
    links : mapping of Link
        The servers, by any name.
    call : Call
        The call that this is a part of; each server is asked once, until its deadline.

    Raises
    ------
    RemoteError
        If this process cannot connect to servers, because it was forked.
    """
    note_use()
    found: dict[_Name, Facts] = {}
    problems: dict[_Name, LinkError] = {}
    waiting = [*links.items()][::-1]

    def drain() -> None:
        while waiting:
            try:
                name, link = waiting.pop()
            except IndexError:
                return
            try:
                found[name] = link.facts(max(call.left, 0))
            except LinkError as error:
                problems[name] = error

    together([drain] * min(len(links), _MOST_AT_ONCE), waiting.clear, server_pool())
    return found, problems
