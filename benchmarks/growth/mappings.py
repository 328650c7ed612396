"""Opening: stores of terabytes, whose files are sparse; many small chunks; many partitions.

A store that the system cannot map is missing from its curve.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import embstore
from benchmarks.growth.curves import Curve, Values
from benchmarks.growth.sizes import TB
from benchmarks.growth.tables import evict_many
from benchmarks.times import at_least, at_most, timed
from embstore.bench.state import files_under
from embstore.bench.timing import check_rows
from tools.make_table import table_rows
from tools.sparse_store import make_sparse_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.growth.sizes import Sizes

    Progress = Callable[[str], None]

ROW_BYTES, DIMENSION = 1200, 300
# Rows that are not zeros; and rows that are looked up to see what their page tables take.
WRITTEN, TOUCHED = 256, 4096
# Chunks of a page: the cost of a chunk does not depend on its size.
CHUNK_ROWS, CHUNK_DIMENSION = 64, 16

CHUNKS, MAPPINGS, SPACE = "chunks", "mappings", "address space, times the table"
OPEN, TABLES = "open, s", "page tables, bytes a random row"
WARM, COLD = "warm, us a chunk", "cold, us a chunk"
MEMORY = "memory, bytes a chunk"
# With some of the interpreter's own.
MOST_MAPPINGS, MOST_WARM_US, MOST_COLD_US = 1.01, 10.0, 30.0


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curves by the size of the table, by the number of chunks and of partitions."""
    by_size: dict[str, Values] = {way: {} for way in (OPEN, CHUNKS, MAPPINGS, SPACE, TABLES)}
    for size_bytes in sizes.mapped_bytes:
        progress(f"mappings: {size_bytes / TB:g} TB")
        try:
            found = measure_terabytes(place / "large.embstore", size_bytes)
        except embstore.StoreMappingError as error:
            progress(str(error))
            continue
        for way, value in found.items():
            by_size[way][size_bytes / TB] = value
    opened = max(by_size[OPEN], default=0)
    most = max(sizes.mapped_bytes) / TB
    large = Curve("mappings, sparse files", "TB", by_size)
    large.goals.append(at_least("mappings, largest table that opens, TB", opened, most))
    if opened:
        each = large.last(MAPPINGS) / large.last(CHUNKS)
        large.goals.append(at_most("mappings, for each chunk", each, MOST_MAPPINGS))
    return [
        large,
        by_number(place, "chunks", sizes.chunks, sizes.rounds, progress),
        by_number(place, "partitions", sizes.mapped_partitions, sizes.rounds, progress),
    ]


def measure_terabytes(path: Path, size_bytes: int) -> dict[str, float]:
    """Make a store of sparse files, open it, look rows up, and return what that took."""
    rows = size_bytes // ROW_BYTES
    random = np.random.default_rng(rows)
    ids = np.unique(random.integers(0, rows, WRITTEN))
    try:
        manifest = make_sparse_store(path, ids, table_rows(ids, DIMENSION), rows=rows)
        before = _process("VmSize"), _mappings()
        # By default, a store that cannot be mapped is read without.
        store, seconds = timed(lambda: embstore.open(path, reader="mapped"))
        space, mapped = _process("VmSize") - before[0], _mappings() - before[1]
        with store:
            check_rows("embstore", ids, store.lookup(ids), table_rows(ids, DIMENSION))
            tables = _process("VmPTE")
            store.lookup(random.integers(0, rows, TOUCHED))
            tables = max(_process("VmPTE") - tables, 1)
        del store
    finally:
        shutil.rmtree(path, ignore_errors=True)
    return {
        OPEN: seconds,
        CHUNKS: sum(array.chunk_count for array in manifest.arrays()),
        MAPPINGS: mapped,
        SPACE: space / size_bytes,
        TABLES: tables / TOUCHED,
    }


def by_number(
    place: Path, what: str, counts: tuple[int, ...], rounds: int, progress: Progress
) -> Curve:
    """Return the curve of opening, warm and cold, by the number of chunks or of partitions."""
    ways: dict[str, Values] = {WARM: {}, COLD: {}, MEMORY: {}}
    for count in counts:
        progress(f"open: {count:,} {what}")
        path = place / "small.embstore"
        make_sparse_store(
            path,
            np.empty(0, np.int64),
            np.empty((0, CHUNK_DIMENSION), np.float32),
            rows=count * CHUNK_ROWS,
            partitions=count if what == "partitions" else 1,
            chunk_rows=CHUNK_ROWS,
        )
        files = files_under(path)
        found: dict[str, list[float]] = {WARM: [], COLD: []}
        memory = 1
        for _ in range(rounds):
            for way in (COLD, WARM):  # The cold one has read the files for the warm one.
                if way == COLD:
                    evict_many(files)
                before = _process("VmRSS")
                store, seconds = timed(lambda path=path: embstore.open(path))  # type: ignore[misc]
                # Later turns use what the first one has freed.
                memory = max(_process("VmRSS") - before, memory)
                store.close()
                del store
                found[way].append(seconds * 1e6 / count)
        for way, values in found.items():
            ways[way][count] = statistics.median(values)
        ways[MEMORY][count] = memory / count
        shutil.rmtree(path)
    curve = Curve(f"open, by {what}", what, ways)
    if what == "chunks":
        curve.goals.append(at_most("open, warm, us a chunk", curve.last(WARM), MOST_WARM_US))
        curve.goals.append(at_most("open, cold, us a chunk", curve.last(COLD), MOST_COLD_US))
    return curve


def _process(name: str) -> int:
    """Return a size of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[name].split()[0]) << 10


def _mappings() -> int:
    """Return how many mappings this process has."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")
