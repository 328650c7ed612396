"""Preloading: ``embstore.open(path, preload=True)``, cold, or with small pages in the cache.

A virtual machine gets its RAM from the host when that is first touched, which takes longer than
reading a file into it. The small pages and the huge ones that replace them lie in different RAM, so
all of it is touched first.
"""

from __future__ import annotations

import os
import shutil
import statistics
from typing import TYPE_CHECKING

import numpy as np

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
# The table in small pages, and in huge ones.
TOUCHED_TIMES = 2


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


def touch_ram(size_bytes: int) -> None:
    """Touch RAM that is free, some bytes or most of it, and free it again."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    np.ones(min(size_bytes, free * 3 // 4), np.uint8)


def measure(place: Path, size_bytes: int, chunk_rows: int | None, rounds: int) -> dict[str, float]:
    """Return the median seconds of each way, in turns, for one table."""
    path = place / "preload.embstore"
    touch_ram(TOUCHED_TIMES * size_bytes)
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
