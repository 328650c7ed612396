"""The comparison of a store with ``matrix[ids]`` in RAM that ``embstore bench`` runs.

Both take turns at the same lookups over several rounds, because machines are noisy. The rows of
every timed call are compared with the array in RAM.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import embstore
from embstore.bench import machine, state, work
from embstore.bench.limited import Limited
from embstore.bench.report import Comparison, Entry, Report
from embstore.bench.state import STATES
from embstore.bench.timing import (
    Call,
    Limits,
    Turn,
    calls_together,
    check_rows,
    time_calls,
    warm_up,
)
from embstore.bench.work import BATCHES, WORKS, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Warm rows are drawn from this many, more than a processor's cache holds.
STREAM_ROWS = 1 << 18
ROWS_TOGETHER = 4096
COLD_ROWS_TOGETHER = 1 << 16
# A cold turn ends when this part of the table has been read, so that the rest is still cold.
COLD_SHARE = 16
# In the limited state, the table is this many times the memory.
LIMITED_SHARE = 8
SEED = 1


def bench_store(
    path: Path,
    *,
    works: Sequence[str] = WORKS,
    states: Sequence[str] = STATES,
    batches: Sequence[int] = BATCHES,
    rounds: int = 5,
    seconds: float = 0.3,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Measure a store against its rows in RAM.

    Parameters
    ----------
    path : Path
        The store. It is only read; its files are dropped from the page cache.
    works, states : sequence of str
        Kinds of lookups from `embstore.bench.work`, and states from `embstore.bench.state`.
    batches : sequence of int
        Ids in a call.
    rounds : int
        Turns of each in each case.
    seconds : float
        Length of a turn; a cold turn is at most 5 times, a limited one 10 times as long.
    progress : callable
        Gets a line before each measurement.

    Raises
    ------
    StoreNotFoundError, StoreCorruptError, ...
        As `embstore.open`.
    ValueError
        If the store has no rows, a work or state is unknown, or a returned row is wrong.
    """
    cases = work.cases(works, batches)
    if unknown := [name for name in states if name not in STATES]:
        raise ValueError(f"unknown state {unknown[0]!r}; expected one of {', '.join(STATES)}")
    progress("loading the rows into RAM")
    with embstore.open(path) as store:
        if not store.rows:
            raise ValueError(f"{path} has no rows to look up")
        matrix = load_matrix(store, machine.free_ram_bytes() // 2)
        report = Report.of(path, store.shape, store.dtype)
    bench = StoreBench(path, matrix, report.table["rows"], rounds, seconds, progress)
    if work.OPEN in works:
        opened = [name for name in (state.WARM, state.COLD) if name in states]
        report.comparisons += map(bench.opening, opened)
    for name in (state.PRELOADED, state.WARM):
        if name in states:
            report.comparisons += bench.in_ram(cases, name)
    if state.COLD in states:
        report.comparisons += bench.cold(case for case in cases if case.work not in work.WARM_ONLY)
    if state.LIMITED in states and work.HOT in works:
        try:
            report.comparisons.append(bench.limited())
        except (state.NoMemoryGroupError, ChildProcessError) as error:
            report.skipped.append(f"limited: {error}")
    return report


class Competitor(NamedTuple):
    """The store or the array in RAM: a name, and functions that look up ids and a single id."""

    name: str
    rows: int
    lookup: Callable[[NDArray[np.int64]], NDArray[Any]]
    one: Callable[[int], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class StoreBench:
    """The measurements of one store, a method for each kind of state."""

    path: Path
    matrix: NDArray[Any]
    rows: int
    rounds: int
    seconds: float
    progress: Callable[[str], None]

    def opening(self, name: str) -> Comparison:
        """Measure how long opening takes, everything being imported."""
        self.progress(f"open, {name}")
        own = Entry("embstore", self.rows)
        for _ in range(self.rounds):
            if name == state.COLD:
                state.evict(state.files_under(self.path))
            start = time.perf_counter_ns()
            store = embstore.open(self.path)
            own.turns.append(Turn([time.perf_counter_ns() - start]))
            store.close()
        return Comparison(Case(work.OPEN, 0), name, [own])

    def in_ram(self, cases: Iterable[Case], name: str) -> Iterator[Comparison]:
        """Yield a comparison for each case, the store being preloaded or in the page cache."""
        files = state.files_under(self.path)
        state.evict(files)
        if name == state.WARM:
            # Reading in order fills the page cache in large pieces.
            state.read_through(files)
        with embstore.open(self.path, preload=name == state.PRELOADED) as store:
            for case in cases:
                self.progress(f"{case.work}, batch {case.batch}, {name}")
                streams = [self._warm_calls(one, case) for one in self._competitors(store)]
                limits = Limits(self.seconds, None, calls_together(ROWS_TOGETHER, case.batch))
                entries = self._entries()
                for _ in range(self.rounds):
                    for entry, calls in zip(entries, streams, strict=True):
                        entry.turns.append(time_calls(calls, limits))
                yield Comparison(case, name, entries)

    def cold(self, cases: Iterable[Case]) -> Iterator[Comparison]:
        """Yield a comparison for each case, the store's files not being in the page cache."""
        share = self.rows * self.matrix[:1].nbytes // COLD_SHARE
        for case in cases:
            self.progress(f"{case.work}, batch {case.batch}, {state.COLD}")
            together = calls_together(COLD_ROWS_TOGETHER, case.batch)
            limits = Limits(5 * self.seconds, share, together)
            entries = self._entries()
            for turn in range(self.rounds):
                state.evict(state.files_under(self.path))
                with embstore.open(self.path) as store:
                    for entry, one in zip(entries, self._competitors(store), strict=True):
                        one.lookup(np.zeros(1, np.int64))  # Pays for what happens only once.
                        calls = self._calls(one, case, work.fresh(case, one.rows, SEED + turn))
                        entry.turns.append(time_calls(calls, limits))
            yield Comparison(case, state.COLD, entries)

    def limited(self) -> Comparison:
        """Compare the store in a small memory cgroup with the array, which is outside of it."""
        case = Case(work.HOT, work.HOT_BATCH)
        size = self.rows * self.matrix[:1].nbytes // LIMITED_SHARE
        self.progress(f"{case.work}, batch {case.batch}, {size >> 20} MiB of memory")
        state.evict(state.files_under(self.path))
        limits = Limits(10 * self.seconds, 1 << 62)
        own, other = self._entries()
        rows = (self.rows, len(self.matrix))
        with state.memory_group(size) as group:
            child = Limited(self.path, group, *rows, case, limits, self.rounds, SEED)
            own.turns = child.turns(self.matrix)
        one = self._in_matrix()
        calls = self._calls(one, case, work.fresh(case, one.rows, SEED))
        other.turns = [time_calls(calls, limits) for _ in range(self.rounds)]
        other.note = f"{other.note or 'has its rows in RAM'}, outside of the limit"
        return Comparison(case, state.LIMITED, [own, other], size)

    def _competitors(self, store: embstore.EmbeddingStore) -> tuple[Competitor, Competitor]:
        own = Competitor("embstore", self.rows, store.lookup, store.__getitem__)
        return own, self._in_matrix()

    def _in_matrix(self) -> Competitor:
        matrix = self.matrix
        # A view of one row would have read nothing.
        return Competitor(
            "matrix[ids]", len(matrix), matrix.__getitem__, lambda n: matrix[n].copy()
        )

    def _entries(self) -> list[Entry]:
        count = len(self.matrix)
        part = f"has only the first {count:,} rows: half of the free RAM"
        note = part if count < self.rows else ""
        return [Entry("embstore", self.rows), Entry("matrix[ids]", count, note)]

    def _warm_calls(self, one: Competitor, case: Case) -> Iterator[Call]:
        """Return calls on rows that are in RAM and mapped, after a few to warm up."""
        ids = work.stream_ids(case, one.rows, min(STREAM_ROWS, 4 * one.rows), SEED)
        for start in range(0, len(ids), ROWS_TOGETHER):
            one.lookup(ids[start : start + ROWS_TOGETHER])
        calls = self._calls(one, case, cycle(ids.reshape(-1, case.batch)))
        warm_up(calls)
        return calls

    def _calls(
        self, one: Competitor, case: Case, batches: Iterable[NDArray[np.int64]]
    ) -> Iterator[Call]:
        single = case.batch == 1 and case.work in work.WARM_ONLY
        for ids in batches:
            run = partial(one.one, int(ids[0])) if single else partial(one.lookup, ids)
            yield Call(run, len(ids), partial(self._check, one.name, ids))

    def _check(self, name: str, ids: NDArray[np.int64], rows: NDArray[Any]) -> int:
        known = ids < len(self.matrix)
        rows = np.asarray(rows).reshape(len(ids), *self.matrix.shape[1:])
        return check_rows(name, ids[known], rows[known], self.matrix[ids[known]])


def load_matrix(store: embstore.EmbeddingStore, max_bytes: int) -> NDArray[Any]:
    """Return the first rows of a store, at most ``max_bytes``, as one array in RAM.

    They come from `scan`, not from the lookups that are compared with them.
    """
    row_bytes = int(np.prod(store.row_shape, dtype=np.int64)) * store.dtype.itemsize
    count = max(min(store.rows, max_bytes // max(row_bytes, 1)), 1)
    matrix = np.empty((count, *store.row_shape), store.dtype)

    def visit(ids: range, rows: NDArray[Any]) -> None:
        matrix[ids.start : ids.stop : ids.step] = rows

    store.scan(visit, 0, count)
    return matrix
