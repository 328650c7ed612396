"""Records of compressed columns: a lookup decodes the inner chunks that hold its rows.

1. The rows are grouped by inner chunk. Groups are shared by threads; decoding releases the GIL.
2. `embstore.reading.decoded` keeps the inner chunks that were used last. For the others,
   `embstore.reading.shards` tells where they are; through a mapping, all of a slice are announced
   first, so that the kernel reads them at once.
3. Each is decoded once in a lookup, and its records are copied to their places in the result.

A row costs the reading and decoding of a whole inner chunk, some tens of microseconds. Scans decode
every inner chunk once, and keep only those at the ends of their ranges.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.formats.own.compression import decode
from embstore.reading import workers
from embstore.reading.cached_shards import CachedShards
from embstore.reading.decoded import DecodedCache
from embstore.reading.gather import as_records
from embstore.reading.incore import Residency
from embstore.reading.inner_chunks import InnerGroups, cut_ranges
from embstore.reading.read_ahead import Later
from embstore.reading.shards import SLICE_CHUNKS
from embstore.reading.stats import StatsCounter
from embstore.table.plan import plan_inner_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.reading.shards import MappedShards, RangedShards, Spans
    from embstore.table.extents import Column
    from embstore.table.numbering import Numbering
    from embstore.table.plan import LookupPlan
    from embstore.table.protocols import VisitRecords

    AnyShards = MappedShards | RangedShards | CachedShards

# Handing work over takes 30 to 50 us, as long as decoding one inner chunk.
HELPED_CHUNKS = 4
# Rows that a scan passes on at a time, and `prefetch` announces at a time.
SCANNED_BYTES = 4 << 20
AHEAD_THREADS = 2


class CompressedRecords:
    """Records of a column whose extents are shards.

    Parameters
    ----------
    column : Column
        The shards; it has `inner_chunks`.
    shards : MappedShards, RangedShards or CachedShards
        Their files.
    dtype, row_shape : numpy.dtype, tuple of int
        How `take_one` returns a record.
    cache_bytes : int
        Most bytes of decoded inner chunks to keep.

    Attributes
    ----------
    stats : StatsCounter
        Counts of what was read: bytes of encoded inner chunks.
    cache : DecodedCache
        The inner chunks that are kept.
    record_bytes : int
        Size of a record.
    file_cache : Cache or None
        Brings the files of a remote store.
    """

    mapped: Literal[False] = False
    decodes: Literal[False] = False
    preloaded = False

    def __init__(
        self,
        column: Column,
        shards: AnyShards,
        dtype: np.dtype[Any],
        row_shape: tuple[int, ...],
        *,
        cache_bytes: int,
    ) -> None:
        assert column.inner_chunks is not None
        self.stats = StatsCounter(column.record_bytes)
        self._column = column
        self._shards = shards
        self.file_cache = shards.cache if isinstance(shards, CachedShards) else None
        self._codec, self._inner_rows = column.inner_chunks.codec, column.inner_chunks.rows
        self._shift = self._inner_rows.bit_length() - 1
        self._shard_shift = shards.layout.inner_count.bit_length() - 1
        self._first_rows = np.array(column.first_rows(), np.int64)
        self._dtype, self._row_shape = dtype, row_shape
        self.record_bytes = column.record_bytes
        self._inner_bytes = self._inner_rows * column.record_bytes
        self.cache = DecodedCache(cache_bytes, self._inner_bytes, self._inner_rows)

    def take_one(self, row: int) -> NDArray[Any]:
        """Return a copy of the record of one row, shape ``row_shape``."""
        out = np.empty((1, *self._row_shape), self._dtype)
        self._take_single(row, out)
        record: NDArray[Any] = out[0]
        return record

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`."""
        if len(rows) == 1:
            self._take_single(int(rows[0]), out)
            return
        start = time.perf_counter()
        bytes_read = hits = missed = 0
        if len(rows):
            target = as_records(out, self.record_bytes)
            lookup = InnerGroups(rows, self._shift)
            left = deque(self._slices(len(lookup.chunks)))
            sample = lookup.chunks[:: len(lookup.chunks) // SLICE_CHUNKS + 1].tolist()
            absent = sum(chunk not in self.cache for chunk in sample)
            count = min(workers.processor_count(), len(left)) if absent >= HELPED_CHUNKS else 1
            works = [partial(self._take_slices, lookup, target, left)] * count
            for some_bytes, some_hits, some_missed in workers.together(works, left.clear):
                bytes_read, hits = bytes_read + some_bytes, hits + some_hits
                missed += some_missed
            if not missed:
                self._shards.check()
        seconds = time.perf_counter() - start
        self.cache.note(len(rows), hits)
        self.stats.add(len(rows), bytes_read, int(missed > 0), int(not missed), seconds)

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def announce_ranges(self, ranges: Sequence[range]) -> None:
        """Do nothing: only files that are all mapped are announced."""

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one."""
        rows = max(SCANNED_BYTES // self._inner_bytes, 1) * self._inner_rows
        rows = min(1 << (rows.bit_length() - 1), self._shards.layout.shard_rows)
        todo = list(cut_ranges(ranges, rows))
        if not todo:
            return
        count = min(workers.processor_count(), len(todo))
        left = deque(range(len(todo)))
        work = partial(self._show_blocks, todo, left, count, visit)
        workers.together([work] * count, left.clear)

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Decode the inner chunks of rows into the cache; return how many rows it holds then."""
        if counts is not None:
            rows = rows[np.argsort(-counts, kind="stable")]
        chunks = rows >> self._shift
        if isinstance(self._shards, CachedShards):
            self._shards.bring(np.unique(chunks >> self._shard_shift))
        distinct, first = np.unique(chunks, return_index=True)
        wanted = distinct[np.argsort(first)][: self.cache.most]
        self.decode_all(wanted)
        held = [chunk for chunk in wanted.tolist() if chunk in self.cache]
        rows = np.unique(rows)
        return int(np.isin(rows >> self._shift, held).sum())

    def residency(self, rows: int) -> Residency:
        """Return how much of a table of some rows is in memory."""
        cached, size_bytes = self.cache.held()
        return Residency(
            table_bytes=rows * self.record_bytes,
            page_cache_bytes=self._shards.page_cache_bytes(),
            mapped_bytes=self._shards.mapped_bytes(),
            row_cache_bytes=size_bytes,
            row_cache_rows=cached,
        )

    def plan(self, rows: NDArray[np.int64], numbering: Numbering) -> LookupPlan:
        """Return the plan of a lookup of rows; it reads the indexes of their shards."""

        def cost(chunks: NDArray[np.int64]) -> tuple[int, int]:
            slices = (chunks[some.start : some.stop] for some in self._slices(len(chunks)))
            found = [self._shards.cost(self._spans(some)) for some in slices]
            return sum(requests for requests, _ in found), sum(count for _, count in found)

        return plan_inner_chunks(
            rows, numbering, self._first_rows, self.record_bytes, self._inner_rows, cost
        )

    @property
    def ahead(self) -> CompressedReadAhead:
        """Reads ahead of lookups."""
        return CompressedReadAhead(self, self.take)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the inner chunks of rows that are not decoded, ascending."""
        chunks = np.unique(rows >> self._shift)
        absent = [chunk not in self.cache for chunk in chunks.tolist()]
        found: NDArray[np.int64] = chunks[np.array(absent, np.bool_)]
        return found

    def announce(self, chunks: NDArray[np.int64]) -> None:
        """Have the kernel start reading inner chunks whose index entries are at hand."""
        known = chunks[self._shards.known(chunks >> self._shard_shift)] if len(chunks) else chunks
        if len(known):
            with suppress(StoreCorruptError):  # The lookup raises it.
                self._shards.announce(self._spans(known))

    def _take_single(self, row: int, out: NDArray[Any]) -> None:
        """Fill ``out``, shape (1, ...), with the record of one row, as `take` does."""
        start = time.perf_counter()
        chunk, bytes_read = row >> self._shift, 0
        block = self.cache.get(chunk)
        if block is None:
            shard = chunk >> self._shard_shift
            offset, size = self._shards.span(shard, chunk - (shard << self._shard_shift))
            data = self._shards.read(shard, offset, size)
            block, bytes_read = self._decoded(chunk, shard, offset, data), size
        else:
            self._shards.check()  # Without a mapping, rows of a replaced store are an error.
        as_records(out, self.record_bytes)[0] = block[row & (self._inner_rows - 1)]
        self.cache.note(1, int(not bytes_read))
        seconds = time.perf_counter() - start
        self.stats.add(1, bytes_read, int(bool(bytes_read)), int(not bytes_read), seconds)

    def _slices(self, chunk_count: int) -> Iterator[range]:
        """Yield slices of a lookup's inner chunks, small enough for all processors."""
        step = -(-chunk_count // workers.processor_count())
        step = max(min(step, self._shards.slice_chunks), 1)
        for first in range(0, chunk_count, step):
            yield range(first, min(first + step, chunk_count))

    def _take_slices(
        self, lookup: InnerGroups, target: NDArray[Any], left: deque[range]
    ) -> tuple[int, int, int]:
        """Fill ``target`` with slices until none is left.

        Returns
        -------
        bytes_read, hits, missed : int
            Bytes of inner chunks that were decoded, rows in others, and rows in them.
        """
        bytes_read = hits = missed = 0
        while left:
            try:
                some = left.popleft()
            except IndexError:  # Another thread took the last one.
                break
            chunks = lookup.chunks[some.start : some.stop]
            blocks = [self.cache.get(chunk) for chunk in chunks.tolist()]
            absent = [at for at, block in enumerate(blocks) if block is None]
            for at, block in enumerate(blocks):
                if block is not None:
                    hits += lookup.copy(some[at], block, target)
            del blocks
            if not absent:
                continue
            spans = self._spans(chunks[absent])
            for place, data in self._shards.read_each(spans):
                at = absent[place]
                block = self._decoded(int(chunks[at]), *spans.at(place), data)
                missed += lookup.copy(some[at], block, target)
            bytes_read += self._shards.cost(spans)[1]
        return bytes_read, hits, missed

    def _show_blocks(
        self, todo: Sequence[range], left: deque[int], ahead: int, visit: VisitRecords
    ) -> None:
        while left:
            try:
                at = left.popleft()
            except IndexError:  # Another thread took the last one.
                return
            for coming in todo[at + ahead : at + ahead + 1]:
                self.announce(self._chunks_of(coming))
            data = self._block(todo[at])
            self._shards.check()
            visit(todo[at], data)

    def _block(self, rows: range) -> NDArray[np.uint8]:
        """Return the records of consecutive rows of one shard, shape (n, record_bytes)."""
        out = np.empty((len(rows), self.record_bytes), np.uint8)
        flat, size = out.reshape(-1), self.record_bytes
        chunks = self._chunks_of(rows)
        spans = self._spans(chunks)
        for at, data in self._shards.read_each(spans):
            chunk, (shard, offset) = int(chunks[at]), spans.at(at)
            first = chunk << self._shift
            start, stop = max(first, rows.start), min(first + self._inner_rows, rows.stop)
            target = flat[(start - rows.start) * size : (stop - rows.start) * size]
            if len(target) == self._inner_bytes:
                self._decode(shard, offset, data, target)
                continue
            block = self.cache.get(chunk)
            if block is None:
                block = self._decoded(chunk, shard, offset, data)
            target[:] = block.view(np.uint8)[(start - first) * size : (stop - first) * size]
        return out

    def _chunks_of(self, rows: range) -> NDArray[np.int64]:
        return np.arange(rows.start >> self._shift, (rows.stop - 1 >> self._shift) + 1)

    def _spans(self, chunks: NDArray[np.int64]) -> Spans:
        """Return where inner chunks are, by their number in the column, shape (n,)."""
        shards = chunks >> self._shard_shift
        return self._shards.spans(shards, chunks - (shards << self._shard_shift))

    def _decoded(
        self, chunk: int, shard: int, offset: int, data: NDArray[np.uint8]
    ) -> NDArray[Any]:
        """Return the records of an inner chunk, shape (inner_rows,), and keep them."""
        out = np.empty(self._inner_bytes, np.uint8)
        self._decode(shard, offset, data, out)
        self._shards.check()  # Rows of a store that replaced this one must not be kept.
        block = as_records(out.reshape(self._inner_rows, -1), self.record_bytes)
        self.cache.put(chunk, block)
        return block

    def _decode(
        self, shard: int, offset: int, data: NDArray[np.uint8], out: NDArray[np.uint8]
    ) -> None:
        try:
            decode(self._codec, data, out)
        except ValueError as error:
            where = f"the inner chunk at byte {offset} {error}"
            raise self._shards.layout.corrupt(shard, where) from error

    def decode_all(self, chunks: NDArray[np.int64]) -> None:
        """Decode inner chunks that are not kept, on this thread, and keep them."""
        step = self._shards.slice_chunks
        for first in range(0, len(chunks), step):
            some = [c for c in chunks[first : first + step].tolist() if c not in self.cache]
            if some:
                spans = self._spans(np.array(some))
                for at, data in self._shards.read_each(spans):
                    self._decoded(some[at], *spans.at(at), data)


class CompressedReadAhead:
    """Reads ahead of lookups: inner chunks that are announced, or decoded early.

    Parameters
    ----------
    records : CompressedRecords
        The records.
    take : callable
        Fills an array with what a lookup returns of rows: ``take(rows, out)``.
    """

    def __init__(
        self,
        records: CompressedRecords,
        take: Callable[[NDArray[np.int64], NDArray[Any]], None],
    ) -> None:
        self._records, self._take = records, take

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Announce some inner chunks; return a function that fills an array with the records."""
        self._records.announce(self._records.missing(rows)[:SLICE_CHUNKS])
        return Later(partial(self._take, rows), quick=False)

    def fetch(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Return functions that decode the inner chunks of rows, as many as are kept."""
        chunks = self._records.missing(rows)[: self._records.cache.most]
        self._records.announce(chunks[:SLICE_CHUNKS])
        parts = [chunks[first::AHEAD_THREADS] for first in range(AHEAD_THREADS)]
        return [partial(self._records.decode_all, part) for part in parts if len(part)]
