"""The comparison of a store with ``matrix[ids]`` in RAM that ``embstore bench`` runs.

Both take turns at the same lookups over several rounds, because machines are noisy. The rows of
every timed call are compared with the array in RAM.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import cycle, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.bench import machine, state, timing, work
from embstore.bench.plan import duration, plan_of, repeating, seconds_most
from embstore.bench.report import Comparison, Entry, Report, plural
from embstore.bench.settings import ROUNDS, SECONDS, Settings
from embstore.bench.state import COLD, LIMITED, PRELOADED, STATES, WARM
from embstore.bench.timing import Call, Turn, time_calls
from embstore.bench.work import BATCHES, WORKS, Case
from embstore.paths import as_local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Competitor = embstore.EmbeddingStore | NDArray[Any]

SEED = 1


def bench_store(
    path: Path,
    *,
    tensor: str | None = None,
    works: Sequence[str] = WORKS,
    states: Sequence[str] = STATES,
    batches: Sequence[int] = BATCHES,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda text: None,
    started: Callable[[str], None] = lambda text: None,
) -> Report:
    """Measure what `embstore.open` opens against its rows in RAM.

    The files are only read, and dropped from the page cache. Each case has ``rounds`` turns of
    ``seconds``; a cold one takes at most 5 times, a limited one 10 times as long. ``progress`` gets
    a line before each case, and ``started`` what will be measured and about how long it takes.
    Ctrl-C raises `Interrupted`, with what was measured. ValueError says that the path is a URL,
    that a table has no rows, that a work or state is unknown, or that a returned row is wrong.
    """
    path = as_local_path(path, "store", "copy what is there to a disk, and measure the copy")
    cases = work.cases(works, batches)
    if unknown := [name for name in states if name not in STATES]:
        raise ValueError(f"unknown state {unknown[0]!r}; expected one of {', '.join(STATES)}")
    opening = partial(embstore.open, path, tensor=tensor)
    with opening() as store:
        if not store.rows:
            raise ValueError(f"{path} has no rows to look up")
        plan, skipped = plan_of(cases, states, compressed=bool(store.compression))
        count = plural(sum(map(len, plan.values())), "case")
        started(f"measuring {count}, up to {duration(seconds_most(plan, rounds, seconds))}")
        progress("loading the rows into RAM")
        matrix = load_matrix(store, machine.free_ram_bytes() // 2)
        report = Report.of(path, store.shape, store.dtype)
        report.table |= {
            "encoding": store.encoding,
            "compression": store.compression,
            "record_bytes": store.record_bytes,
            "partitions": store.partition_count,
        }
        files = state.files_of(store)
    report.settings = Settings(
        str(path.absolute()),
        tensor,
        tuple(works),
        tuple(states),
        tuple(batches),
        rounds,
        seconds,
    )
    bench = _Bench(opening, files, matrix, report.table, rounds, seconds, progress)
    report.skipped += skipped
    report.notes += repeating(plan, report.table["rows"])
    try:
        for name, chosen in plan.items():
            _measure(bench, name, chosen, report)
    except KeyboardInterrupt:
        done = len(report.comparisons)
        report.notes.append(f"interrupted: {done} of {count} measured")
        raise Interrupted(report) from None
    return report


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a measurement; ``report`` has the cases that were measured before."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


def _measure(bench: _Bench, name: str, cases: Sequence[Case], report: Report) -> None:
    """Measure cases in a state; each is in the report as soon as it is measured."""
    if name in (PRELOADED, WARM):
        for each in bench.in_ram(cases, name):
            report.comparisons.append(each)
    elif name == COLD:
        try:
            for case in cases:
                report.comparisons.append(bench.cold(case))
        finally:  # Also of what was measured before Ctrl-C.
            report.notes += _not_cold([each for each in report.comparisons if each.state == COLD])
    else:
        for case in cases:
            try:
                report.comparisons.append(bench.limited(case))
            except (state.NoMemoryGroupError, ChildProcessError) as error:
                report.skipped.append(f"limited: {error}")


@dataclass(frozen=True, slots=True)
class _Bench:
    """The measurements of one store, a method for each kind of state."""

    open: Callable[..., embstore.EmbeddingStore]
    files: list[Path]
    matrix: NDArray[Any]
    table: dict[str, Any]
    rounds: int
    seconds: float
    progress: Callable[[str], None]

    def in_ram(self, cases: Iterable[Case], name: str) -> Iterator[Comparison]:
        state.evict(self.files)
        if name == WARM:
            # Reading in order fills the page cache in large pieces.
            state.read_through(self.files)
        with self.open(preload=name == PRELOADED) as store:
            for case in cases:
                calls = [self._warm_calls(one, case) for one in (store, self.matrix)]
                yield self._compare(case, name, repeat(calls))

    def cold(self, case: Case) -> Comparison:
        def calls(turn: int) -> Iterator[Iterator[Call]]:
            state.evict(self.files)
            if case.work == work.OPEN:
                yield self._open_calls()
                return
            with self.open() as store:
                for one in (store, self.matrix):
                    one[np.zeros(1, np.int64)]  # Pays for what happens only once.
                    yield self._calls(one, case, work.fresh(case, len(one), SEED + turn))

        return self._compare(case, COLD, map(calls, range(self.rounds)))

    def limited(self, case: Case) -> Comparison:
        """Compare the store in a small memory cgroup with the array, which is outside of it."""

        def take(one: Competitor, count: int) -> list[Turn]:
            calls = self._calls(one, case, work.fresh(case, len(one), SEED))
            return [time_calls(calls, self._limits(case, LIMITED)) for _ in range(count)]

        def take_in_group() -> list[Turn]:
            with self.open() as store:
                return take(store, self.rounds + 1)[1:]  # The first fills the group's memory.

        own, other = self._entries(case, LIMITED)
        size = self.table["bytes"] // state.LIMITED_SHARE
        state.evict(self.files)
        try:
            with state.memory_group(size) as group:
                own.turns = _in_group(group, take_in_group)
        except state.SmallMemoryError:
            least = state.MIN_GROUP_BYTES * state.LIMITED_SHARE
            raise state.SmallMemoryError(
                f"1/{state.LIMITED_SHARE} of this table is {size >> 20} MiB of memory, and a "
                f"process needs {state.MIN_GROUP_BYTES >> 20} MiB: that takes a table of "
                f"{least >> 20} MiB or more"
            ) from None
        other.turns = take(self.matrix, self.rounds)
        note = other.note or "has its rows in RAM"
        other.note = f"{note}, outside of the limit, and takes its turns after embstore's"
        return Comparison(case, LIMITED, [own, other], size)

    def _compare(
        self, case: Case, name: str, rounds: Iterable[Iterable[Iterator[Call]]]
    ) -> Comparison:
        """Time a turn of each competitor in each round."""
        entries = self._entries(case, name)
        for _, calls in zip(range(self.rounds), rounds, strict=False):
            for each, entry in zip(calls, entries, strict=False):
                entry.turns.append(time_calls(each, self._limits(case, name)))
        return Comparison(case, name, entries)

    def _entries(self, case: Case, name: str) -> list[Entry]:
        batch = f", batch {case.batch}" if case.batch else ""
        self.progress(f"{case.work}{batch}, {name}")
        own, count = Entry("embstore", self.table["rows"]), len(self.matrix)
        part = f"has only the first {count:,} rows: half of the free RAM"
        note = part if count < own.rows else ""
        return [own, Entry("matrix[ids]", count, note)][: 1 if case.work == work.OPEN else 2]

    def _limits(self, case: Case, name: str) -> timing.Limits:
        return timing.limits_of(name, case, self.seconds, self.table["bytes"])

    def _open_calls(self) -> Iterator[Call]:
        return repeat(Call(self.open, 0, lambda store: store.close() or 0))

    def _warm_calls(self, one: Competitor, case: Case) -> Iterator[Call]:
        """Return calls on rows that are in RAM and mapped, after a few to warm up."""
        if case.work == work.OPEN:
            return self._open_calls()
        ids = work.stream_ids(case, len(one), min(work.STREAM_ROWS, 4 * len(one)), SEED)
        for start in range(0, len(ids), timing.ROWS_TOGETHER):
            one[ids[start : start + timing.ROWS_TOGETHER]]
        calls = self._calls(one, case, cycle(ids.reshape(-1, case.batch)))
        timing.warm_up(calls)
        return calls

    def _calls(
        self, one: Competitor, case: Case, batches: Iterable[NDArray[np.int64]]
    ) -> Iterator[Call]:
        single = case.batch == 1 and case.work in work.WARM_ONLY
        many: Callable[[Any], Any]
        get: Callable[[int], Any]
        if isinstance(one, np.ndarray):
            # A view of one row would have read nothing.
            name, many, get = "matrix[ids]", one.__getitem__, lambda number: one[number].copy()
        else:
            name, many, get = "embstore", one.lookup, one.__getitem__
        for ids in batches:
            run = partial(get, int(ids[0])) if single else partial(many, ids)
            yield Call(run, len(ids), partial(self._check, name, ids))

    def _check(self, name: str, ids: NDArray[np.int64], rows: NDArray[Any]) -> int:
        known = ids < len(self.matrix)
        rows = np.asarray(rows).reshape(len(ids), *self.matrix.shape[1:])
        return timing.check_rows(name, ids[known], rows[known], self.matrix[ids[known]])


def _not_cold(comparisons: list[Comparison]) -> Iterator[str]:
    """Yield a line if cold lookups read nothing from a disk."""
    turns = [turn for each in comparisons for turn in each.entries[0].turns]
    if sum(turn.rows for turn in turns) and not any(turn.bytes_read for turn in turns):
        yield (
            "cold: no lookup read from a local disk, so these figures are not the disk's. The "
            "files are on a network file system or in memory, another program has them mapped, or "
            "they are so small that the first lookup reads them all"
        )


def _in_group(group: Path, turns: Callable[[], list[Turn]]) -> list[Turn]:
    """Return turns taken in a forked child that has joined a memory cgroup.

    The child compares rows with its parent's array. Its pages count for the parent, so they take no
    memory of the group.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends it.
        try:
            group.write_text(str(os.getpid()))
            sender.send(turns())
        except Exception as error:  # Raised again in the parent.
            sender.send(error)

    child = context.Process(target=run)
    with receiver, sender, warnings.catch_warnings():
        # Python 3.12 and later warn of a fork beside threads; embstore starts its own again.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
        sender.close()
        try:
            answer = receiver.recv()
        except EOFError:
            answer = None
        except KeyboardInterrupt:
            child.kill()
            raise
        finally:
            child.join()
    if answer is None:
        raise ChildProcessError(f"the child process ended with status {child.exitcode}")
    if isinstance(answer, Exception):
        raise answer
    return list(answer)


def load_matrix(store: embstore.EmbeddingStore, max_bytes: int) -> NDArray[Any]:
    """Return the first rows of a store, at most ``max_bytes``, as one array in RAM.

    They come from `scan`, not from the lookups that are compared with them.
    """
    row_bytes = math.prod(store.row_shape) * store.dtype.itemsize
    count = max(min(store.rows, max_bytes // max(row_bytes, 1)), 1)
    matrix = np.empty((count, *store.row_shape), store.dtype)

    def visit(ids: range, rows: NDArray[Any]) -> None:
        matrix[ids.start : ids.stop : ids.step] = rows

    store.scan(visit, 0, count)
    return matrix
