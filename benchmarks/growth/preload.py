"""Preloading: ``embstore.open(path, preload=True)``, cold, or with small pages in the cache."""

from __future__ import annotations

import shutil
import statistics
from typing import TYPE_CHECKING

import embstore
from benchmarks.growth.curves import Curve, Values
from benchmarks.growth.sizes import MIB
from benchmarks.growth.tables import RepeatedTable, read_in_small_pages
from benchmarks.times import at_most, timed
from embstore.bench.state import evict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.growth.sizes import Sizes

    Progress = Callable[[str], None]

SMALL_PAGES, COLD = "in small pages, s", "cold, s"
# A power of two, so that chunks of any number of rows fill whole pages.
ROW_BYTES = 1024
MOST_OF_COLD = 1.5


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curve by the size of the table, and that by its number of chunks."""
    by_size: dict[str, Values] = {SMALL_PAGES: {}, COLD: {}}
    for size_bytes in sizes.preload_bytes:
        progress(f"preload: {size_bytes // MIB:,} MiB")
        for way, seconds in measure(place, size_bytes, None, sizes.rounds).items():
            by_size[way][size_bytes / MIB] = seconds
    by_chunks: dict[str, Values] = {SMALL_PAGES: {}, COLD: {}}
    size_bytes = sizes.preload_bytes[0]
    for chunks in sizes.preload_chunks:
        progress(f"preload: {chunks} chunks")
        chunk_rows = size_bytes // ROW_BYTES // chunks
        for way, seconds in measure(place, size_bytes, chunk_rows, sizes.rounds).items():
            by_chunks[way][chunks] = seconds
    return [
        Curve("preload, by size", "MiB", by_size, goals("preload, by size", by_size)),
        Curve("preload, by chunks", "chunks", by_chunks, goals("preload, by chunks", by_chunks)),
    ]


def measure(place: Path, size_bytes: int, chunk_rows: int | None, rounds: int) -> dict[str, float]:
    """Return the median seconds of each way, in turns, for one table."""
    path = place / "preload.embstore"
    table = RepeatedTable.make(path, size_bytes // ROW_BYTES, ROW_BYTES, chunk_rows=chunk_rows)
    states = {SMALL_PAGES: read_in_small_pages, COLD: evict}
    found: dict[str, list[float]] = {way: [] for way in states}
    for _ in range(rounds):
        for way, bring in states.items():
            bring(table.files())
            store, seconds = timed(lambda: embstore.open(path, preload=True))
            store.close()
            del store
            found[way].append(seconds)
    shutil.rmtree(path)
    return {way: statistics.median(seconds) for way, seconds in found.items()}


def goals(name: str, ways: dict[str, Values]) -> list[str]:
    """Return a line: the largest ratio to the cold time."""
    ratio = max(seconds / ways[COLD][size] for size, seconds in ways[SMALL_PAGES].items())
    return [at_most(f"{name}, times the cold time", ratio, MOST_OF_COLD)]
