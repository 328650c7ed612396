"""Records by reads of files: slower than a mapping, but possible on any system.

1. The rows are grouped by extent.
2. A chunk of a store is read whole, and its checksum is checked. In another file, the records of a
   group become runs of bytes; records that lie close together are read as one run.
3. The records are put into request order.

Only one chunk or run is in memory at a time, and no file stays open. So a store that a build has
replaced can no longer be read; this raises an error.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.reading.files import StoreFiles
from embstore.reading.gather import as_records
from embstore.reading.incore import Residency
from embstore.reading.read_ahead import NoReadAhead
from embstore.reading.scanning import blocks
from embstore.reading.stats import StatsCounter
from embstore.table.addresses import lay_out
from embstore.table.plan import group_by_extent, plan_lookup, runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.reading.cached import Cache
    from embstore.table.extents import Column
    from embstore.table.numbering import Numbering
    from embstore.table.plan import LookupPlan
    from embstore.table.protocols import Files, VisitRecords

# Bytes of the records read at a time, and the most unneeded bytes between two of one read.
READ_BYTES = 8 << 20
MAX_GAP_BYTES = 64 << 10


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
    """

    mapped: Literal[False] = False
    decodes: Literal[False] = False
    file_cache: Cache | None = None  # Of the files of a remote store.
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

    def take_one(self, row: int) -> NDArray[Any]:
        """Return the record of one row, shape ``row_shape``."""
        out = np.empty((1, *self._row_shape), self._dtype)
        self.take(np.array([row]), out)
        record: NDArray[Any] = out[0]
        return record

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`."""
        begin = time.perf_counter()
        groups = group_by_extent(rows, self.addresses.first_rows)
        bytes_read = 0
        target = as_records(out, self.record_bytes) if len(rows) else out
        for group in groups:
            distinct, places = np.unique(group.rows, return_inverse=True)
            for start, records, count in self._read(group.extent, distinct):
                asked = (places >= start) & (places < start + len(records))
                target[group.positions[asked]] = records[places[asked] - start]
                bytes_read += count
        if groups:
            self._files.check_identity(self._identity)
        seconds = time.perf_counter() - begin
        self.stats.add(len(rows), bytes_read, len(groups), 0, seconds)

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Do nothing, because nothing is kept in memory; return 0."""
        return 0

    def plan(self, rows: NDArray[np.int64], numbering: Numbering) -> LookupPlan:
        """Return the plan of a lookup of rows, any shape."""
        # Checked files are read by whole extents.
        unit = None if self._files.checked else 1
        return plan_lookup(rows, numbering, self.addresses, unit=unit, max_gap=MAX_GAP_BYTES)

    def residency(self, rows: int) -> Residency:
        """Return that nothing of a table of some rows is kept in memory."""
        return Residency(table_bytes=rows * self.record_bytes)

    @property
    def ahead(self) -> NoReadAhead:
        """No reads ahead of lookups: a record is read when it is needed."""
        return NoReadAhead(self.take)

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one."""
        step = max(READ_BYTES // self.record_bytes, 1)
        most_rows = int(self.addresses.first_rows[-1]) if self._files.checked else step
        for block in blocks(ranges, self.addresses.first_rows, max(most_rows, 1)):
            first, count = block.first * self.record_bytes, len(block.rows) * self.record_bytes
            if self._files.checked:
                data = self._read_whole(block.extent)[first:]
            else:
                data = self._read_bytes(block.extent, first, count)
            self._files.check_identity(self._identity)
            # An array over bytes is read-only.
            records = np.frombuffer(data, np.uint8, count)
            visit(block.rows, records.reshape(-1, self.record_bytes))

    def _read(
        self, extent: int, rows: NDArray[np.int64]
    ) -> Iterator[tuple[int, NDArray[Any], int]]:
        """Read distinct, ascending rows of an extent, piece by piece.

        Yields
        ------
        start : int
            Position of the first record in ``rows``.
        records : ndarray of a void dtype, shape (n,)
            Their records.
        count : int
            Bytes read for them.
        """
        size = self.record_bytes
        if self._files.checked:
            data = self._read_whole(extent)
            yield 0, _items(data, size)[rows * size], len(data)
            return
        step = max(READ_BYTES // size, 1)
        for start in range(0, len(rows), step):
            offsets = rows[start : start + step] * size
            found = runs(offsets, size, max_gap=MAX_GAP_BYTES)
            stops = np.searchsorted(offsets, found.firsts + found.counts).tolist()
            done = 0
            for first, count, stop in zip(
                found.firsts.tolist(), found.counts.tolist(), stops, strict=True
            ):
                data = self._read_bytes(extent, first, count)
                yield start + done, _items(data, size)[offsets[done:stop] - first], count
                done = stop

    def _read_whole(self, number: int) -> bytes:
        """Read an extent that is a chunk file, and check its checksum."""
        extent = self._column.extents[number]
        assert isinstance(self._files, StoreFiles)  # Only these are checked.
        try:
            return self._files.read_checked(extent.file, extent.rows * self.record_bytes)
        except StoreCorruptError:
            self._files.check_identity(self._identity)  # Replaced, rather than damaged.
            raise

    def _read_bytes(self, number: int, first: int, count: int) -> bytes:
        """Read ``count`` bytes of an extent, ``first`` bytes after its start."""
        extent = self._column.extents[number]
        data = self._files.read(extent.file, extent.offset + first, count)
        if len(data) < count:
            self._files.check_identity(self._identity)
            raise StoreCorruptError(
                f"{self._files.where(extent.file)} ends {count - len(data)} bytes early; "
                f"{self._files.remedy}"
            )
        return data


def _items(data: bytes, record_bytes: int) -> NDArray[Any]:
    """Return the record that starts at each byte of ``data``."""
    count = len(data) - record_bytes + 1
    return np.ndarray((count,), np.dtype((np.void, record_bytes)), data, strides=(1,))
