"""Warm random rows under a ``resident_limit``, mapped by huge pages or by small ones.

What the limit must cost at least, with small pages, is computed: the time without a limit, and that
of the faults that cannot be avoided, where every other page of the limit's share is mapped. The
time of a fault is measured alone, on plain mappings of the same files.
"""

from __future__ import annotations

import mmap
import shutil
import statistics
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.growth.curves import Curve, Values
from benchmarks.growth.sizes import MIB
from benchmarks.growth.tables import RepeatedTable, read_in_small_pages
from benchmarks.times import at_most
from embstore.bench.state import evict, read_through
from embstore.bench.timing import check_rows
from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.growth.sizes import Sizes

    Progress = Callable[[str], None]

ROW_BYTES, BATCH = 160, 4096
LIMITED, UNLIMITED, LEAST = "limited, ms", "no limit, ms", "no limit and the faults, ms"
HUGE, SMALL = "huge pages", "small pages"
# Calls before those that are timed, so that as much is mapped as the limit allows.
FIRST_CALLS = 100
# The limit that the goal of huge pages is about, as a share of the table: 256 MiB of 640 MB.
HUGE_SHARE = 0.4
MOST_HUGE, MOST_SMALL = 8.0, 1.3


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curves by the limit, for huge and for small pages."""
    path = place / "limited.embstore"
    table = RepeatedTable.make(path, sizes.limited_bytes // ROW_BYTES, ROW_BYTES)
    found = [curve(table, state, sizes, progress) for state in (HUGE, SMALL)]
    shutil.rmtree(path)
    return found


def curve(table: RepeatedTable, state: str, sizes: Sizes, progress: Progress) -> Curve:
    """Return the curve for one state of the page cache."""
    progress(f"limited: {state}")
    if state == HUGE:
        evict(table.files())
        read_through(table.files())
    else:
        read_in_small_pages(table.files())
    ways: dict[str, Values] = {LIMITED: {}, UNLIMITED: {}}
    # A preload reads files again that are in small pages.
    ids = np.random.default_rng(3).integers(0, table.rows, (sizes.calls // 3 + FIRST_CALLS, BATCH))
    with warm(table, preload=state == HUGE) as store:
        unlimited = median_ms(store, table, ids)
    fault_ms = 0.0 if state == HUGE else fault_seconds(table.files()) * 1e3
    for limit in sizes.limits:
        progress(f"limited: {state}, {limit // MIB} MiB")
        with warm(table, preload=state == HUGE, resident_limit=limit) as store:
            ways[LIMITED][limit / MIB] = median_ms(store, table, ids)
        ways[UNLIMITED][limit / MIB] = unlimited
        if state == SMALL:
            pages = BATCH * (1 + (ROW_BYTES - 1) / PAGE_BYTES)
            faults = pages * max(1 - limit / (table.rows * ROW_BYTES), 0)
            ways.setdefault(LEAST, {})[limit / MIB] = unlimited + faults * fault_ms
    return Curve(f"resident limit, {state}", "MiB of limit", ways, goals(table, state, ways))


def goals(table: RepeatedTable, state: str, ways: dict[str, Values]) -> list[str]:
    """Return a line for the goal of a state."""
    if state == SMALL:
        ratio = max(value / ways[LEAST][limit] for limit, value in ways[LIMITED].items())
        return [at_most(f"resident limit, {state}, times the least", ratio, MOST_SMALL)]
    share = HUGE_SHARE * table.rows * ROW_BYTES / MIB
    limit = min(ways[LIMITED], key=lambda each: abs(each - share))
    ratio = ways[LIMITED][limit] / ways[UNLIMITED][limit]
    what = f"resident limit, {state}, {limit:.0f} MiB, times no limit"
    return [at_most(what, ratio, MOST_HUGE)]


@contextmanager
def warm(table: RepeatedTable, **options: Any) -> Iterator[Any]:
    """Open the store; without a preload, all of its pages have been touched."""
    with embstore.open(table.path, **options) as store:
        if not options["preload"]:
            step = PAGE_BYTES // ROW_BYTES
            for start in range(0, table.rows, step * BATCH):
                store.lookup(np.arange(start, min(start + step * BATCH, table.rows), step))
        yield store


def median_ms(store: Any, table: RepeatedTable, ids: NDArray[np.int64]) -> float:
    """Return the median milliseconds of a call, after the first ones; the last one is checked."""
    out = np.empty((BATCH, ROW_BYTES // 4), np.float32)
    seconds = []
    for some in ids:
        start = perf_counter()
        store.lookup(some, out=out)
        seconds.append(perf_counter() - start)
    check_rows("embstore", ids[-1], out, table.expected(ids[-1]))
    return statistics.median(seconds[FIRST_CALLS:]) * 1e3


def fault_seconds(files: list[Path]) -> float:
    """Return the seconds of a minor fault: random pages of plain mappings are touched."""
    seconds, faults = 0.0, 0
    random = np.random.default_rng(4)
    for file in files:
        pages = file.stat().st_size // PAGE_BYTES
        if not pages:
            continue
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
        mapped.madvise(mmap.MADV_RANDOM)  # No neighbours are mapped with a page.
        data = np.frombuffer(mapped, np.uint8)[: pages * PAGE_BYTES : PAGE_BYTES]
        chosen = np.unique(random.integers(0, pages, -(-pages // 4)))
        start = perf_counter()
        data.take(chosen)
        seconds += perf_counter() - start
        faults += len(chosen)
    return seconds / faults
