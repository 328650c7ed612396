"""Cases of crash campaigns: a work, whether there is a store before, and how the system does it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.campaigns import works
from tests.campaigns.faults import (
    by_clones,
    by_copies,
    by_links,
    in_one_step,
    in_two_steps,
    steps,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.campaigns.faults import Hook, Syncs
    from tests.campaigns.works import Build

    Way = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A case.

    Attributes
    ----------
    work : Build
        The work.
    old : bool
        Whether there is a store before.
    replace, take : callable
        How stores are replaced, and files taken over.
    syncs : bool or "files"
        What is flushed with the whole file system.
    """

    work: Build
    old: bool = True
    replace: Way = in_one_step
    take: Way = by_links
    syncs: Syncs = False

    def __str__(self) -> str:
        parts = [self.work.name, "over a store" if self.old else "without a store before"]
        parts += [way.__name__.replace("_", " ") for way in (self.replace, self.take)]
        return ", ".join([*parts, _FLUSHES[self.syncs]])

    @contextlib.contextmanager
    def system(self) -> Iterator[None]:
        """Have the system do things in the ways of the case."""
        with self.replace(), self.take():
            yield

    def steps(self, hook: Hook) -> contextlib.AbstractContextManager[None]:
        """Pass every step to a hook."""
        return steps(hook, syncs=self.syncs)


_FLUSHES: dict[Syncs, str] = {
    False: "flush by flush",
    "files": "files by syncfs",
    True: "by syncfs",
}
BUILDS = (
    Case(works.Build(), old=False),
    Case(works.Build()),
    Case(works.Build(), replace=in_two_steps),
)
_SNAPSHOT = works.Snapshot()
_CHANGES = [works.Change(kind) for kind in (works.APPEND, works.UPDATE, works.UPSERT)]
NOT_BUILDS = (_SNAPSHOT, *_CHANGES)
FEW = (
    *BUILDS,
    Case(works.Build(), syncs="files"),
    Case(_SNAPSHOT, old=False, take=by_copies),
    Case(_SNAPSHOT, syncs=True),
    *(
        Case(change, take=take, syncs=syncs)
        for change, take, syncs in zip(
            _CHANGES, (by_links, by_clones, by_copies), (True, False, True), strict=False
        )
    ),
)
_WAYS: tuple[tuple[Way, Way, bool], ...] = (
    (in_one_step, by_links, True),
    (in_one_step, by_links, False),
    (in_two_steps, by_links, False),
    (in_one_step, by_clones, False),
    (in_one_step, by_copies, True),
)
EVERY = (
    *BUILDS,
    *(
        Case(works.Build(), old=old, syncs=syncs)
        for old in (False, True)
        for syncs in ("files", True)
    ),
    *(Case(_SNAPSHOT, old=False, take=take) for take in (by_links, by_copies)),
    *(Case(work, True, *ways) for work in NOT_BUILDS for ways in _WAYS),
)
