"""Small lookups, ``read_small``, against NumPy on an array in RAM.

Run as ``python -m benchmarks.small``. All take turns in one process, and every row is compared
with the generator's. The stores are preloaded. A call has 1 to 256 ids: newly drawn ones
(``fresh``), or the same in every call (``hot``), whose rows stay in the processor's caches. Where
a call takes ``out``, that is the same array each time.

It also times one row, a loop over the rows, and the whole table as one array.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, product
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.peers.arrays import Memmap
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, at_most, median_of, microseconds
from embstore.bench.timing import check_rows
from embstore.table.addresses import PAGE_BYTES
from tools.make_table import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Lookup = Callable[[NDArray[np.int64], NDArray[Any]], Any]

WORK = "read_small"
FRESH, HOT = "fresh", "hot"
ROW_BYTES = (160, 264, 1200)
BATCHES = (1, 16, 32, 48, 64, 256)
PARTITIONS = (1, 4)

TAKE, MATRIX, MEMMAP = "ram.take(out=)", "matrix[ids]", "np.memmap[ids]"
OURS = {count: f"embstore, {count} partition{'s'[: count - 1]}" for count in PARTITIONS}

CALLS_TOGETHER = 16
CHECKED_TOGETHER = 4096
ONE_ROWS = 256
LOOP_ROWS = 20_000
WHOLE_BYTES = 120_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """The calls that are timed together: the size of a row, ids in a call, which ids."""

    row_bytes: int
    batch: int
    ids: str

    def __str__(self) -> str:
        return f"{WORK}, {self.row_bytes:,} B, {self.batch} {self.ids}"


@dataclass(frozen=True, slots=True)
class Goal:
    """The longest time of a call, in microseconds or in times that of ``peer``."""

    case: Case
    ours: str
    most: float
    peer: str | None = None

    def line(self, found: Times) -> list[str]:
        """Return one line, or none if it was not measured."""
        ours = median_of(found, f"{self.case}: {self.ours}")
        theirs = None if self.peer is None else median_of(found, f"{self.case}: {self.peer}")
        if ours is None or (self.peer and theirs is None):
            return []
        value = ours * 1e6 if theirs is None else ours / theirs
        to = "us" if self.peer is None else f"of {self.peer}"
        return [at_most(f"{self.case}: {self.ours}, {to}", value, self.most)]


def _goals() -> Iterable[Goal]:
    most = {1: (1.45, 1.25, 1.15, 1.08), 4: (2.0, 1.65, 1.45, 1.3)}
    for count, batch_most in most.items():
        for batch, value in zip((16, 32, 64, 256), batch_most, strict=True):
            yield Goal(Case(1200, batch, FRESH), OURS[count], value, TAKE)
        yield Goal(Case(1200, 32, FRESH), OURS[count], 1.1, MATRIX)
    for batch, most_us in ((16, 2.0), (48, 2.5)):
        yield Goal(Case(160, batch, HOT), OURS[1], most_us)
        yield Goal(Case(160, batch, HOT), OURS[1], 1.0, MEMMAP)


GOALS = tuple(_goals())
# Works on one store, by their names: peers, and the longest time, in us a row or in times theirs.
ONE, LOOP, WHOLE = "store[5]", "for row in store", "np.asarray(store)"
ONE_MOST_US, LOOP_MOST_US, WHOLE_MOST = 1.4, 0.15, 1.1


def lookups(
    matrix: NDArray[Any], mapped: NDArray[Any], stores: Mapping[int, embstore.EmbeddingStore]
) -> dict[str, Lookup]:
    """Return the functions of (ids, out) that are timed."""
    found: dict[str, Lookup] = {TAKE: lambda ids, out: matrix.take(ids, 0, out, "clip")}
    for count, store in stores.items():
        found[OURS[count]] = _into(store)
    return found | {MATRIX: lambda ids, _: matrix[ids], MEMMAP: lambda ids, _: mapped[ids]}


def _into(store: embstore.EmbeddingStore) -> Lookup:
    return lambda ids, out: store.lookup(ids, out=out)


def time_small(ways: Mapping[str, Lookup], matrix: NDArray[Any], case: Case, rounds: int) -> Times:
    """Return the seconds of every call, by ``case: way``; the rows of each are compared."""
    random = np.random.default_rng([case.row_bytes, case.batch])
    shape = (CALLS_TOGETHER, case.batch)
    out = np.empty((case.batch, *matrix.shape[1:]), matrix.dtype)
    kept = np.empty((CALLS_TOGETHER, *out.shape), matrix.dtype)
    same = np.broadcast_to(random.integers(0, len(matrix), case.batch), shape)
    found: Times = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            ids = random.integers(0, len(matrix), shape) if case.ids == FRESH else same
            seconds = []
            for some, copy in zip(ids, kept, strict=True):
                start = perf_counter()
                rows = way(some, out)
                seconds.append(perf_counter() - start)
                copy[:] = rows  # Comparing here would empty the caches before the next call.
            check_rows(name, ids.reshape(-1), kept, matrix[ids.reshape(-1)])
            if turn:  # The first turn warms up.
                found.setdefault(f"{case}: {name}", []).extend(seconds)
    return found


def time_one(rows: Mapping[str, Any], matrix: NDArray[Any], rounds: int) -> Times:
    """Return the seconds of one row, ``rows[number]``, by ``store[5]: name``: means of a loop."""
    random = np.random.default_rng(5)
    found: Times = {}
    for turn in range(rounds + 1):
        for name, some in rows.items():
            ids = random.integers(0, len(matrix), ONE_ROWS)
            numbers = ids.tolist()
            start = perf_counter()
            got = [some[number] for number in numbers]
            seconds = (perf_counter() - start) / len(numbers)
            check_rows(name, ids, np.array(got), matrix[ids])
            if turn:
                found.setdefault(f"{ONE}: {name}", []).append(seconds)
    return found


def time_loop(rows: Mapping[str, Any], matrix: NDArray[Any], rounds: int) -> Times:
    """Return the seconds of a row in a loop over the rows, by ``for row in store: name``.

    The rows that are compared come from a second loop: keeping them takes longer than the first.
    """
    count = min(LOOP_ROWS, len(matrix))
    found: Times = {}
    for turn in range(rounds + 1):
        for name, some in rows.items():
            start = perf_counter()
            for _ in islice(iter(some), count):
                pass
            seconds = (perf_counter() - start) / count
            got = np.array(list(islice(iter(some), count)))
            check_rows(name, np.arange(count), got, matrix[:count])
            if turn:
                found.setdefault(f"{LOOP}: {name}", []).append(seconds)
    return found


def time_whole(store: embstore.EmbeddingStore, matrix: NDArray[Any], rounds: int) -> Times:
    """Return the seconds of all rows as one array, by ``np.asarray(store): name``."""
    ways: dict[str, Callable[[], Any]] = {
        "embstore": lambda: np.asarray(store),
        "store.to_numpy()": store.to_numpy,
        "matrix.copy()": matrix.copy,
    }
    found: Times = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = perf_counter()
            got = way()
            seconds = perf_counter() - start
            check_rows(name, np.arange(len(matrix)), got, matrix)
            if turn:
                found.setdefault(f"{WHOLE}: {name}", []).append(seconds)
    return found


def measure(
    place: Path,
    row_bytes: int,
    table_bytes: int,
    batches: Sequence[int],
    rounds: int,
    progress: Callable[[str], None],
) -> Times:
    """Make the tables of one size of rows in a directory, and time all calls."""
    dimension = row_bytes // np.dtype(np.float32).itemsize
    progress(f"making tables of {row_bytes:,}-byte rows")
    tables = {}
    for count in PARTITIONS:
        path = place / f"{count}.embstore"
        tables[count] = GeneratedTable.make(
            path, max(table_bytes // row_bytes, 1), dimension, partitions=count
        )
    table = tables[1]
    matrix = table.matrix()
    for start in range(0, table.rows, CHECKED_TOGETHER):
        ids = np.arange(start, min(start + CHECKED_TOGETHER, table.rows))
        check_rows("the store", ids, matrix[ids], table.expected(ids))
    peer = Memmap(table, place)
    peer.prepare()
    mapped = np.load(place / "rows.npy", mmap_mode="r")
    mapped.reshape(-1)[:: PAGE_BYTES // mapped.itemsize].max()  # Maps every page.
    found: Times = {}
    with ExitStack() as stack:
        stores = {
            count: stack.enter_context(embstore.open(made.path, preload=True))
            for count, made in tables.items()
        }
        ways = lookups(matrix, mapped, stores)
        for case in (Case(row_bytes, *pair) for pair in product(batches, (FRESH, HOT))):
            progress(str(case))
            found |= time_small(ways, matrix, case, rounds)
        rows: dict[str, Any] = {OURS[count]: store for count, store in stores.items()}
        rows |= {"matrix": matrix, "np.memmap": mapped}
        sized = f"{row_bytes:,} B, "
        progress(f"{sized}{ONE}")
        one = time_one(rows, matrix, rounds)
        progress(f"{sized}{LOOP}")
        one |= time_loop(rows, matrix, min(rounds, 5))
        found |= {sized + name: seconds for name, seconds in one.items()}
    return found


def measure_whole(
    place: Path, row_bytes: int, table_bytes: int, rounds: int, progress: Callable[[str], None]
) -> Times:
    """Make a table of 4 partitions, and time all of it as one array."""
    progress(WHOLE)
    dimension = row_bytes // np.dtype(np.float32).itemsize
    table = GeneratedTable.make(place / "w.embstore", max(table_bytes // row_bytes, 1), dimension)
    with embstore.open(table.path, preload=True) as store:
        return time_whole(store, table.matrix(), min(rounds, 5))


def ratios(found: Times) -> list[str]:
    """Return the lines of a table: each call's median in times that of take."""
    names = [*OURS.values(), MATRIX, MEMMAP]
    lines = [f"{'in times ' + TAKE:<36}{'us':>8}" + "".join(f"{name:>22}" for name in names)]
    for key in found:
        case, _, name = key.partition(": ")
        if name == TAKE:
            base = median_of(found, key) or 0.0
            values = (median_of(found, f"{case}: {name}") or 0.0 for name in names)
            cells = "".join(f"{value / base:>22.2f}" for value in values)
            lines.append(f"{case:<36}{base * 1e6:>8.2f}{cells}")
    return lines


