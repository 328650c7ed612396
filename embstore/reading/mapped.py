"""Records through a mapping: each lookup is a gather, and cold rows are announced before it.

All extents of a column are mapped side by side, so rows need not be grouped by file, and records
are copied once, in request order.

1. `embstore.reading.short_path` serves a few rows that are expected in RAM.
2. `embstore.reading.sharing` cuts other lookups into slices, and `embstore.reading.slices` gathers
   these, cold ones after an announcement.
3. `embstore.reading.read_ahead` reads ahead of lookups, for `prefetch` and `submit`.
"""

from __future__ import annotations

from functools import cached_property, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from embstore.reading.gather import AddressGather, GridGather
from embstore.reading.incore import Residency, mapped_bytes, page_cache_bytes
from embstore.reading.known_pages import KnownPages
from embstore.reading.mapping import map_column
from embstore.reading.read_ahead import ReadAhead
from embstore.reading.residence import preload
from embstore.reading.row_cache.cache import RowCache, front_bytes
from embstore.reading.scanning import MappedScan
from embstore.reading.sharing import PROBE_ROWS, SMALL_ROWS, Found, SharedGather
from embstore.reading.slices import SliceGather
from embstore.reading.stats import StatsCounter
from embstore.reading.warmth import BLOCK_BYTES, Warmth, blocks_read
from embstore.table.addresses import PAGE_BYTES, lay_out
from embstore.table.plan import plan_lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.progress import OnProgress
    from embstore.reading.file_cache import Cache
    from embstore.reading.mapping import Opener
    from embstore.reading.resident_limit import ResidentLimit
    from embstore.table.extents import Column
    from embstore.table.numbering import Numbering
    from embstore.table.plan import LookupPlan
    from embstore.table.protocols import VisitRecords

Result = TypeVar("Result")

# What `MappedRecords.warm` reads at a time.
WARMED_ROWS = 1 << 15
WARMED_BYTES = 8 << 20


