"""The rows of the next version of a store: those of the old one, some replaced, some appended.

1. Appended rows are held in memory until it is known how large chunks will be
   (`embstore.writing.growth`), or until there are many. Where rows are replaced too, all are held,
   in a file beyond their share of the memory.
2. The chunks that will be rewritten are compared with their checksums.
3. Then each partition that changes gets a writer. It takes over the chunks that stay the same;
   of others it gets the old rows, with the replaced ones in their place; then the appended rows.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import storage_dtype
from embstore.formats.own import spec
from embstore.formats.own.row_sums import RowSums
from embstore.reading.pipeline import in_order
from embstore.table.numbering import Numbering
from embstore.writing.disk.scratch import ScratchArray
from embstore.writing.growth import assumed_rows, chunk_count, grown_chunk_rows
from embstore.writing.mappings import check_chunk_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.formats.own.spec import RawArray
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.versions.next_version import NextVersion
    from embstore.writing.versions.pending_rows import PendingRows


class ChangedRows:
    """The rows of the next version.

    Parameters
    ----------
    version : NextVersion
        The version to write.
    estimated_rows : int
        An estimate of the number of rows to append, 0 if unknown.
    replaces : bool
        Whether rows are replaced, too.

    Attributes
    ----------
    chunk_rows : int
        Rows in a chunk of the next version, once the first row is written.
    sums : RowSums
        The sums of the rows that replace others, less those of the replaced ones.
    """

    def __init__(self, version: NextVersion, *, estimated_rows: int, replaces: bool) -> None:
        manifest = version.manifest
        self.chunk_rows = manifest.chunk_rows
        self.sums = RowSums()
        self._version = version
        self._manifest = manifest
        self._estimated = estimated_rows
        self._count = manifest.partition_count
        # Of `mod`, or of one partition, which do not need the number of rows.
        self._numbering = Numbering(spec.MAX_ROWS, self._count, manifest.strategy)
        # The places of old rows: each partition begins at a whole chunk.
        self._chunks_each = manifest.partition(0).chunk_count
        distance = self._chunks_each * manifest.chunk_rows
        self.places = Numbering(manifest.rows, self._count, manifest.strategy, distance)
        self._writers: dict[int, ArrayWriter] = {}
        self._is_settled = False
        self._held: list[NDArray[Any]] = []
        self._held_rows = 0
        share = version.memory.held_bytes
        self._scratch = ScratchArray(np.uint8, share, version.directory) if replaces else None
        self._pending: PendingRows | None = None
        self._touched: dict[int, set[int]] = defaultdict(set)  # Chunks, by partition.

    def append(self, rows: NDArray[Any], start: int, *, copy: bool) -> None:
        """Append rows as they are stored, shape (n, *row_shape), of the ids from ``start`` on.

        ``copy`` is whether they may change after the call.
        """
        self._held_rows += len(rows)
        if self._is_settled:
            self._spread(rows, start, copy=copy)
        elif self._scratch is not None:
            self._scratch.append(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
        else:
            self._held.append(rows.copy() if copy else rows)
            if self._held_rows * self._manifest.row_bytes > self._version.memory.held_bytes:
                known = self._manifest.rows + self._held_rows
                estimated = self._manifest.rows + self._estimated
                if not self._estimated:
                    estimated = assumed_rows(self._manifest.rows, self._held_rows)
                self._settle(max(known, estimated))

    def finish(self, pending: PendingRows | None) -> None:
        """Write everything that is left, after the last row.

        Parameters
        ----------
        pending : PendingRows or None
            The rows that replace others, settled.

        Raises
        ------
        StoreCorruptError
            If a chunk of the old version is damaged.
        """
        if pending is not None:
            self._pending = pending
            for chunk in pending.chunks(self._manifest.chunk_rows).tolist():
                partition, within = divmod(chunk, self._chunks_each)
                self._touched[partition].add(within)
        if not self._is_settled:
            self._settle(self._manifest.rows + self._held_rows)
        elif self._held_rows:
            self._check_count(self._manifest.rows + self._held_rows)
        if self.chunk_rows != self._manifest.chunk_rows:
            for partition in range(self._count):  # Those for which no row came.
                if partition not in self._writers:
                    self._begin(partition, grows=False)

    def close(self) -> None:
        """Free the memory and the disk space that only the change needed."""
        self._held.clear()
        if self._scratch is not None:
            self._scratch.close()

    def growth(self) -> int | None:
        """Return how many chunks the partitions had when all were last written."""
        old = self._manifest
        if not self._held_rows:
            return old.chunks_at_rewrite
        rows = old.rows
        if self.chunk_rows != old.chunk_rows:
            rows += self._held_rows
        elif old.chunks_at_rewrite is not None:
            return old.chunks_at_rewrite
        return chunk_count(rows, self._count, self.chunk_rows)

    def _settle(self, rows: int) -> None:
        """Choose the size of chunks for a number of rows, check chunks, and write what is held."""
        old = self._manifest
        before = old.chunks_at_rewrite
        if before is None:
            before = chunk_count(old.rows, self._count, old.chunk_rows)
        if self._held_rows:
            self.chunk_rows = grown_chunk_rows(
                rows, self._count, old.chunk_rows, old.row_bytes, before
            )
            self._check_count(old.rows + self._held_rows)
        growing = {
            (old.rows + number) % self._count for number in range(min(self._count, rows - old.rows))
        }
        self._is_settled = True
        partitions = growing | set(self._touched)
        if self.chunk_rows != old.chunk_rows:
            partitions = set(range(self._count))
        self._check([(p, p in growing) for p in sorted(partitions)])
        # Of a stream, the number of rows may be wrong, so writers are made when rows come.
        for partition in sorted(partitions - growing):
            self._begin(partition, grows=False)
        start = old.rows
        for some in self._held_blocks():
            self._spread(some, start, copy=False)
            start += len(some)
        self.close()

    def _check_count(self, rows: int) -> None:
        """Refuse an append that makes more chunks than a process can map."""
        before = chunk_count(self._manifest.rows, self._count, self._manifest.chunk_rows)
        count = chunk_count(rows, self._count, self.chunk_rows)
        if count > before:
            chunk_bytes = self.chunk_rows * self._manifest.row_bytes
            check_chunk_count(count, self._count, chunk_bytes)

    def _held_blocks(self) -> Iterator[NDArray[Any]]:
        yield from self._held
        if self._scratch is not None and len(self._scratch):
            dtype, row_shape = self._manifest.stored
            row_bytes = self._manifest.row_bytes
            data = self._scratch.array.reshape(-1, row_bytes)
            step = max((1 << 20) // row_bytes, 1)
            for first in range(0, len(data), step):
                some = data[first : first + step].copy()
                yield some.reshape(-1).view(storage_dtype(dtype)).reshape(-1, *row_shape)
                self._scratch.release()

    def _check(self, partitions: list[tuple[int, bool]]) -> None:
        """Compare the chunks that will be rewritten with their checksums."""
        chunks = [
            (array, chunk)
            for partition, grows in partitions
            for array in [self._old_array(partition)]
            for chunk in self._rewritten(array, partition, grows=grows)
        ]
        check = partial(_apply, self._version.check_chunk)
        with closing(in_order(check, chunks, thread_name="embstore-check")) as checked:
            for _ in checked:
                pass

    def _spread(self, rows: NDArray[Any], start: int, *, copy: bool) -> None:
        for partition, piece in self._numbering.spread(start, start + len(rows)):
            if partition not in self._writers:
                self._begin(partition, grows=True)
            self._writers[partition].append(rows[piece], copy=copy)

    def _old_array(self, partition: int) -> RawArray:
        return self._version.array(spec.partition_name(partition))[0]

    def _rewritten(self, array: RawArray, partition: int, *, grows: bool) -> list[int]:
        """Return the chunks of an old partition that are rewritten."""
        if self.chunk_rows != array.chunk_rows:
            return list(range(array.chunk_count))
        whole = array.shape[0] // array.chunk_rows
        last = set(range(whole, array.chunk_count)) if grows else set()
        return sorted(self._touched.get(partition, set()) | last)

    def _begin(self, partition: int, *, grows: bool) -> None:
        """Make the writer of a partition, with all old rows."""
        array = self._old_array(partition)
        writer = self._version.new_partition(partition, self.chunk_rows)
        self._writers[partition] = writer
        rewritten = self._rewritten(array, partition, grows=grows)
        for before, chunk in pairwise([-1, *rewritten, array.chunk_count]):
            self._version.take_over(writer, array, range(before + 1, chunk))
            if chunk < array.chunk_count:
                self._rewrite(writer, array, partition, chunk)

    def _rewrite(self, writer: ArrayWriter, array: RawArray, partition: int, chunk: int) -> None:
        """Append the rows of an old chunk, with those in place that replace others."""
        place = (partition * self._chunks_each + chunk) * array.chunk_rows
        is_touched = chunk in self._touched.get(partition, set())
        for piece in self._version.read_chunk(array, chunk):
            if is_touched and self._pending is not None:
                places, ids, rows = self._pending.part(place, place + len(piece))
                if len(places):
                    self.sums.subtract(piece[places - place], ids)
                    self.sums.add(rows, ids)
                    piece[places - place] = rows
            writer.append(piece)  # Only bytes matter to the writer.
            place += len(piece)


def _apply(check: Any, chunk: tuple[RawArray, int]) -> None:
    check(*chunk)
