"""Cold neighbouring rows: slices and sorted ids, against ``store.scan`` of the whole table."""

from __future__ import annotations

import shutil
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.growth.curves import Curve, Values
from benchmarks.growth.tables import RepeatedTable
from benchmarks.times import at_least, timed
from embstore.bench.state import evict
from embstore.bench.timing import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.growth.sizes import Sizes

    Progress = Callable[[str], None]
    # Reads all rows, and returns those of each piece that it read.
    Way = Callable[[Any], list[NDArray[Any]]]

SLICES, SORTED, SCAN = "store[a:b], MB/s", "sorted ids, MB/s", "scan, MB/s"
PIECE_BYTES = 8 << 20
# Narrower rows are bound by the processor.
LEAST_ROW_BYTES = 64
LEAST_OF_SCAN = 0.8


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curve by the size of a row."""
    ways: dict[str, Values] = {SLICES: {}, SORTED: {}, SCAN: {}}
    for row_bytes in sizes.range_row_bytes:
        progress(f"ranges: rows of {row_bytes} bytes")
        path = place / "ranges.embstore"
        table = RepeatedTable.make(path, sizes.range_bytes // row_bytes, row_bytes)
        for way, rate in measure(table, row_bytes, sizes.rounds).items():
            ways[way][row_bytes] = rate
        shutil.rmtree(path)
    goals = []
    for way in (SLICES, SORTED):
        ratios = [
            rate / ways[SCAN][size] for size, rate in ways[way].items() if size >= LEAST_ROW_BYTES
        ]
        what = f"ranges, {way.partition(',')[0]}, from {LEAST_ROW_BYTES} bytes on, of scan"
        goals.append(at_least(what, min(ratios), LEAST_OF_SCAN))
    return [Curve("ranges, cold", "bytes of a row", ways, goals)]


def measure(table: RepeatedTable, row_bytes: int, rounds: int) -> dict[str, float]:
    """Return the median rate of each way, in turns; the rows of the last one are checked."""
    ways: dict[str, Way] = {SLICES: in_slices, SORTED: by_sorted_ids, SCAN: by_scan}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            evict(table.files())
            with embstore.open(table.path) as store:
                last, seconds = timed(lambda way=way, store=store: way(store))  # type: ignore[misc]
            found[name].append(table.rows * row_bytes / seconds / 1e6)
            if last:
                ids = np.arange(table.rows - len(last[-1]), table.rows)
                check_rows(name, ids, last[-1], table.expected(ids))
    return {way: statistics.median(rates) for way, rates in found.items()}


def in_slices(store: Any) -> list[NDArray[Any]]:
    """Read ``store[a:b]``, piece by piece; return the last."""
    rows = np.empty(0)
    for start, stop in _pieces(store):
        rows = store[start:stop]
    return [rows]


def by_sorted_ids(store: Any) -> list[NDArray[Any]]:
    """Look up neighbouring ids, piece by piece; return the last rows."""
    rows = np.empty(0)
    for start, stop in _pieces(store):
        rows = store.lookup(np.arange(start, stop))
    return [rows]


def by_scan(store: Any) -> list[NDArray[Any]]:
    """Scan all rows, and touch each of them; return nothing."""
    store.scan(lambda ids, rows: rows[:, 0].sum())
    return []


def _pieces(store: Any) -> Iterator[tuple[int, int]]:
    step = max(PIECE_BYTES // store.record_bytes, 1)
    for start in range(0, store.rows, step):
        yield start, min(start + step, store.rows)