class MappedRecords:
    """Records of a column, through one mapping of its files.

    Parameters
    ----------
    column : Column
        The extents of the records.
    files : Opener
        The files of its extents.
    dtype, row_shape : numpy.dtype, tuple of int
        How `take_one` returns a record.
    limit : ResidentLimit, optional
        The limit on what is resident of this mapping, and of others that share it.
    cache_rows : int
        Most rows to keep copies of (`embstore.reading.row_cache`); 0 for no copies.
    warmth : Warmth, optional
        Shared by the columns of a table; by default a new one.
    at_once : bool
        Whether to map all files now; otherwise, as `embstore.reading.present` does, one by one.

    Attributes
    ----------
    addresses : Addresses
        The layout of the mapping.
    record_bytes : int
        Size of a record.
    stats : StatsCounter
        Counts of what was read.
    warmth : Warmth
        Whether the next rows are expected to be cold.
    preloaded : bool
        Whether everything was read into RAM.
    gather : GridGather, AddressGather or RowCache
        Finds the records in the mapping.
    slices : SliceGather
        Gathers slices of lookups.
    data : ndarray of uint8
        The mapping as bytes, by address.
    table : ndarray or None
        The mapping as rows, one for each spot, where a lookup may gather from it directly:
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

    mapped: Literal[True] = True
    decodes: Literal[False] = False
    file_cache: Cache | None = None  # Of the files of a remote store.

    def __init__(
        self,
        column: Column,
        files: Opener,
        dtype: np.dtype[Any],
        row_shape: tuple[int, ...],
        *,
        limit: ResidentLimit | None = None,
        cache_rows: int = 0,
        warmth: Warmth | None = None,
        at_once: bool = True,
    ) -> None:
        self.addresses = lay_out(column)
        self.stats = StatsCounter(column.record_bytes)
        self._column = column
        self._dtype, self._row_shape = dtype, row_shape
        self.record_bytes = record_bytes = column.record_bytes
        front = front_bytes(cache_rows, self.addresses) if cache_rows else 0
        self._space = map_column(column, self.addresses, files, front_bytes=front, at_once=at_once)
        self.data = self._space.data
        self._limit = limit
        if limit is not None:
            limit.add(self._space)
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
        self.preloaded = False
        self.slices = SliceGather(self._space, self.gather, record_bytes, self._limit)
        self.warmth = Warmth() if warmth is None else warmth
        self._shared = SharedGather(self.slices, self.warmth)
        table = self.gather.table(dtype, row_shape)
        self.table = table if limit is None else None

    def take_one(self, row: int) -> NDArray[Any]:
        """Return a copy of the record of one row, shape ``row_shape``."""
        out = np.empty((1, *self._row_shape), self._dtype)
        self.take(np.array([row]), out)
        record: NDArray[Any] = out[0]
        return record

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`."""
        self.take_spots(self.gather.spots(rows), out)

    def fill(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records, as `take` does, but do not count it as a lookup."""
        if len(rows):
            self._shared.fill(self.gather.spots(rows), out)

    def announce_few(self, rows: NDArray[np.int64]) -> Callable[[NDArray[Any]], None]:
        """Announce a few rows, if they are cold; return what fills an array with them."""
        spots = self.gather.spots(rows)
        return partial(self.take_spots, spots, announced=self._shared.announce(spots))

    def take_spots(
        self,
        spots: NDArray[np.int64],
        out: NDArray[Any],
        probed_bytes: int = 0,
        *,
        announced: int | None = None,
    ) -> None:
        """Fill ``out`` with the records at spots, as `take` does for rows.

        ``probed_bytes`` were read for this lookup before. If they were announced, ``announced``
        blocks are being read.
        """
        start = perf_counter()
        if len(spots) == 0:
            found = Found(0, 0, 1)
        elif len(spots) <= SMALL_ROWS or announced is not None:
            found = self._shared.fill_here(spots, out, announced)
        else:
            found = self._shared.fill(spots, out)
        seconds = perf_counter() - start
        bytes_read = probed_bytes + found.blocks * BLOCK_BYTES
        self.stats.add(len(spots), bytes_read, found.cold, found.warm, seconds)

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one."""
        scan = MappedScan(self._space, self.addresses, self._limit, preloaded=self.preloaded)
        scan.run(ranges, visit)

    def announce_ranges(self, ranges: Sequence[range]) -> None:
        """Have the kernel start reading the records of ranges of rows."""
        MappedScan(self._space, self.addresses, self._limit).announce(ranges)

    def preload(self, progress: OnProgress | None) -> None:
        """Read everything into RAM and map it; see `embstore.reading.residence`."""
        preload(self._space, progress, self._limit)
        self.preloaded = True

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Copy rows to the row cache or, without one, read them; return how many are there."""
        if self.cache is not None:
            return self.cache.warm(rows, counts)
        rows = np.unique(rows)
        step = max(min(WARMED_BYTES // self.record_bytes, WARMED_ROWS), 1)
        out = np.empty((min(step, len(rows)), self.record_bytes), np.uint8)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            self._shared.fill(self.gather.spots(some), out[: len(some)])
        return len(rows)

    def plan(self, rows: NDArray[np.int64], numbering: Numbering) -> LookupPlan:
        """Return the plan of a lookup of rows, any shape."""
        return plan_lookup(rows, numbering, self.addresses, unit=PAGE_BYTES)

    @property
    def mapped_file_bytes(self) -> int:
        """Bytes of the files that are mapped."""
        return sum(file.map_bytes for file in self._space.files)

    def residency(self, rows: int) -> Residency:
        """Return how much of a table of some rows is in memory."""
        cached, size_bytes = (0, 0) if self.cache is None else self.cache.held()
        return Residency(
            table_bytes=rows * self.record_bytes,
            page_cache_bytes=page_cache_bytes(self._space),
            mapped_bytes=mapped_bytes(self._space),
            row_cache_bytes=size_bytes,
            row_cache_rows=cached,
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

    @cached_property
    def _known_pages(self) -> KnownPages:
        return KnownPages(len(self._space.data), self.record_bytes)

    @property
    def ahead(self) -> ReadAhead:
        """Reads ahead of lookups."""
        # Made for each call: a cycle of references would keep the mapping of a closed store.
        return ReadAhead(self.slices, self._known_pages, self.stats, self.take)
