"""Lookups announced ahead of time, ``read_submitted``, against what the disk can do.

Run as ``python -m benchmarks.submitted``. A loop over batches of new ids announces the next one or
two by ``store.prefetch``, or asks for them by ``store.submit``. In each turn, the files are dropped
from the page cache and the store is opened again. The device's reads during the turn are compared
with its best rate of direct random reads, measured right after it. All rows are compared.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.device import DiskLimit, flush, measure_limit, reads_completed
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import at_least
from embstore.bench.machine import block_device
from embstore.bench.state import evict, files_under
from embstore.bench.timing import check_rows
from tools.make_table import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    # Returns the rows of each batch, a row of the array of ids.
    Way = Callable[[Any, NDArray[np.int64]], list[NDArray[Any]]]

WORK = "read_submitted"
BATCHES = (32, 4096)
AHEAD = (1, 2)
# The lowest share of the disk's rate that the best way must reach.
SHARE_LEAST = 0.8


@dataclass(slots=True)
class Measured:
    """The turns of one way: rows a second, and shares of the disk's rate where it is known."""

    rows_per_second: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


def looked_up(store: Any, batches: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Look batches up, announcing none."""
    return [store.lookup(ids) for ids in batches]


def prefetched(ahead: int, store: Any, batches: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Look batches up, each announced ``ahead`` of its lookup."""
    for ids in batches[:ahead]:
        store.prefetch(ids)
    found = []
    for number, ids in enumerate(batches):
        if number + ahead < len(batches):
            store.prefetch(batches[number + ahead])
        found.append(store.lookup(ids))
    return found


def submitted(ahead: int, store: Any, batches: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Submit batches, and wait for each when ``ahead`` more were submitted."""
    waiting: deque[Any] = deque()
    found = []
    for ids in batches:
        waiting.append(store.submit(ids))
        if len(waiting) > ahead:
            found.append(waiting.popleft().result())
    return found + [future.result() for future in waiting]


def ways() -> dict[str, Way]:
    """Return the ways to look up batches, by name."""
    found: dict[str, Way] = {"lookup": looked_up}
    for ahead in AHEAD:
        found[f"prefetch, {ahead} ahead"] = partial(prefetched, ahead)
        found[f"submit, {ahead} ahead"] = partial(submitted, ahead)
    return found


def time_turn(
    table: GeneratedTable, way: Way, batches: NDArray[np.int64], limit: DiskLimit | None
) -> tuple[float, float | None]:
    """Return the rows a second of one cold turn, and its share of the disk's rate if known."""
    evict(files_under(table.path))
    device = block_device(table.path)
    with embstore.open(table.path) as store:
        before = 0 if device is None else reads_completed(device)
        start = perf_counter()
        found = way(store, batches)
        seconds = perf_counter() - start
        reads = None if device is None else reads_completed(device) - before
    best = None if limit is None else limit.again()
    ids = batches.reshape(-1)
    check_rows("embstore", ids, np.concatenate(found), table.expected(ids))
    share = reads / seconds / best if reads is not None and best else None
    return len(ids) / seconds, share


def measure(
    table: GeneratedTable,
    turn_rows: int,
    rounds: int,
    limit: DiskLimit | None,
    progress: Callable[[str], None],
) -> dict[tuple[int, str], Measured]:
    """Return what was measured, by (batch, way)."""
    found: dict[tuple[int, str], Measured] = {}
    random = np.random.default_rng(8)
    for turn in range(rounds):
        for batch in BATCHES:
            shape = (max(turn_rows // batch, 1), batch)
            for name, way in ways().items():
                progress(f"turn {turn + 1} of {rounds}: batches of {batch}, {name}")
                batches = random.integers(0, table.rows, shape)
                rate, share = time_turn(table, way, batches, limit)
                measured = found.setdefault((batch, name), Measured())
                measured.rows_per_second.append(rate)
                if share is not None:
                    measured.shares.append(share)
    return found


def text(found: dict[tuple[int, str], Measured], limit: DiskLimit | None) -> str:
    """Return the rates, the shares of the disk's, and the goals."""
    known = "unknown" if limit is None else f"{limit.best:,.0f} reads a second ({limit.tool})"
    lines = [f"the disk's best rate at the start: {known}", ""]
    lines.append(f"{WORK:<46}{'rows a second':>16}{'share of the disk':>20}")
    best: dict[int, float] = {}
    for (batch, name), measured in found.items():
        rate = f"{statistics.median(measured.rows_per_second):,.0f}"
        share = "-"
        if measured.shares:
            value = statistics.median(measured.shares)
            share = f"{value:.2f}"
            best[batch] = max(value, best.get(batch, 0.0))
        lines.append(f"{f'batches of {batch:,}, {name}':<46}{rate:>16}{share:>20}")
    lines.append("")
    for batch, value in best.items():
        what = f"{WORK}, batches of {batch:,}, the best way, share of the disk"
        lines.append(at_least(what, value, SHARE_LEAST))
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = parser_of("submitted", __doc__, rounds=5)
    parser.add_argument("--bytes", type=as_bytes, default=2_000_000_000, help="size of the table")
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--turn-rows", type=int, default=1 << 16, help="rows in a turn")
    parser.add_argument("--disk-seconds", type=float, default=1.0, help="for each queue depth")
    given = parser.parse_args()

    with scratch(given.directory, "submit") as place:
        progress("making the table")
        path = place / "table.embstore"
        table = GeneratedTable.make(path, given.bytes // (4 * given.dimension), given.dimension)
        files = files_under(path)
        flush(files)
        limit = measure_limit(files, seconds=given.disk_seconds, progress=progress)
        found = measure(table, given.turn_rows, given.rounds, limit, progress)
    print(text(found, limit))


if __name__ == "__main__":
    main()
