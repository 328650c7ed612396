"""Records through a mapping: each lookup is a gather, and cold rows are announced before it.

All extents of a column are mapped side by side, so rows need not be grouped by file, and records
are copied once, in request order.

1. A lookup is cut into slices. A small one is a single slice on the calling thread. The slices of a
   large one are shared by as many threads as there are processors; the gather releases the GIL.
2. Rows that are not in the page cache would be read one after the other, each when the gather
   touches it. So a cold slice is announced first: its pages, sorted and joined into runs, are
   passed to the kernel together, which starts all their reads at once. More threads than processors
   help here.
3. The first bytes of warm rows are touched together before the slice is gathered, so that the cache
   misses overlap.
4. `embstore.reading.warmth` decides whether rows are expected to be cold, for the slices of a large
   lookup and from one lookup to the next. A thread that expects warm rows starts with a small
   slice, and stops when it finds cold ones; the remaining slices are then cut anew.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from embstore.reading import workers
from embstore.reading.gather import AddressGather, GridGather
from embstore.reading.incore import Residency, mapped_bytes, page_cache_bytes
from embstore.reading.mapping import map_column
from embstore.reading.residence import ResidentLimit, preload
from embstore.reading.row_cache import RowCache, front_bytes
from embstore.reading.scanning import MappedScan
from embstore.reading.stats import StatsCounter
from embstore.reading.warmth import BLOCK_BYTES, Warmth, blocks_read
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES, lay_out
from embstore.table.plan import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.progress import OnProgress
    from embstore.reading.files import LocalFiles
    from embstore.table.extents import Column
    from embstore.table.protocols import VisitRecords

Result = TypeVar("Result")

# Large enough that the overhead of a slice is small beside its gather, and small enough that cold
# rows are noticed soon.
WARM_SLICE_BYTES = 512 << 10
MAX_SLICE_ROWS = 4096
# All reads of a cold slice are in flight at once, beside those of other threads' slices.
COLD_SLICE_ROWS = 128
# With a row cache, at least so many of the rows of a cold slice are in the files.
FILE_ROWS = 64
# Up to this many rows are one slice.
SMALL_ROWS = 64
# From this many rows on, touching their first bytes before the gather pays off, unless a row is
# only a cache line or two.
TOUCHED_ROWS = 64
CACHE_LINE_BYTES = 64
# The first slice of a thread that expects warm rows.
PROBE_ROWS = 16
# Handing work over costs 30 to 50 us, in which a thread gathers a few hundred KiB.
HELPED_BYTES = 1 << 20

# What `MappedRecords.warm` reads at a time.
WARMED_ROWS = 1 << 15
WARMED_BYTES = 8 << 20

# Announcing blocks while the disk's queue is full, so more threads would not help.
PREFETCHING_THREADS = 2


class MappedRecords:
    """Records of a column, through one mapping of its files.

    Parameters
    ----------
    column : Column
        The extents of the records.
    files : LocalFiles
        The files of its extents.
    dtype, row_shape : numpy.dtype, tuple of int
        How `take_one` returns a record.
    resident_limit : int, optional
        Most bytes of the mapping that may be resident.
    cache_rows : int
        Most rows to keep copies of (`embstore.reading.row_cache`); 0 for no copies.

    Attributes
    ----------
    addresses : Addresses
        The layout of the mapping.
    stats : StatsCounter
        Counts of what was read.
    warmth : Warmth
        Whether the next rows are expected to be cold.
    gather : GridGather, AddressGather or RowCache
        Finds the records in the mapping.
    touched_rows : int
        From this many warm rows on, their first bytes are touched before the gather.
    table : ndarray or None
        The mapping as rows, one for each spot, where a lookup may gather from it without more ado:
        they are aligned on one grid, and nothing limits what is resident.
    cache : RowCache or None
        The row cache.

    Raises
    ------
    StoreCorruptError
        If a file is missing or too short.
    StoreMappingError
        If the system refuses the mapping.
    """

    unit_bytes = PAGE_BYTES
    mapped: Literal[True] = True
    max_gap = 0

    def __init__(
        self,
        column: Column,
        files: LocalFiles,
        dtype: np.dtype[Any],
        row_shape: tuple[int, ...],
        *,
        resident_limit: int | None = None,
        cache_rows: int = 0,
    ) -> None:
        self.addresses = lay_out(column)
        self.stats = StatsCounter(column.record_bytes)
        self._column = column
        self._dtype, self._row_shape = dtype, row_shape
        self._record_bytes = record_bytes = column.record_bytes
        self._warm_slice_rows = min(max(WARM_SLICE_BYTES // record_bytes, 1), MAX_SLICE_ROWS)
        front = front_bytes(cache_rows, self.addresses) if cache_rows else 0
        self._space = map_column(column, self.addresses, files, front_bytes=front)
        self._limit: ResidentLimit | None = None
        if resident_limit is not None:
            self._limit = ResidentLimit(self._space, resident_limit)
        grid = self.addresses.grid
        self.gather: GridGather | AddressGather | RowCache
        self.cache: RowCache | None = None
        if cache_rows:
            self.gather = self.cache = RowCache(
                self._space, self.addresses, cache_rows, self._limit
            )
        elif grid is not None:
            self.gather = GridGather(self._space.data, grid, record_bytes)
        else:
            self.gather = AddressGather(self._space.data, self.addresses)
        self.touched_rows = TOUCHED_ROWS if record_bytes > 2 * CACHE_LINE_BYTES else 1 << 62
        self.warmth = Warmth()
        # Under a limit, a row of more than a huge page is copied piece by piece.
        self._long = resident_limit is not None and record_bytes > HUGE_PAGE_BYTES
        table = self.gather.table(dtype, row_shape)
        self.table = table if resident_limit is None else None

    def take_one(self, row: int) -> NDArray[Any]:
        """Return a copy of the record of one row, shape ``row_shape``."""
        out = np.empty((1, *self._row_shape), self._dtype)
        self.take(np.array([row]), out)
        record: NDArray[Any] = out[0]
        return record

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`."""
        self.take_spots(self.gather.spots(rows), out)

    def take_spots(self, spots: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with the records at spots, as `take` does for rows."""
        start = perf_counter()
        if len(spots) == 0:
            blocks, cold, warm = 0, 0, 1
        elif len(spots) <= SMALL_ROWS:
            blocks, cold, warm = self._gather_few(spots, out)
        else:
            blocks, cold, warm = self._gather_together(spots, out)
        seconds = perf_counter() - start
        self.stats.add(len(spots), blocks * BLOCK_BYTES, cold, warm, seconds)

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Start reading records that are not in the page cache, and return."""
        cache = self.cache
        spots = self.gather.spots(rows) if cache is None else cache.cold_spots(rows)
        for first in range(min(PREFETCHING_THREADS, len(spots))):
            workers.submit(partial(self._announce_all, spots[first::PREFETCHING_THREADS]))

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one."""
        MappedScan(self._space, self.addresses, self._limit).run(ranges, visit)

    def preload(self, progress: OnProgress | None) -> None:
        """Read everything into RAM and map it; see `embstore.reading.residence`."""
        # Pages over the limit are unmapped again; they stay in the page cache.
        with nullcontext() if self._limit is None else self._limit.touching(1):
            preload(self._space, progress)

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Copy rows to the row cache or, without one, read them; return how many are there."""
        if self.cache is not None:
            return self.cache.warm(rows, counts)
        rows = np.unique(rows)
        step = max(min(WARMED_BYTES // self._record_bytes, WARMED_ROWS), 1)
        out = np.empty((min(step, len(rows)), self._record_bytes), np.uint8)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            self._gather_together(self.gather.spots(some), out[: len(some)])
        return len(rows)

    def residency(self, table_bytes: int) -> Residency:
        """Return how much of a table of ``table_bytes`` is in memory."""
        rows, size_bytes = (0, 0) if self.cache is None else self.cache.held()
        return Residency(
            table_bytes=table_bytes,
            page_cache_bytes=page_cache_bytes(self._space),
            mapped_bytes=mapped_bytes(self._space),
            row_cache_bytes=size_bytes,
            row_cache_rows=rows,
        )

    def read_in_place(self, spots: NDArray[np.int64], read: Callable[[], Result]) -> Result | None:
        """Return what ``read()`` returns, or None if the records are expected to be cold.

        For functions that gather from `table` by themselves. Cold records would be read one after
        the other, each when ``read`` touches it; `take` reads many at a time.

        Parameters
        ----------
        spots : ndarray of int64, shape (n,), n 1 or more
            The records that ``read`` takes.
        read : callable
            Called at most once. What it reads from the device is counted for this thread only.
        """
        warmth = self.warmth
        if warmth.cold:
            return None
        # Blocks and not the clock: some functions take long for warm rows, too.
        start, before = perf_counter(), blocks_read()
        # A large call is worth some more probes.
        step = len(spots) if len(spots) <= SMALL_ROWS else len(spots) // PROBE_ROWS
        probes = spots[::step]
        self.gather.touch(probes)
        if warmth.note(len(probes), blocks_read() - before):
            return None
        result = read()
        blocks = blocks_read() - before
        cold = warmth.note(len(spots), blocks)
        seconds = perf_counter() - start
        self.stats.add(len(spots), blocks * BLOCK_BYTES, int(cold), int(not cold), seconds)
        return result

    def _announce_all(self, spots: NDArray[np.int64]) -> None:
        for start in range(0, len(spots), MAX_SLICE_ROWS):
            self._announce(spots[start : start + MAX_SLICE_ROWS])

    def _announce(self, spots: NDArray[np.int64]) -> None:
        """Have the kernel start reading the pages of records, shape (n,), that are not cached."""
        offsets = self.gather.offsets(spots)
        if len(spots) <= SMALL_ROWS:
            # Sorting would take longer than it saves.
            inside = offsets & (PAGE_BYTES - 1)
            self._space.announce(offsets - inside, inside + self._record_bytes)
        else:
            found = runs(offsets, self._record_bytes, unit=PAGE_BYTES)
            self._space.announce(found.firsts * PAGE_BYTES, found.counts * PAGE_BYTES)

    def _gather_together(self, spots: NDArray[np.int64], out: NDArray[Any]) -> tuple[int, int, int]:
        """Gather on several threads; return blocks read, cold slices, warm slices."""
        slice_rows = COLD_SLICE_ROWS
        if self.cache is not None:
            in_files = self.cache.file_count(spots)
            file_rows = min(max(in_files // workers.THREAD_COUNT, FILE_ROWS), COLD_SLICE_ROWS)
            slice_rows = file_rows * len(spots) // max(in_files, 1)
        left = [(0, len(spots))]
        done: list[tuple[int, int, int]] = []
        while left:
            shares = self._shares(left, slice_rows)
            works = [
                partial(self._gather_shares, spots, out, shares[own:] + shares[:own])
                for own in range(len(shares))
            ]
            done += workers.together(works, partial(_clear, shares))
            # Threads that find cold rows stop; the remaining slices are cut and shared again.
            left = [piece for share in shares for piece in share]
        blocks, cold, warm = map(sum, zip(*done, strict=True))
        return blocks, cold, warm

    def _shares(
        self, pieces: list[tuple[int, int]], cold_rows: int
    ) -> list[deque[tuple[int, int]]]:
        """Cut pieces of a lookup into slices, one share of them for each thread.

        A slice that is expected to be cold has ``cold_rows``.

        Each thread starts with a share of neighbours, so that two threads do not fault in the same
        pages of a fresh ``out``, and then takes slices from the shares of others.
        """
        cold = self.warmth.cold  # Other lookups may change it at any time.
        length = min(cold_rows, MAX_SLICE_ROWS) if cold else self._warm_slice_rows
        slices = [
            (start, min(start + length, stop))
            for first, stop in pieces
            for start in range(first, stop, length)
        ]
        if cold:
            thread_count = workers.THREAD_COUNT
        else:
            helped_bytes = len(slices) * length * self._record_bytes // HELPED_BYTES
            thread_count = max(min(workers.processor_count(), helped_bytes), 1)
        size = -(-len(slices) // thread_count)
        shares = [deque(slices[first : first + size]) for first in range(0, len(slices), size)]
        if not cold:
            for share in shares:
                start, stop = share[0]
                if stop - start > PROBE_ROWS:
                    share[0] = (start + PROBE_ROWS, stop)
                    share.appendleft((start, start + PROBE_ROWS))
        return shares

    def _gather_shares(
        self,
        spots: NDArray[np.int64],
        out: NDArray[Any],
        shares: list[deque[tuple[int, int]]],
    ) -> tuple[int, int, int]:
        """Gather slices; return blocks read, cold slices and warm slices.

        Stops when no slice is left, or when it expected warm rows and finds cold ones.
        """
        first = blocks = blocks_read()
        expected_cold = cold = self.warmth.cold
        slices = [0, 0]
        for start, stop in _taken(shares):
            self._gather_slice(spots[start:stop], out[start:stop], cold=cold)
            now = blocks_read()
            slices[self._note(spots[start:stop], now - blocks)] += 1
            blocks, cold = now, self.warmth.cold
            if cold and not expected_cold:
                break
        return blocks - first, slices[True], slices[False]

    def _gather_few(self, spots: NDArray[np.int64], out: NDArray[Any]) -> tuple[int, int, int]:
        """Gather a few records; return blocks read, cold slices, warm slices."""
        before = blocks_read()
        self._gather_slice(spots, out, cold=self.warmth.cold)
        blocks = blocks_read() - before
        cold = self._note(spots, blocks)
        return blocks, int(cold), int(not cold)

    def _note(self, spots: NDArray[np.int64], blocks: int) -> bool:
        """Note how many blocks the gather of spots read; return whether it was cold."""
        # Rows that have copies cost nothing to announce, and tell nothing of the others.
        return self.warmth.note(
            len(spots) if self.cache is None else self.cache.file_count(spots), blocks
        )

    def _gather_slice(self, spots: NDArray[np.int64], out: NDArray[Any], *, cold: bool) -> None:
        """Gather records, shape (n,); announce them first if they are expected to be cold."""
        if cold:
            self._announce(spots)
        if self._limit is None:
            self._take(spots, out, touch=not cold)
            return
        if self._long:
            target = out.reshape(len(out), -1).view(np.uint8)
            for at, begin in enumerate(self.gather.offsets(spots).tolist()):
                self._limit.copy(begin, target[at])
            return
        step = self._limit.step_rows
        for start in range(0, len(spots), step):
            some = spots[start : start + step]
            with self._limit.touching(len(some)):
                self._take(some, out[start : start + step], touch=not cold)

    def _take(self, spots: NDArray[np.int64], out: NDArray[Any], *, touch: bool) -> None:
        if touch and len(spots) >= self.touched_rows:
            # The gather then finds their TLB entries and first cache lines: 15-20 % faster.
            self.gather.touch(spots)
        self.gather.take(spots, out)


def _clear(shares: list[deque[tuple[int, int]]]) -> None:
    for share in shares:
        share.clear()


def _taken(shares: list[deque[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    """Yield slices from the shares, one after the other; threads take from the same shares."""
    for share in shares:
        while share:
            try:
                yield share.popleft()
            except IndexError:  # Another thread took the last one.
                break
