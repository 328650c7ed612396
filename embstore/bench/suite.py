"""How fast is this store, on this disk, against RAM? What ``embstore bench STORE`` runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from embstore.bench import device, machine, state, work
from embstore.bench.measure import (
    Comparison,
    Settings,
    compare_cold,
    compare_limited,
    compare_open,
    compare_warm,
)
from embstore.bench.peers import Embstore, Matrix, MemmapChunks, Peer
from embstore.bench.report import Report
from embstore.bench.table import Table
from embstore.bench.work import BATCHES, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

# The table is so many times the memory in the limited state.
LIMITED_SHARE = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Parameters
    ----------
    works, states : tuple of str
        Names out of `embstore.bench.work` and `embstore.bench.state`.
    batches : tuple of int
        Rows in a call.
    settings : Settings
        How long, and how often.
    disk_seconds : float
        How long each queue depth of the disk's own limit is measured; 0 for not at all.
    """

    works: tuple[str, ...] = tuple(name for name in work.WORKS if name != work.BUILD)
    states: tuple[str, ...] = state.STATES
    batches: tuple[int, ...] = BATCHES
    settings: Settings = field(default_factory=Settings)
    disk_seconds: float = 1.0

    def __post_init__(self) -> None:
        work.cases(self.works, ())  # Refuses names that are not there.
        for name in self.states:
            if name not in state.STATES:
                known = ", ".join(state.STATES)
                raise ValueError(f"there is no state {name!r}; there are {known}")
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"batches must be 1 or more rows, not {self.batches}")

    @classmethod
    def of(
        cls,
        *,
        works: Sequence[str] | None,
        batches: Sequence[int] | None,
        states: Sequence[str] | None,
        rounds: int,
        seconds: float,
    ) -> Plan:
        """Return a plan out of what is chosen; what is not is left as it is."""
        chosen = {"works": works, "batches": batches, "states": states}
        given: dict[str, Any] = {name: tuple(some) for name, some in chosen.items() if some}
        return cls(**given, settings=Settings(rounds, seconds))

    @property
    def cases(self) -> list[Case]:
        """The lookups by id."""
        return work.cases(tuple(n for n in self.works if n != work.WORDS), self.batches)


def bench_store(
    path: Path, plan: Plan, progress: Callable[[str], None] = lambda text: None
) -> Report:
    """Measure a store against RAM and ``np.memmap``.

    Parameters
    ----------
    path : Path
        The store. It is only read; the page cache is asked to drop its files.
    plan : Plan
        What to measure.
    progress : callable
        Gets a line before each measurement.

    Returns
    -------
    Report

    Raises
    ------
    StoreNotFoundError, StoreCorruptError, ...
        As `embstore.open`.
    ValueError
        If the store has no rows.
    """
    table = Table.of(path)
    if not table.rows:
        raise ValueError(f"{path} has no rows to look up")
    report = Report.of(table)
    own = Embstore(table)
    matrix = Matrix(table, limit_bytes=machine.free_ram_bytes() // 2)
    memmap = MemmapChunks(table)
    if plan.disk_seconds:
        files = own.files()
        report.disk_limit = device.measure_limit(
            files, seconds=plan.disk_seconds, progress=progress
        )
    report.comparisons += compare(own, [matrix, memmap], plan, report, progress)
    if work.WORDS in plan.works and table.has_words:
        cases = work.cases((work.WORDS,), ())
        for name in {state.WARM, state.PRELOADED} & set(plan.states):
            report.comparisons += compare_warm(
                [replace(own, preload=name == state.PRELOADED), matrix],
                cases,
                name,
                plan.settings,
                progress,
            )
    return report


def compare(
    own: Embstore,
    peers: Sequence[Peer],
    plan: Plan,
    report: Report,
    progress: Callable[[str], None],
) -> Iterator[Comparison]:
    """Yield the comparisons of embstore with some peers that a plan asks for.

    Parameters
    ----------
    own : Embstore
        The store under test.
    peers : sequence of Peer
        They take turns with it, all together.
    plan : Plan
        What to measure.
    report : Report
        Gets a line for what could not be measured; its disk limit is measured again, if there is
        one.
    progress : callable
        Gets a line before each measurement.
    """
    disk = [peer for peer in peers if not peer.in_ram]
    if work.OPEN in plan.works and disk:
        for name in (state.WARM, state.COLD):
            if name in plan.states:
                yield compare_open([own, *disk], name, plan.settings, progress)
    if state.PRELOADED in plan.states and plan.cases:
        if own.can_preload():
            loaded = replace(own, preload=True)
            yield from compare_warm(
                [loaded, *peers], plan.cases, state.PRELOADED, plan.settings, progress
            )
        else:
            report.skipped.append("preloaded: this version of embstore has no open(preload=True)")
    if state.WARM in plan.states and plan.cases:
        yield from compare_warm([own, *peers], plan.cases, state.WARM, plan.settings, progress)
    if state.COLD in plan.states and disk:
        cold = [case for case in plan.cases if case.work not in work.WARM_ONLY]
        yield from compare_cold([own, *disk], cold, plan.settings, progress, report.disk_limit)
    if state.LIMITED in plan.states and disk and work.HOT in plan.works:
        size = own.table.total_bytes // LIMITED_SHARE
        limited = [Case(work.HOT, work.HOT_BATCH)]
        try:
            yield from compare_limited([own, *disk], limited, size, plan.settings, progress)
        except state.NoMemoryGroupError as error:
            report.skipped.append(f"limited: {error}")
