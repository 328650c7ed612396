"""Replicas: servers that have the same partitions, tried in turn.

1. A request goes to the replicas in turn, so they share the work. One that has failed is asked last
   for a while, longer after each failure.
2. If one fails, the next is asked. The time that is left is divided among those not asked yet, so
   that a server that does not answer leaves time for the others.
3. If all have failed and another try may help, they are asked again after a pause, until the
   deadline: a server that restarts costs a delay and no answer. Rows of a failed try are
   overwritten, and only a whole answer counts.
"""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from embstore.errors import RemoteError
from embstore.serving.link import LinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embstore.serving.calls import Call
    from embstore.serving.link import Link
    from embstore.serving.protocol import Header
    from embstore.serving.replies import Expected, Put

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.02, 1.0
AVOIDED_SECONDS_MAX = 60.0
_SHOWN_LENGTH = 4000


class Health:
    """Whether a server has failed lately; shared by all that ask it."""

    def __init__(self) -> None:
        self._failures, self._until = 0, 0.0

    @property
    def is_avoided(self) -> bool:
        """Whether others are asked first."""
        return bool(self._failures) and time.monotonic() < self._until

    def note(self, *, good: bool) -> None:
        """Note how a request ended."""
        if good:
            if self._failures:
                self._failures = 0
            return
        self._failures += 1
        seconds = min(2.0 ** min(self._failures - 1, 10), AVOIDED_SECONDS_MAX)
        self._until = time.monotonic() + seconds


class Replicas:
    """Servers that give the same answers.

    Parameters
    ----------
    links : sequence of (Link, Health)
        Them, at least one.
    """

    def __init__(self, links: Sequence[tuple[Link, Health]]) -> None:
        self._links = tuple(links)
        self._turn = count()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of the servers."""
        return tuple(str(link.address) for link, _ in self._links)

    def ask(
        self,
        header: Header,
        payload: bytes | memoryview,
        expected: Expected,
        put: Put,
        call: Call,
        *,
        is_small: bool = False,
    ) -> None:
        """Ask one server after the other until one has answered; see `Link.ask`.

        Raises
        ------
        RemoteError
            If none has before the call's deadline, or none will; it names them all.
        """
        problems: dict[str, str] = {}
        pause = FIRST_PAUSE_SECONDS
        while True:
            again, order = False, self._order()
            for place, (link, health) in enumerate(order):
                if call.is_stopped or (problems and call.left <= 0):
                    raise self._error(problems, call)
                try:
                    seconds = call.left / (len(order) - place)
                    link.ask(header, payload, expected, put, call, seconds, is_small=is_small)
                except LinkError as error:
                    health.note(good=False)
                    problems[str(link.address)] = str(error)
                    again |= error.again
                else:
                    health.note(good=True)
                    return
            if not again:
                raise self._error(problems, call)
            call.pause(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    def _order(self) -> list[tuple[Link, Health]]:
        if len(self._links) == 1:
            return list(self._links)
        first = next(self._turn) % len(self._links)
        turned = [*self._links[first:], *self._links[:first]]
        return sorted(turned, key=lambda pair: pair[1].is_avoided)

    def _error(self, problems: dict[str, str], call: Call) -> RemoteError:
        return lost(problems, call, self.addresses)


def lost(problems: dict[str, str], call: Call, addresses: Sequence[str] = ()) -> RemoteError:
    """Return the error for servers that have not answered, given what happened at each."""
    if not problems:
        return RemoteError(f"the request to {', '.join(addresses)} was given up")
    told = "; ".join(f"{address}: {problem}" for address, problem in problems.items())
    late = f" within {call.seconds:g} s" if call.left <= 0 else ""
    who = "the server" if len(problems) == 1 else f"any of {len(problems)} servers"
    return RemoteError(f"no answer from {who}{late}: {told[:_SHOWN_LENGTH]}")
