"""Plans of a comparison with peers: which work, in which states, how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.measure import Settings, compare_cold, compare_limited, compare_open, compare_warm
from benchmarks.orders import WORKS
from embstore.bench import state, work
from embstore.bench.work import BATCHES, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.peers.base import Peer
    from benchmarks.peers.own import Embstore
    from benchmarks.report import PeerReport
    from embstore.bench.report import Comparison

# Kinds of lookups by id.
BY_ID = tuple(name for name in work.WORKS if name != work.OPEN)


@dataclass(frozen=True, slots=True)
class Plan:
    """The measurements of a comparison.

    Parameters
    ----------
    works : tuple of str
        Kinds of work from `benchmarks.orders`.
    states : tuple of str
        States from `embstore.bench.state`.
    batches : tuple of int
        Ids in a call.
    settings : Settings
        Length and number of the turns.
    disk_seconds : float
        How long each queue depth of the limit of the disk is measured; 0 to leave it out.
    """

    works: tuple[str, ...] = WORKS
    states: tuple[str, ...] = state.STATES
    batches: tuple[int, ...] = BATCHES
    settings: Settings = field(default_factory=Settings)
    disk_seconds: float = 1.0

    def __post_init__(self) -> None:
        for kind, names, known in (
            ("work", self.works, WORKS),
            ("state", self.states, state.STATES),
        ):
            if unknown := [name for name in names if name not in known]:
                expected = ", ".join(known)
                raise ValueError(f"unknown {kind} {unknown[0]!r}; expected one of {expected}")
        _ = self.cases  # Checks the batches.

    @property
    def cases(self) -> list[Case]:
        """The lookups by id."""
        return work.cases([name for name in self.works if name in BY_ID], self.batches)


def compare(
    own: Embstore,
    peers: Sequence[Peer],
    plan: Plan,
    report: PeerReport,
    progress: Callable[[str], None],
) -> Iterator[Comparison]:
    """Yield the comparisons of embstore with peers that a plan asks for.

    Parameters
    ----------
    own : Embstore
        embstore.
    peers : sequence of Peer
        They and embstore take turns.
    plan : Plan
        The measurements.
    report : PeerReport
        Gets a line for a state that could not be measured. Its limit of the disk is measured again
        beside cold turns, if it has one.
    progress : callable
        Gets a line before each measurement.
    """
    disk = [peer for peer in peers if not peer.in_ram]
    if work.OPEN in plan.works and disk:
        for name in (state.WARM, state.COLD):
            if name in plan.states:
                yield compare_open([own, *disk], name, plan.settings, progress)
    if state.PRELOADED in plan.states and plan.cases:
        loaded = replace(own, preload=True)
        yield from compare_warm(
            [loaded, *peers], plan.cases, state.PRELOADED, plan.settings, progress
        )
    if state.WARM in plan.states and plan.cases:
        yield from compare_warm([own, *peers], plan.cases, state.WARM, plan.settings, progress)
    if state.COLD in plan.states and disk:
        cold = [case for case in plan.cases if case.work not in work.WARM_ONLY]
        yield from compare_cold([own, *disk], cold, plan.settings, progress, report.disk_limit)
    if state.LIMITED in plan.states and disk and work.HOT in plan.works:
        size = own.table.total_bytes // state.LIMITED_SHARE
        limited = [Case(work.HOT, work.HOT_BATCH)]
        try:
            yield from compare_limited([own, *disk], limited, size, plan.settings, progress)
        except state.NoMemoryGroupError as error:
            report.skipped.append(f"limited: {error}")