def text(found: Times) -> str:
    """Return the times, the ratios and the goals."""
    lines = [*microseconds(found), "", *ratios(found), ""]
    for goal in GOALS:
        lines += goal.line(found)
    for key in found:
        value = (median_of(found, key) or 0.0) * 1e6
        for work, most in ((ONE, ONE_MOST_US), (LOOP, LOOP_MOST_US)):
            if f"{work}: embstore" in key:
                lines.append(at_most(f"{key}, us", value, most))
    if f"{WHOLE}: embstore" in found:
        ours, theirs = (
            median_of(found, f"{WHOLE}: {name}") or 0.0 for name in ("embstore", "store.to_numpy()")
        )
        lines.append(at_most(f"{WHOLE}, of store.to_numpy()", ours / theirs, WHOLE_MOST))
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = parser_of("small", __doc__)
    parser.add_argument("--row-bytes", type=int, action="append", help="160, 264, 1200")
    parser.add_argument("--batch", type=int, action="append", help="1, 16, 32, 48, 64, 256")
    parser.add_argument("--bytes", type=as_bytes, default=600_000_000, help="size of a table")
    parser.add_argument("--whole-bytes", type=as_bytes, default=WHOLE_BYTES)
    parser.add_argument("--rounds", type=int, default=60, help=f"turns of {CALLS_TOGETHER} calls")
    given = parser.parse_args()

    found: Times = {}
    for row_bytes in given.row_bytes or ROW_BYTES:
        with scratch(given.directory, "small") as place:
            batches = given.batch or BATCHES
            found |= measure(place, row_bytes, given.bytes, batches, given.rounds, progress)
            if row_bytes == (given.row_bytes or ROW_BYTES)[-1]:
                found |= measure_whole(place, row_bytes, given.whole_bytes, given.rounds, progress)
    print(text(found))


if __name__ == "__main__":
    main()
