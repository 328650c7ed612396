"""Records by reads of files: slower than a mapping, but possible on any system, and at a URL.

1. The records of a lookup become ranges of bytes, each within an extent; records that lie close
   together are read as one range (`embstore.table.reads`).
2. The ranges of all extents, and of all columns of a table, are read together: at a URL, many
   requests are in flight at the same time. No more than some 64 MiB are asked for at once.
3. Each range is copied to its places in the result as it arrives.

A chunk of a store on a disk is read whole instead, and its checksum is checked, unless it is so
large that a few rows would take seconds. No file stays open. So a store that a build has replaced
can no longer be read; this raises an error.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.reading.files import StoreFiles
from embstore.reading.gather import as_records
from embstore.reading.incore import Residency
from embstore.reading.kept_records import KeptRecords
from embstore.reading.read_ahead import Later, NoReadAhead
from embstore.reading.scanning import blocks
from embstore.reading.stats import StatsCounter
from embstore.table.addresses import lay_out
from embstore.table.plan import group_by_extent, plan_lookup
from embstore.table.reads import Reads, batches, plan_reads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.table.extents import Column
    from embstore.table.numbering import Numbering
    from embstore.table.plan import LookupPlan
    from embstore.table.protocols import Files, VisitRecords

# The most unneeded bytes between two records of one read.
MAX_GAP_BYTES = 64 << 10
# Bytes of a read of a lookup, and of one of a scan.
READ_BYTES = 4 << 20
SCANNED_BYTES = 8 << 20
# Bytes that are asked for at once.
BATCH_BYTES = 64 << 20
# Larger chunks, of tables above 700 GB, are not read whole.
MOST_WHOLE_BYTES = 128 << 20


class RangedRecords:
    """Records of a column, read from its files range by range.

    Parameters
    ----------
    column : Column
        The extents of the records.
    files : Files
        The files of its extents.
    dtype, row_shape : numpy.dtype, tuple of int
        How `take_one` returns a record.

    Attributes
    ----------
    record_bytes : int
        Size of a record.
    are_checked : bool
        Whether whole chunks are read and checked.
    """

    mapped: Literal[False] = False
    decodes: Literal[False] = False
    file_cache: Any = None  # Of the files of a remote store: an `embstore.reading.cached.Cache`.
    cache = None

    def __init__(
        self,
        column: Column,
        files: Files,
        dtype: np.dtype[Any],
        row_shape: tuple[int, ...],
    ) -> None:
        self.addresses = lay_out(column)
        self.stats = StatsCounter(column.record_bytes)
        self._column = column
        self._files = files
        self._identity = files.identity
        self._dtype, self._row_shape = dtype, row_shape
        self.record_bytes = column.record_bytes
        self.kept = KeptRecords(column.record_bytes)
        largest = max((extent.rows for extent in column.extents), default=0) * column.record_bytes
        self.are_checked = files.checked and largest <= MOST_WHOLE_BYTES

    def take_one(self, row: int) -> NDArray[Any]:
        """Return the record of one row, shape ``row_shape``."""
        out = np.empty((1, *self._row_shape), self._dtype)
        self.take(np.array([row]), out)
        record: NDArray[Any] = out[0]
        return record

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`."""
        begin = time.perf_counter()
        if self.are_checked:
            bytes_read, reads = self._take_whole(rows, out)
        else:
            bytes_read, reads = take_together([(self, rows, out)])
        seconds = time.perf_counter() - begin
        self.stats.add(len(rows), bytes_read, reads, 0, seconds)

    def plan_reads(self, rows: NDArray[np.int64]) -> Reads:
        """Return the reads of a lookup of rows, shape (n,)."""
        return plan_reads(
            rows,
            self.addresses.first_rows,
            self.record_bytes,
            max_gap=MAX_GAP_BYTES,
            max_bytes=READ_BYTES,
        )

    def ranges(self, reads: Reads) -> list[tuple[str, int, int]]:
        """Return reads as a file, a first byte in it and a count of bytes each."""
        extents = self._column.extents
        return [
            (extents[at].file, extents[at].offset + first, count)
            for at, first, count in reads.each()
        ]

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Do nothing, because nothing is kept in memory; return 0."""
        return 0

    def plan(self, rows: NDArray[np.int64], numbering: Numbering) -> LookupPlan:
        """Return the plan of a lookup of rows, any shape."""
        if self.are_checked:  # They are read by whole extents.
            return plan_lookup(rows, numbering, self.addresses, unit=None)
        found = plan_lookup(rows, numbering, self.addresses, unit=1)
        flat = rows.ravel()
        left = self.kept.find(flat)
        reads = self.plan_reads(flat if left is None else flat[left])
        return replace(
            found,
            run_count=len(reads),
            bytes_read=int(reads.counts.sum()),
            request_count=len(reads) if self._files.is_remote else 0,
        )

    def residency(self, rows: int) -> Residency:
        """Return that nothing of a table of some rows is kept in memory."""
        return Residency(table_bytes=rows * self.record_bytes)

    @property
    def ahead(self) -> NoReadAhead | RangedReadAhead:
        """Reads ahead of lookups, of files at a URL; of others none."""
        return RangedReadAhead([self], [1], self.take) if self.is_remote else NoReadAhead(self.take)

    @property
    def is_remote(self) -> bool:
        """Whether a read is a request to another machine."""
        return self._files.is_remote

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Read the records of rows that are not kept, and keep them for lookups to come."""
        rows = np.unique(rows)[: self.kept.most_rows]
        left = self.kept.find(rows)
        rows = rows if left is None else rows[left]
        if len(rows):
            records = np.empty((len(rows), self.record_bytes), np.uint8)
            take_together([(self, rows, records)])
            self.kept.add(rows, records)

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def announce_ranges(self, ranges: Sequence[range]) -> None:
        """Do nothing: only files that are all mapped are announced."""

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one."""
        size = self.record_bytes
        if self.are_checked:
            most_rows = max(int(self.addresses.first_rows[-1]), 1)
            for block in blocks(ranges, self.addresses.first_rows, most_rows):
                first, count = block.first * size, len(block.rows) * size
                data = self._read_whole(block.extent)[first:]
                self._files.check_identity(self._identity)
                # An array over bytes is read-only.
                visit(block.rows, np.frombuffer(data, np.uint8, count).reshape(-1, size))
            return
        extents = self._column.extents
        todo = list(blocks(ranges, self.addresses.first_rows, max(SCANNED_BYTES // size, 1)))
        wanted = []
        for block in todo:
            extent = extents[block.extent]
            wanted.append((extent.file, extent.offset + block.first * size, len(block.rows) * size))
        for batch in batches([count for _, _, count in wanted], BATCH_BYTES):
            some = wanted[batch.start : batch.stop]
            for at, data in self._files.read_many(some):
                self.check_length(data, *some[at])
                self._files.check_identity(self._identity)
                visit(todo[batch[at]].rows, np.frombuffer(data, np.uint8).reshape(-1, size))

    def _take_whole(self, rows: NDArray[np.int64], out: NDArray[Any]) -> tuple[int, int]:
        """Fill ``out`` from whole extents; return the bytes and the number of reads."""
        groups = group_by_extent(rows, self.addresses.first_rows)
        bytes_read = 0
        target = as_records(out, self.record_bytes) if len(rows) else out
        for group in groups:
            data = self._read_whole(group.extent)
            target[group.positions] = _items(data, self.record_bytes)[
                group.rows * self.record_bytes
            ]
            bytes_read += len(data)
        if groups:
            self._files.check_identity(self._identity)
        return bytes_read, len(groups)

    def _read_whole(self, number: int) -> bytes:
        """Read an extent that is a chunk file, and check its checksum."""
        extent = self._column.extents[number]
        assert isinstance(self._files, StoreFiles)  # Only these are checked.
        try:
            return self._files.read_checked(extent.file, extent.rows * self.record_bytes)
        except StoreCorruptError:
            self._files.check_identity(self._identity)  # Replaced, rather than damaged.
            raise

    def check_length(self, data: bytes, name: str, first: int, count: int) -> None:
        """Raise an error if a read gave fewer bytes than were asked for."""
        if len(data) < count:
            self._files.check_identity(self._identity)
            raise StoreCorruptError(
                f"{self._files.where(name)} ends {count - len(data)} bytes early; "
                f"{self._files.remedy}"
            )

    def check_identity(self) -> None:
        """Raise an error if the files have been replaced."""
        self._files.check_identity(self._identity)

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Any:
        """Yield the position and the bytes of each range of the files."""
        return self._files.read_many(ranges)


def take_columns(
    columns: Sequence[Any], rows: Sequence[NDArray[np.int64]], outs: Sequence[NDArray[Any]]
) -> None:
    """Fill an array for each column with records of it; those of files at a URL together.

    Parameters
    ----------
    columns : sequence of RangedRecords or others
        The columns of a table.
    rows : sequence of ndarray of int64
        The rows of each.
    outs : sequence of ndarray
        What to fill for each.
    """
    parts = list(zip(columns, rows, outs, strict=True))
    ranged = [column for column in columns if isinstance(column, RangedRecords)]
    checked = any(column.are_checked for column in ranged)
    if len(ranged) < len(columns) or len(columns) == 1 or checked:
        for column, some, out in parts:
            column.take(some, out)
        return
    start = time.perf_counter()
    bytes_read, reads = take_together(parts)
    ranged[0].stats.add(len(rows[0]), bytes_read, reads, 0, time.perf_counter() - start)


def take_together(
    parts: Sequence[tuple[RangedRecords, NDArray[np.int64], NDArray[Any]]],
) -> tuple[int, int]:
    """Fill arrays with records of columns that share their files, which are not checked.

    Parameters
    ----------
    parts : sequence of (RangedRecords, ndarray of int64, ndarray)
        The records of each column, the rows, and the array to fill.

    Returns
    -------
    bytes_read, read_count : int
    """
    fills = []
    wanted: list[tuple[str, int, int]] = []
    for records, rows, out in parts:
        if len(rows):
            target = as_records(out, records.record_bytes)
            left = records.kept.find(rows, target)
            reads = records.plan_reads(rows if left is None else rows[left])
            if left is not None:
                reads = replace(reads, positions=left[reads.positions])
            fills.append(_Fill(reads, target, len(wanted)))
            wanted += records.ranges(reads)
    starts = [fill.start for fill in fills]
    for batch in batches([count for _, _, count in wanted], BATCH_BYTES):
        some = wanted[batch.start : batch.stop]
        for at, data in parts[0][0].read_many(some):
            parts[0][0].check_length(data, *some[at])
            number = batch[at]
            fills[bisect_right(starts, number) - 1].put(number, data)
    if wanted:
        parts[0][0].check_identity()
    return sum(count for _, _, count in wanted), len(wanted)


class _Fill:
    """The reads of one column, and the array that they fill."""

    def __init__(self, reads: Reads, target: NDArray[Any], start: int) -> None:
        self.start = start  # Of its reads among those of all columns.
        self._size, self._target = target.dtype.itemsize, target
        self._bytes = self._target.view(np.uint8).data
        self._reads, self._bounds = reads, reads.bounds.tolist()

    def put(self, number: int, data: bytes) -> None:
        """Copy the records of a read to their places."""
        reads, size = self._reads, self._size
        start, stop = self._bounds[number - self.start : number - self.start + 2]
        if stop - start == 1:  # Most are; half the time.
            place = int(reads.positions[start]) * size
            self._bytes[place : place + size] = data
            return
        positions, offsets = reads.positions[start:stop], reads.offsets[start:stop]
        self._target[positions] = _items(data, size)[offsets]


class RangedReadAhead:
    """Reads ahead of lookups in columns at a URL: records are requested, and kept.

    Parameters
    ----------
    columns : sequence of RangedRecords
        The columns.
    shares : sequence of int
        How many rows share a record, for each column.
    take : callable
        Fills an array with what a lookup returns of rows: ``take(rows, out)``.
    """

    def __init__(
        self,
        columns: Sequence[RangedRecords],
        shares: Sequence[int],
        take: Callable[[NDArray[np.int64], NDArray[Any]], None],
    ) -> None:
        self._parts, self._take = list(zip(columns, shares, strict=True)), take

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Return the lookup of rows."""
        return Later(partial(self._take, rows), quick=False)

    def fetch(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Return functions that read the records of rows, and keep them."""
        if not len(rows):
            return []
        return [partial(column.keep, rows // share) for column, share in self._parts]


def _items(data: bytes, record_bytes: int) -> NDArray[Any]:
    """Return the record that starts at each byte of ``data``."""
    count = len(data) - record_bytes + 1
    return np.ndarray((count,), np.dtype((np.void, record_bytes)), data, strides=(1,))
