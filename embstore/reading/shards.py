"""Shard files: where their inner chunks are, and their bytes, through a mapping or by reads.

The index of a shard is checked when it is first used: its checksum, and that the inner chunks stand
one behind the other from byte 0 to the index. What it says of an inner chunk is compared with the
bounds again each time, because a mapped file may be written to.

* `MappedShards` maps all files. It keeps no index but one bit for each shard: an entry is read from
  the mapping, so a table of terabytes costs no memory.
* `RangedShards` reads bytes of files when they are needed, and keeps the last few indexes. Of files
  at a URL, it requests the indexes of many shards at once, then many inner chunks; those that lie
  close together by one request.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD
from embstore.formats.own.sharded import check_index
from embstore.reading.incore import mapped_bytes, page_cache_bytes
from embstore.reading.ranged import MAX_GAP_BYTES, READ_BYTES
from embstore.table.addresses import PAGE_BYTES, lay_out
from embstore.table.extents import Column, Extent
from embstore.table.reads import Reads, plan_range_reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embstore.reading.files import LocalFiles
    from embstore.table.protocols import Files

# Indexes that `RangedShards` keeps, of files on a disk and of others.
KEPT_INDEX_BYTES = 16 << 20
KEPT_REMOTE_INDEX_BYTES = 64 << 20
# Inner chunks whose reads are in flight together; of files on another machine, as many as have some
# bytes before they are encoded.
SLICE_CHUNKS = 64
REMOTE_SLICE_CHUNKS = 1024
REMOTE_SLICE_BYTES = 32 << 20


class Spans(NamedTuple):
    """Places of encoded inner chunks: their shards, offsets in the files and sizes, shape (n,)."""

    shards: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def at(self, place: int) -> tuple[int, int]:
        """Return the shard and the offset of an inner chunk."""
        return int(self.shards[place]), int(self.offsets[place])

    def each(self) -> Iterator[tuple[int, int, int]]:
        """Yield the shard, offset and size of each inner chunk."""
        return zip(self.shards.tolist(), self.offsets.tolist(), self.sizes.tolist(), strict=True)


class ShardLayout:
    """The shards of a column, as both readers know them.

    Parameters
    ----------
    column : Column
        Each extent is a shard, or a gap of as many rows.
    files : LocalFiles or Files
        Their files.
    check : callable, optional
        Called before an error is made; it may raise another one.

    Raises
    ------
    StoreCorruptError
        If a file is missing, or too short for an index.
    """

    def __init__(
        self, column: Column, files: LocalFiles | Files, check: Callable[[], None] | None = None
    ) -> None:
        assert column.inner_chunks is not None
        self.files = files
        self._check = check
        self.names = [extent.file for extent in column.extents]
        self.shard_rows = column.extents[0].rows if column.extents else column.inner_chunks.rows
        if any(extent.rows != self.shard_rows for extent in column.extents):
            raise ValueError("all shards of a column must have the same number of rows")
        self.inner_count = self.shard_rows // column.inner_chunks.rows
        self.index_bytes = self.inner_count * spec.ENTRY_BYTES
        self.sizes = np.array([files.size(name) if name else 0 for name in self.names], np.int64)
        # Where the index of each shard starts, and its inner chunks end.
        self.ends = self.sizes - (self.index_bytes + spec.CHECKSUM_BYTES)
        for name, end in zip(self.names, self.ends.tolist(), strict=True):
            if name and end <= 0:
                size = end + self.index_bytes + spec.CHECKSUM_BYTES
                raise StoreCorruptError(
                    f"{files.where(name)} has {size} bytes, too few for an index of "
                    f"{self.inner_count} inner chunks; {REBUILD}"
                )

    def entries(self, shard: int, index: bytes) -> NDArray[np.int64]:
        """Return the entries of a shard's index, as `check_index` does for its bytes.

        Raises
        ------
        StoreCorruptError
            If the index is wrong.
        """
        try:
            return check_index(index, int(self.ends[shard]))
        except ValueError as error:
            raise self.corrupt(shard, f"its index is wrong: {error}") from error

    def spans_of(
        self, shards: NDArray[np.int64], inner: NDArray[np.int64], entries: NDArray[np.int64]
    ) -> Spans:
        """Return the places of inner chunks, after checking their entries, shape (n, 2)."""
        offsets, sizes = entries[:, 0], entries[:, 1]
        ends = self.ends[shards]
        wrong = (sizes <= spec.CHECKSUM_BYTES) | (offsets < 0) | (sizes > ends)
        wrong |= offsets > ends - sizes
        if wrong.any():
            at = int(wrong.argmax())
            raise self.corrupt(int(shards[at]), f"its inner chunk {inner[at]} is missing")
        return Spans(shards, offsets, sizes)

    def entry_offset(self, shard: int, inner: int) -> int:
        """Return the place in its file of an inner chunk's entry in the index."""
        return int(self.ends[shard]) + inner * spec.ENTRY_BYTES

    def checked_span(self, shard: int, inner: int, offset: int, size: int) -> tuple[int, int]:
        """Return the offset and size of one inner chunk, after checking them."""
        if size <= spec.CHECKSUM_BYTES or not 0 <= offset <= int(self.ends[shard]) - size:
            raise self.corrupt(shard, f"its inner chunk {inner} is missing")
        return offset, size

    def corrupt(self, shard: int, problem: str) -> StoreCorruptError:
        """Return the error for a damaged shard."""
        if self._check is not None:
            self._check()
        return StoreCorruptError(f"{self.files.where(self.names[shard])}: {problem}; {REBUILD}")


