"""Lookups with a row cache, ``read_cached``, in memory that is smaller than the table.

Run as ``python -m benchmarks.cached``. Each way of opening the store runs in a process of its own,
in a memory cgroup of an eighth of the table and 160 MiB for the process. A row cache gets 0.6 of
that eighth; the rest is for the page cache. Calls have 4,096 ids, Zipf-distributed (exponent 1.05)
over shuffled rows, or uniform.

======= ========================================================================================
without no row cache
learned a row cache that starts empty
seeded  a row cache that gets the most wanted ids by ``store.warm(ids)``
======= ========================================================================================

Calls are timed after 400 others, and after 4,000. Every row of a timed call is compared with the
generator's, outside of the timing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.device import flush
from benchmarks.orders import BenchError
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import at_least
from embstore.bench.state import (
    LIMITED_SHARE,
    NoMemoryGroupError,
    evict,
    files_under,
    memory_group,
)
from embstore.bench.timing import check_rows
from embstore.bench.work import zipf_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    # Rows a second of every run, by (bytes of a row, ids, way, calls before).
    Found = dict[tuple[int, str, str, int], list[float]]

WORK = "read_cached"
ROWS_OF = {160: 12_000_000, 1200: 2_000_000}
BATCH = 4096
EXPONENT = 1.05
CACHE_SHARE = 0.6
PROCESS_BYTES = 160 << 20

ZIPF, UNIFORM = "zipf", "uniform"
WITHOUT, LEARNED, SEEDED = WAYS = ("without", "learned", "seeded")
EARLY, LATE = 400, 4000
# The lowest ratios to the rate without a row cache, for rows of 160 and of 1,200 bytes.
LEAST = {
    (ZIPF, SEEDED, EARLY): (2.0, 1.6),
    (ZIPF, LEARNED, EARLY): (1.5, 1.3),
    (ZIPF, LEARNED, LATE): (1.8, 1.5),
    (UNIFORM, LEARNED, EARLY): (0.95, 0.95),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What one process does.

    Parameters
    ----------
    store, ids : str
        The store; the file of ids, shape (calls, batch).
    seeds : str, optional
        The file of the ids to warm, the most wanted first.
    cache_bytes : int
        Size of the row cache; 0 for none.
    before : tuple of int
        How many calls come before each timed part, ascending.
    timed : int
        How many calls are timed each time.
    """

    store: str
    ids: str
    seeds: str | None
    cache_bytes: int
    before: tuple[int, ...]
    timed: int

    def run(self) -> list[float]:
        """Return the rows a second of each timed part."""
        table = GeneratedTable.at(Path(self.store))
        batches = np.load(self.ids, mmap_mode="r")
        options: dict[str, Any] = {"row_cache": self.cache_bytes} if self.cache_bytes else {}
        out = np.empty((batches.shape[1], *table.row_shape), table.dtype)
        rates = []
        with embstore.open(self.store, **options) as store:
            if self.seeds is not None:
                store.warm(np.load(self.seeds))
            done = 0
            for before in self.before:
                for some in batches[done:before]:
                    store.lookup(some.astype(np.int64), out=out)
                seconds = 0.0
                done = before + self.timed
                for some in batches[before:done]:
                    ids = some.astype(np.int64)
                    start = perf_counter()
                    store.lookup(ids, out=out)
                    seconds += perf_counter() - start
                    check_rows("embstore", ids, out, table.expected(ids))
                rates.append(self.timed * batches.shape[1] / seconds)
        return rates

    def run_in(self, group: Path) -> list[float]:
        """Run in a new process, which joins a memory cgroup before it does anything else."""
        program = [sys.executable, "-m", "benchmarks.cached", "--part", json.dumps(asdict(self))]
        join = 'echo $$ > "$0" && exec "$@"'
        done = subprocess.run(
            ["/bin/sh", "-c", join, str(group), *program],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise BenchError(f"a process ended with status {done.returncode}: {last}")
        rates: list[float] = json.loads(done.stdout)
        return rates


def draw(place: Path, rows: int, calls: int, batch: int, seeds: int) -> None:
    """Write ``zipf.npy`` and ``uniform.npy``, ids of all calls, and ``seeds.npy``."""
    random = np.random.default_rng(9)
    order = random.permutation(rows)
    zipf = np.empty((calls, batch), np.int32)
    for ids in zipf:
        ids[:] = order[zipf_ranks(random.random(batch), rows, EXPONENT)]
    np.save(place / f"{ZIPF}.npy", zipf)
    np.save(place / f"{UNIFORM}.npy", random.integers(0, rows, (calls, batch), dtype=np.int32))
    np.save(place / "seeds.npy", order[:seeds])
    flush(place.glob("*.npy"))


def measure(
    place: Path,
    table: GeneratedTable,
    calls: tuple[int, int, int],
    batch: int,
    rounds: int,
    progress: Callable[[str], None],
) -> Found:
    """Return what was measured on a table; calls are those of `EARLY`, `LATE` and a timed part.

    Raises
    ------
    NoMemoryGroupError
        If the system does not allow a memory cgroup.
    BenchError
        If a process fails.
    """
    early, late, timed = calls
    memory = table.total_bytes // LIMITED_SHARE
    cache_bytes = max(int(CACHE_SHARE * memory), table.row_bytes)
    progress(f"drawing ids of {table.row_bytes:,}-byte rows")
    draw(place, table.rows, late + timed, batch, cache_bytes // table.row_bytes)
    files = files_under(table.path)
    flush(files)
    found: Found = {}
    for turn, (ids, way) in product(range(rounds), product((ZIPF, UNIFORM), WAYS)):
        if (ids, way) == (UNIFORM, SEEDED):
            continue
        progress(f"turn {turn + 1} of {rounds}: rows of {table.row_bytes:,} B, {ids}, {way}")
        # Uniform ids, and seeds, need no long time to settle.
        before = (early, late) if ids == ZIPF and way != SEEDED else (early,)
        part = Part(
            str(table.path),
            str(place / f"{ids}.npy"),
            str(place / "seeds.npy") if way == SEEDED else None,
            0 if way == WITHOUT else cache_bytes,
            before,
            timed,
        )
        evict(files)
        with memory_group(memory + PROCESS_BYTES) as group:
            rates = part.run_in(group)
        for count, rate in zip(before, rates, strict=True):
            found.setdefault((table.row_bytes, ids, way, count), []).append(rate)
    return found


def text(found: Found) -> str:
    """Return the rates, and the ratios with their goals."""
    lines = [f"{WORK:<58}{'rows a second':>14}{'of without':>12}"]
    goals = []
    for (row_bytes, ids, way, before), rates in found.items():
        rate = statistics.median(rates)
        what = f"rows of {row_bytes:,} B, {ids}, {way}, after {before:,} calls"
        without = found.get((row_bytes, ids, WITHOUT, before))
        ratio = rate / statistics.median(without) if without else None
        lines.append(f"{what:<58}{rate:>14,.0f}" + (f"{ratio:>12.2f}" if ratio else ""))
        least = dict(zip(ROWS_OF, LEAST.get((ids, way, before), ()), strict=False)).get(row_bytes)
        if ratio is not None and least is not None:
            goals.append(at_least(f"{WORK}, {what}", ratio, least))
    return "\n".join([*lines, "", *goals])


def main() -> None:
    """Read the arguments, measure, print."""
    given = _parse()
    if given.part:
        fields = json.loads(given.part)
        fields["before"] = tuple(fields["before"])
        print(json.dumps(Part(**fields).run()))
        return
    found: Found = {}
    calls = given.early, given.late, given.timed
    for row_bytes in given.row_bytes or ROWS_OF:
        with scratch(given.directory, "cached") as place:
            progress(f"making a table of {row_bytes:,}-byte rows")
            rows = given.rows or ROWS_OF.get(row_bytes, 2_000_000)
            path = place / "table.embstore"
            table = GeneratedTable.make(path, rows, row_bytes // 4, partitions=1)
            try:
                found |= measure(place, table, calls, given.batch, given.rounds, progress)
            except (NoMemoryGroupError, BenchError) as error:
                sys.exit(f"benchmarks.cached: {error}")
    print(text(found))


def _parse() -> argparse.Namespace:
    parser = parser_of("cached", __doc__, rounds=1)
    parser.add_argument("--row-bytes", type=int, action="append", help="160, 1200")
    parser.add_argument("--rows", type=int, help="12,000,000 of 160 bytes, 2,000,000 of 1,200")
    parser.add_argument("--batch", type=int, default=BATCH, help="ids in a call")
    parser.add_argument("--early", type=int, default=EARLY, help="calls before the first part")
    parser.add_argument("--late", type=int, default=LATE, help="calls before the second part")
    parser.add_argument("--timed", type=int, default=300, help="calls in a timed part")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # Of a process that this one starts.
    return parser.parse_args()


if __name__ == "__main__":
    main()
