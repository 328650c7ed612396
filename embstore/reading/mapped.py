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
4. Announcing costs more than gathering a warm row, so it must stop when rows are warm. The kernel
   counts the blocks that a thread caused to be read (``ru_inblock``), whether by touching or by
   announcing: a slice that raised the count was cold. The next slice is expected to be like the
   last one, also in the next call. A thread that expects warm rows starts with a small slice.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from contextlib import nullcontext
from functools import partial
from resource import getrusage
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embstore.reading import workers
from embstore.reading.gather import AddressGather, GridGather
from embstore.reading.mapping import map_column
from embstore.reading.residence import ResidentLimit, preload
from embstore.reading.scanning import MappedScan
from embstore.reading.stats import StatsCounter
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
# Up to this many rows are one slice.
SMALL_ROWS = 64
# From this many rows on, touching their first bytes before the gather pays off, unless a row is
# only a cache line or two.
TOUCHED_ROWS = 16
CACHE_LINE_BYTES = 64
# The first slice of a thread that expects warm rows.
PROBE_ROWS = 16
# Handing work over costs 30 to 50 us, in which a thread gathers a few hundred KiB.
HELPED_BYTES = 1 << 20

# Announcing blocks while the disk's queue is full, so more threads would not help.
PREFETCHING_THREADS = 2

