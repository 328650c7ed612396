"""Records of several columns, or of an encoding that is not plain, decoded as they are read.

A row's records are gathered from every column, and an encoding turns them into numbers. Record
``row // B`` of a column belongs to the row, if its records are each for ``B`` rows.

1. Of mapped columns, `embstore.reading.decoded_slices` gathers and decodes a slice of a lookup. A
   cold slice is announced in all columns before any of them is gathered: their reads overlap.
   `embstore.reading.sharing` shares slices among threads, as it does for plain rows; so one thread
   decodes while others wait for the device.
2. Of columns that are read range by range, all records of a lookup are read, and then decoded.
3. `raw_records` and `cast_records` are the same columns with another encoding: the bytes of all
   columns side by side, or numbers of another dtype.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from embstore.encodings.cast import Cast
from embstore.encodings.joined import Joined
from embstore.progress import Progress
from embstore.reading.compressed import CompressedReadAhead, CompressedRecords
from embstore.reading.decoded_slices import DecodedSlices, row_bytes
from embstore.reading.encoded_ahead import EncodedReadAhead
from embstore.reading.incore import Residency
from embstore.reading.ranged import RangedReadAhead, RangedRecords, take_columns
from embstore.reading.read_ahead import NoReadAhead
from embstore.reading.sharing import SMALL_ROWS, Found, SharedGather
from embstore.reading.stats import StatsCounter
from embstore.reading.warmth import BLOCK_BYTES, Warmth
from embstore.table.plan import join_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.encodings.plain import Plain
    from embstore.progress import OnProgress
    from embstore.reading.mapped import MappedRecords
    from embstore.reading.no_records import NoRecords
    from embstore.table.numbering import Numbering
    from embstore.table.plan import LookupPlan
    from embstore.table.protocols import Encoding, Visit

    StoredRecords: TypeAlias = MappedRecords | RangedRecords | CompressedRecords | NoRecords

# Rows that are decoded at a time, by a scan, or without a mapping.
DECODED_BYTES = 4 << 20


class EncodedRecords:
    """Rows of a table, decoded from the records of its columns.

    Parameters
    ----------
    columns : sequence of MappedRecords, RangedRecords or CompressedRecords
        The records, one reader for each column. Mapped ones share a ``warmth``.
    shares : sequence of int
        How many rows share a record, for each column; 1 for the first.
    encoding : Encoding
        Decodes the records.
    stats : StatsCounter, optional
        Counts lookups; by default a new one.
    preloaded : bool
        Whether everything was read into RAM.

    Attributes
    ----------
    columns, shares, encoding
        As given.
    stats : StatsCounter
        Counts of what was read.
    cache : RowCache, DecodedCache or None
        The row cache, of the first column.
    preloaded : bool
        Whether everything was read into RAM.
    decodes : bool
        Whether a scan gives rows, and not records.
    """

    decodes: Literal[True] = True

    def __init__(
        self,
        columns: Sequence[StoredRecords],
        shares: Sequence[int],
        encoding: Encoding,
        stats: StatsCounter | None = None,
        *,
        preloaded: bool = False,
    ) -> None:
        self.columns, self.shares, self.encoding = tuple(columns), tuple(shares), encoding
        first = self.columns[0]
        self.stats = StatsCounter(encoding.record_bytes) if stats is None else stats
        self.mapped, self.cache, self.file_cache = first.mapped, first.cache, first.file_cache
        self.preloaded = preloaded
        self.warmth = Warmth()
        self._slices: DecodedSlices | None = None
        mapped = [column for column in self.columns if column.mapped]
        if mapped:
            self.warmth = mapped[0].warmth
            self._slices = DecodedSlices(
                [column.slices for column in mapped], self.shares, encoding
            )
            self._shared = SharedGather(self._slices, self.warmth)

    def take_one(self, row: int) -> NDArray[Any]:
        """Return the row, shape ``row_shape``, a new array."""
        out = np.empty((1, *self.encoding.row_shape), self.encoding.dtype)
        self.take(np.array([row]), out)
        found: NDArray[Any] = out[0]
        return found

    def announce_few(self, rows: NDArray[np.int64]) -> Callable[[NDArray[Any]], None]:
        """Announce a few mapped rows, if they are cold; return what fills an array with them."""
        return partial(self.take, rows, announced=self._shared.announce(rows))

    def take(
        self,
        rows: NDArray[np.int64],
        out: NDArray[Any],
        probed_bytes: int = 0,
        *,
        announced: int | None = None,
    ) -> None:
        """Fill ``out``, shape (n, *row_shape), with the rows; of any dtype that decodes to.

        ``probed_bytes`` were read for this lookup before. If they were announced, ``announced``
        blocks are being read.
        """
        start = perf_counter()
        if self._slices is None:
            self._take_ranged(rows, out, start)
            return
        if len(rows) == 0:
            found = Found(0, 0, 1)
        elif len(rows) <= SMALL_ROWS or announced is not None:
            found = self._shared.fill_here(rows, out, announced)
        else:
            found = self._shared.fill(rows, out)
        seconds = perf_counter() - start
        bytes_read = probed_bytes + found.blocks * BLOCK_BYTES
        self.stats.add(len(rows), bytes_read, found.cold, found.warm, seconds)

    def fill(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows of mapped columns, as `take`, but do not count it as a lookup."""
        if len(rows):
            self._shared.fill(rows, out)

    def scan_ranges(self, ranges: Sequence[range], visit: Visit) -> None:
        """Pass the rows of several ranges to ``visit``, decoded, in blocks, in any order.

        Parameters
        ----------
        ranges : sequence of range
            Rows of the columns.
        visit : callable
            Called with a range of rows, and these, shape (n, *row_shape).
        """
        step = max(DECODED_BYTES // row_bytes(self.encoding), 1)

        def show(rows: range, records: NDArray[np.uint8]) -> None:
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                fields = [records[start : start + step]]
                for column, share in zip(self.columns[1:], self.shares[1:], strict=True):
                    fields.append(self._run(column, share, some))
                block = np.empty((len(some), *self.encoding.row_shape), self.encoding.dtype)
                self.encoding.decode(tuple(fields), block)
                visit(some, block)

        self.columns[0].scan_ranges(ranges, show)

    def announce_ranges(self, ranges: Sequence[range]) -> None:
        """Start reading the records of ranges of rows in all columns, where supported."""
        for column, share in zip(self.columns, self.shares, strict=True):
            column.announce_ranges(
                [range(some.start // share, (some.stop - 1) // share + 1) for some in ranges]
            )

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Copy rows to the row cache or, without one, read them; return how many are there."""
        for column, share in zip(self.columns[1:], self.shares[1:], strict=True):
            column.warm(rows // share, None)
        return self.columns[0].warm(rows // self.shares[0], counts)

    def preload(self, progress: OnProgress | None) -> None:
        """Read everything into RAM and map it; see `embstore.reading.residence`."""
        mapped = [column for column in self.columns if column.mapped]
        total, before = sum(column.mapped_file_bytes for column in mapped), 0
        for column in mapped:

            def show(some: Progress, before: int = before) -> None:
                assert progress is not None
                progress(Progress(before + some.done_bytes, total))

            column.preload(None if progress is None else show)
            before += column.mapped_file_bytes
        self.preloaded = True

    def residency(self, rows: int) -> Residency:
        """Return how much of a table of ``rows`` is in memory: the sums over its columns."""
        found = [
            column.residency(-(-rows // share))
            for column, share in zip(self.columns, self.shares, strict=True)
        ]
        return Residency(
            table_bytes=sum(one.table_bytes for one in found),
            page_cache_bytes=sum(one.page_cache_bytes for one in found),
            mapped_bytes=sum(one.mapped_bytes for one in found),
            row_cache_bytes=found[0].row_cache_bytes,
            row_cache_rows=found[0].row_cache_rows,
        )

    def plan(self, rows: NDArray[np.int64], numbering: Numbering) -> LookupPlan:
        """Return the plan of a lookup; its groups are those of the first column."""
        return join_plans(
            [
                column.plan(rows // share, numbering)
                for column, share in zip(self.columns, self.shares, strict=True)
            ],
            rows,
        )

    @property
    def ahead(self) -> EncodedReadAhead | CompressedReadAhead | RangedReadAhead | NoReadAhead:
        """Reads ahead of lookups."""
        first = self.columns[0]
        if isinstance(first, CompressedRecords):
            return CompressedReadAhead(first, self.take)
        ranged = [column for column in self.columns if isinstance(column, RangedRecords)]
        if ranged and ranged[0].is_remote:
            return RangedReadAhead(ranged, self.shares, self.take)
        if self._slices is None:
            ahead = first.ahead
            assert isinstance(ahead, NoReadAhead)  # Of records that are not mapped.
            return ahead.of(self.take)
        parts = [column.ahead for column in self.columns if column.mapped]
        return EncodedReadAhead(self._slices, parts, self.shares, self.stats, self.take)

    def _take_ranged(self, rows: NDArray[np.int64], out: NDArray[Any], start: float) -> None:
        before = [column.stats.snapshot() for column in self.columns]
        records = [np.empty((len(rows), one.record_bytes), np.uint8) for one in self.columns]
        take_columns(self.columns, [rows // share for share in self.shares], records)
        step = max(DECODED_BYTES // row_bytes(self.encoding), 1)
        for first in range(0, len(rows), step):
            fields = tuple(some[first : first + step] for some in records)
            self.encoding.decode(fields, out[first : first + step])
        if self.columns[0].stats is self.stats:  # It has counted them.
            return
        after = [column.stats.snapshot() for column in self.columns]
        pairs = list(zip(before, after, strict=True))
        bytes_read = sum(new.bytes_read - old.bytes_read for old, new in pairs)
        cold = sum(new.cold_slices - old.cold_slices for old, new in pairs)
        self.stats.add(len(rows), bytes_read, cold, 0, perf_counter() - start)

    def _run(self, column: StoredRecords, share: int, rows: range) -> NDArray[np.uint8]:
        """Return a column's records of consecutive rows, shape (n, record_bytes)."""
        first, stop = rows.start // share, (rows.stop - 1) // share + 1
        found = np.empty((stop - first, column.record_bytes), np.uint8)

        def put(some: range, records: NDArray[np.uint8]) -> None:
            found[some.start - first : some.stop - first] = records

        column.scan_ranges([range(first, stop)], put)
        return found if share == 1 else found[np.arange(rows.start, rows.stop) // share - first]


def raw_records(records: StoredRecords | EncodedRecords) -> EncodedRecords:
    """Return the records of all columns, side by side, as rows of bytes."""
    columns, shares = _columns(records)
    joined = Joined(tuple(column.record_bytes for column in columns))
    preloaded = records.mapped and records.preloaded
    return EncodedRecords(columns, shares, joined, records.stats, preloaded=preloaded)


def cast_records(records: StoredRecords, plain: Plain) -> EncodedRecords:
    """Return plain rows as numbers of any float dtype."""
    preloaded = records.mapped and records.preloaded
    return EncodedRecords([records], [1], Cast(plain), records.stats, preloaded=preloaded)


def _columns(records: Any) -> tuple[Any, Any]:
    if isinstance(records, EncodedRecords):
        return records.columns, records.shares
    return (records,), (1,)