class MappedShards:
    """Shards through a mapping of their files.

    Parameters
    ----------
    column : Column
        Its extents are the shards.
    files : LocalFiles
        Their files; any `embstore.reading.mapping.Opener`, if ``layout`` is given.
    resident_limit : int, optional
        Most bytes of the mapping that may be resident.
    layout : ShardLayout, optional
        The layout, if it is known.
    at_once : bool
        Whether to map all files now; otherwise, as `embstore.reading.present` does, one by one.

    Attributes
    ----------
    space : AddressSpace
        The mapping.
    places : list of MappedFile or None
        The place of each shard in it.

    Raises
    ------
    StoreCorruptError
        If a file is missing or too short.
    StoreMappingError
        If the system refuses the mapping.
    """

    unit_bytes = PAGE_BYTES
    slice_chunks = SLICE_CHUNKS

    def __init__(
        self,
        column: Column,
        files: Any,
        *,
        resident_limit: int | None = None,
        layout: ShardLayout | None = None,
        at_once: bool = True,
    ) -> None:
        # Imported here because they need modules that are missing on some systems.
        from embstore.reading.mapping import map_column, places_of  # noqa: PLC0415
        from embstore.reading.resident_limit import ResidentLimit  # noqa: PLC0415

        self.layout = ShardLayout(column, files) if layout is None else layout
        sizes = self.layout.sizes.tolist()
        named = zip(self.layout.names, sizes, strict=True)
        whole = Column(tuple(Extent(name, 0, size) for name, size in named), 1)
        addresses = lay_out(whole)
        self.places = places_of(whole, addresses)
        self._space = self.space = map_column(whole, addresses, files, at_once=at_once)
        self._starts = addresses.starts
        self._limit = None
        if resident_limit is not None:
            self._limit = ResidentLimit(resident_limit)
            self._limit.add(self._space)
        self._checked = bytearray(len(sizes))
        # The entry that starts at each byte, since an index may start at any.
        data, entry = self._space.data, np.dtype((np.void, spec.ENTRY_BYTES))
        count = max(len(data) - spec.ENTRY_BYTES + 1, 0)
        self._entries: NDArray[Any] = np.ndarray((count,), entry, data, strides=(1,))

    def spans(self, shards: NDArray[np.int64], inner: NDArray[np.int64]) -> Spans:
        """Return the places of inner chunks, by shard and number in it, shape (n,).

        Raises
        ------
        StoreCorruptError
            If the index of a shard is damaged, or an inner chunk is absent.
        """
        for shard in dict.fromkeys(shards.tolist()):
            if not self._checked[shard]:
                self._check(shard)
        places = self._starts[shards] + self.layout.ends[shards] + inner * spec.ENTRY_BYTES
        if self._limit is None:
            found = self._entries[places]
        else:
            order = np.argsort(places)
            ordered = places[order]
            entries = np.empty(len(places), self._entries.dtype)

            def take(start: int, stop: int) -> None:
                entries[start:stop] = self._entries[ordered[start:stop]]

            self._limit.visit(self._space, ordered, spec.ENTRY_BYTES, take)
            found = np.empty_like(entries)
            found[order] = entries
        return self.layout.spans_of(shards, inner, found.view("<i8").reshape(-1, 2))

    def span(self, shard: int, inner: int) -> tuple[int, int]:
        """Return the offset and size of one inner chunk; as `spans`, but ten times as fast."""
        if not self._checked[shard]:
            self._check(shard)
        entry = self.layout.entry_offset(shard, inner)
        found = self.read(shard, entry, spec.ENTRY_BYTES).view("<i8").tolist()
        return self.layout.checked_span(shard, inner, *found)

    def known(self, shards: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the index of each shard, shape (n,), has been read."""
        return np.frombuffer(self._checked, np.bool_)[shards]

    def announce(self, spans: Spans) -> None:
        """Have the kernel start reading inner chunks that are not cached."""
        begins = self._starts[spans.shards] + spans.offsets
        inside = begins & (PAGE_BYTES - 1)
        self._space.announce(begins - inside, spans.sizes + inside)

    def read(self, shard: int, offset: int, size: int) -> NDArray[np.uint8]:
        """Return the bytes of an inner chunk; of a mapping without a limit, a view."""
        begin = int(self._starts[shard]) + offset
        if self._limit is None:
            return self._space.data[begin : begin + size]
        out = np.empty(size, np.uint8)
        self._limit.copy(self._space, begin, out)
        return out

    def check(self) -> None:
        """Do nothing: a mapping stays when its files are replaced."""

    def read_each(self, spans: Spans) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the position of each inner chunk and its bytes, in any order."""
        if len(spans.shards) > 1:
            self.announce(spans)
        for at, span in enumerate(spans.each()):
            yield at, self.read(*span)

    def cost(self, spans: Spans) -> tuple[int, int]:
        """Return the requests and the bytes that `read_each` takes."""
        return 0, int(spans.sizes.sum())

    def page_cache_bytes(self) -> int:
        """Return the bytes of the files that are in the page cache."""
        return page_cache_bytes(self._space)

    def mapped_bytes(self) -> int:
        """Return the bytes of the files that are mapped."""
        return mapped_bytes(self._space)

    def _check(self, shard: int) -> None:
        size = self.layout.index_bytes + spec.CHECKSUM_BYTES
        index = self.read(shard, int(self.layout.ends[shard]), size)
        self.layout.entries(shard, index.tobytes())
        self._checked[shard] = True


class RangedShards:
    """Shards by reads of their files, which are opened for each read.

    Parameters
    ----------
    column : Column
        Its extents are the shards.
    files : Files
        Their files. `check` raises an error if they were replaced.
    """

    unit_bytes = 1

    def __init__(self, column: Column, files: Files) -> None:
        self.layout = ShardLayout(column, files, check=self.check)
        self._files = files
        self._identity = files.identity
        self._indexes: OrderedDict[int, NDArray[np.int64]] = OrderedDict()
        kept = KEPT_REMOTE_INDEX_BYTES if files.is_remote else KEPT_INDEX_BYTES
        self._most = max(kept // max(self.layout.index_bytes, 1), 1)
        self._max_gap = MAX_GAP_BYTES if files.is_remote else 0
        self.slice_chunks = SLICE_CHUNKS
        if files.is_remote:
            assert column.inner_chunks is not None
            most = REMOTE_SLICE_BYTES // (column.inner_chunks.rows * column.record_bytes)
            self.slice_chunks = min(max(most, SLICE_CHUNKS), REMOTE_SLICE_CHUNKS)

    def spans(self, shards: NDArray[np.int64], inner: NDArray[np.int64]) -> Spans:
        """Return the places of inner chunks; as `MappedShards.spans`."""
        entries = np.empty((len(shards), 2), np.int64)
        wanted = list(dict.fromkeys(shards.tolist()))
        for first in range(0, len(wanted), self._most):
            for shard, index in self._find_indexes(wanted[first : first + self._most]).items():
                chosen = shards == shard
                entries[chosen] = index[inner[chosen]]
        return self.layout.spans_of(shards, inner, entries)

    def span(self, shard: int, inner: int) -> tuple[int, int]:
        """Return the offset and size of one inner chunk; as `spans`."""
        index = self._find_indexes([shard])[shard]
        return self.layout.checked_span(shard, inner, *index[inner].tolist())

    def known(self, shards: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return False for each shard, shape (n,): nothing is read ahead."""
        return np.zeros(len(shards), np.bool_)

    def announce(self, spans: Spans) -> None:
        """Do nothing: an inner chunk is read when it is needed."""

    def read(self, shard: int, offset: int, size: int) -> NDArray[np.uint8]:
        """Return the bytes of an inner chunk."""
        try:
            data = self._files.read(self.layout.names[shard], offset, size)
        except StoreCorruptError:
            self.check()
            raise
        if len(data) < size:
            raise self.layout.corrupt(shard, "it became shorter since the store was opened")
        return np.frombuffer(data, np.uint8)

    def read_each(self, spans: Spans) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the position of each inner chunk and its bytes, in any order."""
        reads, names = self._reads(spans), self.layout.names
        shards = reads.extents.tolist()
        ranges = [(names[at], first, count) for at, first, count in reads.each()]
        try:
            for number, data in self._files.read_many(ranges):
                if len(data) < ranges[number][2]:
                    raise self.layout.corrupt(
                        shards[number], "it became shorter since the store was opened"
                    )
                found = np.frombuffer(data, np.uint8)
                for place in range(int(reads.bounds[number]), int(reads.bounds[number + 1])):
                    at, offset = int(reads.positions[place]), int(reads.offsets[place])
                    yield at, found[offset : offset + int(spans.sizes[at])]
        except StoreCorruptError:
            self.check()
            raise

    def cost(self, spans: Spans) -> tuple[int, int]:
        """Return the requests and the bytes that `read_each` takes."""
        reads = self._reads(spans)
        return len(reads) if self._files.is_remote else 0, int(reads.counts.sum())

    def _reads(self, spans: Spans) -> Reads:
        return plan_range_reads(
            spans.shards,
            spans.offsets,
            spans.sizes,
            max_gap=self._max_gap,
            max_bytes=READ_BYTES,
        )

    def check(self) -> None:
        """Raise `StoreNotFoundError` if the store was replaced or removed."""
        self._files.check_identity(self._identity)

    def page_cache_bytes(self) -> int:
        """Return 0: what the system keeps of the files is unknown."""
        return 0

    def mapped_bytes(self) -> int:
        """Return 0: nothing is mapped."""
        return 0

    def _find_indexes(self, shards: list[int]) -> dict[int, NDArray[np.int64]]:
        """Return the indexes of some shards; those that are not kept are read together."""
        # Several threads may do this at once; each step is atomic, and none depends on another.
        kept = {shard: self._indexes.get(shard) for shard in shards}
        found = {shard: index for shard, index in kept.items() if index is not None}
        absent = [shard for shard in shards if shard not in found]
        if not absent:
            return found
        size = self.layout.index_bytes + spec.CHECKSUM_BYTES
        ranges = [(self.layout.names[one], int(self.layout.ends[one]), size) for one in absent]
        try:
            for at, data in self._files.read_many(ranges):
                shard = absent[at]
                if len(data) < size:
                    raise self.layout.corrupt(shard, "it became shorter since it was opened")
                found[shard] = self._indexes[shard] = self.layout.entries(shard, data)
        except StoreCorruptError:
            self.check()
            raise
        while len(self._indexes) > self._most:
            with suppress(KeyError):  # Another thread emptied it.
                self._indexes.popitem(last=False)
        return found
