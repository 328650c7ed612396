"""Warm random rows under a ``resident_limit``, mapped by huge pages or by small ones.

What the limit must cost with small pages is measured alone, on a plain mapping of a file of these
rows: a byte of each row is touched, in the order of the file, and all is unmapped when the limit is
reached. What this takes more than without a limit is added to the lookups without one.
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
from embstore.bench.timing import check_rows
from embstore.reading.resident_limit import resident_file_bytes
from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.growth.sizes import Sizes

    Progress = Callable[[str], None]

ROW_BYTES, BATCH = 160, 4096
LIMITED, UNLIMITED, LEAST = "limited, ms", "no limit, ms", "no limit and the faults, ms"
# Rows of a plain mapping that are touched before the resident size is read again.
TOUCHED_TOGETHER = 128
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
    if state == HUGE:  # As they stay in the page cache after a preload.
        embstore.open(table.path, preload=True).close()
    else:
        read_in_small_pages(table.files())
    ways: dict[str, Values] = {LIMITED: {}, UNLIMITED: {}}
    ids = np.random.default_rng(3).integers(0, table.rows, (sizes.calls // 3 + FIRST_CALLS, BATCH))
    with warm(table) as store:
        unlimited = mean_ms(store, table, ids)
    for limit in sizes.limits:
        progress(f"limited: {state}, {limit // MIB} MiB")
        with warm(table, resident_limit=limit) as store:
            ways[LIMITED][limit / MIB] = mean_ms(store, table, ids)
        ways[UNLIMITED][limit / MIB] = unlimited
    if state == SMALL:
        ways[LEAST] = {}
        for limit, more in faults_ms(table, ids, sizes.limits).items():
            ways[LEAST][limit / MIB] = unlimited + max(more, 0)
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
    """Open the store, and touch all of its pages."""
    with embstore.open(table.path, **options) as store:
        step = PAGE_BYTES // ROW_BYTES
        for start in range(0, table.rows, step * BATCH):
            store.lookup(np.arange(start, min(start + step * BATCH, table.rows), step))
        yield store


def mean_ms(store: Any, table: RepeatedTable, ids: NDArray[np.int64]) -> float:
    """Return the mean milliseconds of a call, after the first ones; the last one is checked.

    Not the median, because some calls unmap much, and others nothing.
    """
    out = np.empty((BATCH, ROW_BYTES // 4), np.float32)
    seconds = []
    for some in ids:
        start = perf_counter()
        store.lookup(some, out=out)
        seconds.append(perf_counter() - start)
    check_rows("embstore", ids[-1], out, table.expected(ids[-1]))
    return statistics.mean(seconds[FIRST_CALLS:]) * 1e3


def faults_ms(
    table: RepeatedTable, ids: NDArray[np.int64], limits: tuple[int, ...]
) -> dict[int, float]:
    """Return, by the limit, how many milliseconds more it takes to touch the rows of a call."""
    file = table.path.with_name("rows.bin")
    table.matrix().tofile(file)
    read_in_small_pages([file])
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
    mapped.madvise(mmap.MADV_RANDOM)  # No neighbours are mapped with a page.
    data = np.frombuffer(mapped, np.uint8)
    data[::PAGE_BYTES].max()
    without = touch_ms(mapped, data, ids, None)
    found = {limit: touch_ms(mapped, data, ids, limit) - without for limit in limits}
    file.unlink()
    return found


def touch_ms(
    mapped: mmap.mmap, data: NDArray[np.uint8], ids: NDArray[np.int64], limit: int | None
) -> float:
    """Return the mean milliseconds of touching the rows of a call, after the first ones."""
    mapped.madvise(mmap.MADV_DONTNEED if limit is not None else mmap.MADV_RANDOM)
    others, seconds = resident_file_bytes(), []
    for some in np.sort(ids) * ROW_BYTES:
        start = perf_counter()
        for first in range(0, BATCH, TOUCHED_TOGETHER):
            data.take(some[first : first + TOUCHED_TOGETHER])
            if limit is not None and resident_file_bytes() - others > limit:
                mapped.madvise(mmap.MADV_DONTNEED)
        seconds.append(perf_counter() - start)
    return statistics.mean(seconds[FIRST_CALLS:]) * 1e3