DEVICE_BLOCK_BYTES = 512  # The unit of ru_inblock.


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

    Attributes
    ----------
    addresses : Addresses
        The layout of the mapping.
    stats : StatsCounter
        Counts of what was read.

    Raises
    ------
    StoreCorruptError
        If a file is missing or too short.
    StoreMappingError
        If the system refuses the mapping.
    """

    unit_bytes = PAGE_BYTES
    mapped = True
    max_gap = 0

    def __init__(
        self,
        column: Column,
        files: LocalFiles,
        dtype: np.dtype[Any],
        row_shape: tuple[int, ...],
        *,
        resident_limit: int | None = None,
    ) -> None:
        self.addresses = lay_out(column)
        self.stats = StatsCounter(column.record_bytes)
        self._column = column
        self._dtype, self._row_shape = dtype, row_shape
        self._record_bytes = record_bytes = column.record_bytes
        self._warm_slice_rows = min(max(WARM_SLICE_BYTES // record_bytes, 1), MAX_SLICE_ROWS)
        self._space = map_column(column, self.addresses, files)
        grid = self.addresses.grid
        self._gather: GridGather | AddressGather
        if grid is not None:
            self._gather = GridGather(self._space.data, grid, record_bytes)
        else:
            self._gather = AddressGather(self._space.data, self.addresses)
        self._unit_rows, self._gap_rows = (
            (1, 0) if grid is None else (grid.unit_rows, grid.gap_rows)
        )
        self._touches = record_bytes > 2 * CACHE_LINE_BYTES
        self._cold = False
        self._limit: ResidentLimit | None = None
        if resident_limit is not None:
            self._limit = ResidentLimit(self._space, resident_limit)
        # Under a limit, a row of more than a huge page is copied piece by piece.
        self._long = resident_limit is not None and record_bytes > HUGE_PAGE_BYTES
        self._table = None if self._long else self._gather.table(dtype, row_shape)

    def take_one(self, row: int) -> NDArray[Any]:
        """Return a copy of the record of one row, shape ``row_shape``."""
        # On its own, because arrays for a single number would take most of its time.
        table = self._table
        if table is None:
            return self._take_one_elsewhere(row)
        begin = time.perf_counter()
        before = getrusage(_WHO).ru_inblock
        place = row + row // self._unit_rows * self._gap_rows  # As `Grid.place`.
        record: NDArray[Any]
        if self._limit is None:
            record = table[place].copy()
        else:
            with self._limit.touching(1):
                record = table[place].copy()
        blocks = getrusage(_WHO).ru_inblock - before
        cold = blocks > 0
        seconds = time.perf_counter() - begin
        self.stats.add(1, blocks * DEVICE_BLOCK_BYTES, cold, not cold, seconds)
        return record

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`."""
        begin = time.perf_counter()
        if len(rows) == 0:
            blocks, cold, warm = 0, 0, 1
        elif len(rows) <= SMALL_ROWS:
            before = getrusage(_WHO).ru_inblock
            self._gather_slice(self._gather.spots(rows), out, cold=self._cold)
            blocks = getrusage(_WHO).ru_inblock - before
            self._cold = blocks > 0
            cold, warm = int(blocks > 0), int(blocks == 0)
        else:
            blocks, cold, warm = self._gather_together(self._gather.spots(rows), out)
        seconds = time.perf_counter() - begin
        self.stats.add(len(rows), blocks * DEVICE_BLOCK_BYTES, cold, warm, seconds)

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Start reading records that are not in the page cache, and return."""
        spots = self._gather.spots(rows)
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

    def in_place(self) -> NDArray[Any] | None:
        """Return the records as a read-only array over the mapping, shape (places, *row_shape).

        For functions that gather by themselves; see `read_in_place`. None if the records are not on
        an aligned grid, or if there is a resident limit, which must know of each access.
        """
        plain = self._limit is None and type(self._gather) is GridGather
        return self._table if plain else None

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each row in the array of `in_place`; ``rows`` itself if equal."""
        return self._gather.spots(rows)

    def read_in_place(self, places: NDArray[np.int64], read: Callable[[], Result]) -> Result | None:
        """Return what ``read()`` returns, or None if the records are expected to be cold.

        Cold records would be read one after the other, each when ``read`` touches it; `take` reads
        many at a time.

        Parameters
        ----------
        places : ndarray of int64, shape (n,), n 1 or more
            The records that ``read`` takes from the array of `in_place`; see `places`.
        read : callable
            Called at most once. Its reads from the device are counted for this thread only.
        """
        begin = time.perf_counter()
        if not self._are_warm(places):
            return None
        before = getrusage(_WHO).ru_inblock
        result = read()
        blocks = getrusage(_WHO).ru_inblock - before
        self._cold = cold = blocks > 0
        seconds = time.perf_counter() - begin
        self.stats.add(len(places), blocks * DEVICE_BLOCK_BYTES, cold, not cold, seconds)
        return result

    def _are_warm(self, places: NDArray[np.int64]) -> bool:
        """Say whether records are expected to be in the page cache; this touches a few of them."""
        if self._cold or len(places) <= SMALL_ROWS:
            return not self._cold
        before = getrusage(_WHO).ru_inblock
        self._gather.touch(places[:: max(len(places) // PROBE_ROWS, 1)])
        if getrusage(_WHO).ru_inblock == before:
            return True
        self._cold = True
        return False

    def _take_one_elsewhere(self, row: int) -> NDArray[Any]:
        """Return the record of one row that is not on an aligned grid, or is long."""
        out = np.empty((1, *self._row_shape), self._dtype)
        self.take(np.array([row]), out)
        record: NDArray[Any] = out[0]
        return record

    def _announce_all(self, spots: NDArray[np.int64]) -> None:
        for start in range(0, len(spots), MAX_SLICE_ROWS):
            self._announce(spots[start : start + MAX_SLICE_ROWS])

    def _announce(self, spots: NDArray[np.int64]) -> None:
        """Have the kernel start reading the pages of records, shape (n,), that are not cached."""
        found = runs(self._gather.offsets(spots), self._record_bytes, unit=PAGE_BYTES)
        self._space.announce(found.firsts * PAGE_BYTES, found.counts * PAGE_BYTES)

    def _gather_together(self, spots: NDArray[np.int64], out: NDArray[Any]) -> tuple[int, int, int]:
        """Gather on several threads; return blocks read, cold slices, warm slices."""
        left = [(0, len(spots))]
        done: list[tuple[int, int, int]] = []
        while left:
            shares = self._shares(left)
            works = [
                partial(self._gather_shares, spots, out, shares[own:] + shares[:own])
                for own in range(len(shares))
            ]
            done += workers.together(works, partial(_clear, shares))
            # Threads that find cold rows stop; the remaining slices are cut and shared again.
            left = [piece for share in shares for piece in share]
        blocks, cold, warm = map(sum, zip(*done, strict=True))
        return blocks, cold, warm

    def _shares(self, pieces: list[tuple[int, int]]) -> list[deque[tuple[int, int]]]:
        """Cut pieces of a lookup into slices, one share of them for each thread.

        Each thread starts with a share of neighbours, so that two threads do not fault in the same
        pages of a fresh ``out``, and then takes slices from the shares of others.
        """
        cold = self._cold  # Other lookups may change it at any time.
        length = COLD_SLICE_ROWS if cold else self._warm_slice_rows
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
        first = blocks = getrusage(_WHO).ru_inblock
        expected_cold = cold = self._cold
        slices = [0, 0]
        for start, stop in _taken(shares):
            self._gather_slice(spots[start:stop], out[start:stop], cold=cold)
            now = getrusage(_WHO).ru_inblock
            self._cold = cold = now != blocks
            blocks = now
            slices[cold] += 1
            if cold and not expected_cold:
                break
        return blocks - first, slices[True], slices[False]

    def _gather_slice(self, spots: NDArray[np.int64], out: NDArray[Any], *, cold: bool) -> None:
        """Gather records, shape (n,); announce them first if they are expected to be cold."""
        if cold:
            self._announce(spots)
        if self._limit is None:
            self._take(spots, out, touch=not cold)
            return
        if self._long:
            target = out.reshape(len(out), -1).view(np.uint8)
            for at, begin in enumerate(self._gather.offsets(spots).tolist()):
                self._limit.copy(begin, target[at])
            return
        step = self._limit.step_rows
        for start in range(0, len(spots), step):
            some = spots[start : start + step]
            with self._limit.touching(len(some)):
                self._take(some, out[start : start + step], touch=not cold)

    def _take(self, spots: NDArray[np.int64], out: NDArray[Any], *, touch: bool) -> None:
        if touch and self._touches and len(spots) >= TOUCHED_ROWS:
            # The gather then finds their TLB entries and first cache lines: 15-20 % faster.
            self._gather.touch(spots)
        self._gather.take(spots, out)


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


# Blocks are counted for each thread, where supported.
_WHO: int = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
