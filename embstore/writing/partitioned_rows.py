"""The rows of a store in progress, split among the writers of its partitions.

1. The chunk size depends on the number of rows. Until it is given, or the rows are known to be
   many, the first rows are held in memory.
2. Then the chunk size is settled, and each partition gets an `ArrayWriter`, to which its rows are
   appended. Under ``mod``, each batch has rows of every partition. So where these would be few,
   batches are collected first (`embstore.writing.collected_rows`), in the memory that the first
   rows were held in.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from embstore.formats.own import spec
from embstore.writing.collected_rows import CollectedRows
from embstore.writing.growth import chunk_count
from embstore.writing.mappings import check_chunk_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embstore.table.numbering import Numbering
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.words.new_words import MakeArray

# A batch is split at once if it has at least this number of bytes for each partition.
SPLIT_BYTES = 16 << 10
# How many more chunks may be written before they are counted again.
_CHECKED_CHUNKS = 64


class PartitionedRows:
    """The rows of a store in progress.

    Parameters
    ----------
    numbering : Numbering
        How rows are split; its row count may be an upper bound.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the Zarr arrays.
    make_array : callable
        Returns the writer of a new array.
    held_bytes : int
        The most bytes of rows to hold.
    estimated_rows : int, optional
        The number of rows, exact or estimated.
    padded : bool
        Whether the last chunk of a partition is padded to its full size; a shard is not.

    Attributes
    ----------
    chunk_rows : int
        Rows in a chunk; 1 until the chunk size is settled.
    writers : list of ArrayWriter
        One for each partition; empty until the chunk size is settled.
    """

    def __init__(
        self,
        numbering: Numbering,
        row_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        make_array: MakeArray,
        *,
        held_bytes: int,
        estimated_rows: int | None,
        padded: bool = True,
    ) -> None:
        self.chunk_rows = 1
        self.writers: list[ArrayWriter] = []
        self._numbering = numbering
        self._row_shape = row_shape
        self._dtype = dtype
        self._row_bytes = math.prod(row_shape) * dtype.itemsize
        self._make_array = make_array
        self._held_bytes = held_bytes
        self._estimated = estimated_rows
        self._padded = padded
        self._held: list[NDArray[Any]] = []
        count = numbering.partition_count
        self._collected: CollectedRows | None = None
        if count > 1 and numbering.strategy == "mod":
            most_bytes = min(count * SPLIT_BYTES, held_bytes)
            block_rows = max(most_bytes // max(self._row_bytes, 1), 1)
            self._collected = CollectedRows(row_shape, dtype, block_rows)
        self._checked_rows = 0

    def start(self, chunk_rows: int | None, *, exact: bool) -> None:
        """Settle the chunk size if it is given or can be chosen already.

        ``exact`` is whether the number of rows is exact.
        """
        if chunk_rows is not None:
            self._settle(chunk_rows)
        elif self._estimated is not None and (exact or self._is_many(self._estimated)):
            self._settle(self._choose_chunk_rows(self._estimated))

    def append(self, rows: NDArray[Any], start: int, *, copy: bool) -> None:
        """Append rows, shape (n, *row_shape), of the ids from ``start`` on.

        ``copy`` is whether they may change after the call.
        """
        if self.writers:
            self.check_count(start + len(rows))
            self._collect(rows, start, copy=copy)
            return
        self._held.append(rows.copy() if copy else rows)
        stop = start + len(rows)
        if self._is_many(stop):
            self._settle(self._choose_chunk_rows(max(stop, self._estimated or spec.MAX_ROWS)))

    def finish(self, rows: int) -> list[ArrayWriter]:
        """Return the writers of all partitions, after the last row."""
        if not self.writers:
            self._settle(self._choose_chunk_rows(rows))
        self.check_count(rows)
        if self._collected is not None:
            for some, start in self._collected.rest():
                self._spread(some, start, copy=True)
        return self.writers

    def close(self) -> None:
        """Drop the rows that are held."""
        self._held.clear()
        if self._collected is not None:
            self._collected.close()

    def _collect(self, rows: NDArray[Any], start: int, *, copy: bool) -> None:
        """Split rows among the partitions, at once or with the rows that follow."""
        if self._collected is None:
            self._spread(rows, start, copy=copy)
            return
        for some, first in self._collected.add(rows, start):
            self._spread(some, first, copy=copy or some is not rows)

    def _spread(self, rows: NDArray[Any], start: int, *, copy: bool) -> None:
        numbering, stop = self._numbering, start + len(rows)
        is_div = numbering.strategy == "div"
        for partition, piece in numbering.spread(start, stop):
            self.writers[partition].append(rows[piece], copy=copy)
            # The number of rows is exact under `div`, and no more rows of this partition follow.
            if is_div and start + piece.stop == numbering.ids_of(partition).stop:
                self.writers[partition].finish()

    def check_count(self, rows: int) -> None:
        """Refuse so many rows that a process could not map their chunks.

        Raises
        ------
        ValueError
            If there would be too many chunks.
        """
        if rows <= self._checked_rows or not self.writers:
            return
        count = self._numbering.partition_count
        self._checked_rows = rows + _CHECKED_CHUNKS * self.chunk_rows
        chunks = chunk_count(rows, count, self.chunk_rows)
        check_chunk_count(chunks, count, self.chunk_rows * self._row_bytes)

    def _settle(self, chunk_rows: int) -> None:
        """Settle the chunk size, create the writers, and append the held rows."""
        self.chunk_rows = chunk_rows
        self.writers = [
            self._make_array(spec.partition_name(p), self._row_shape, self._dtype, chunk_rows)
            for p in range(self._numbering.partition_count)
        ]
        start, held = 0, deque(self._held)
        self._held.clear()
        while held:
            rows = held.popleft()  # Its memory is free once it is collected.
            self._collect(rows, start, copy=False)
            start += len(rows)

    def _is_many(self, rows: int) -> bool:
        """Return whether this many rows exceed what may be held; then an estimate is enough."""
        return rows * self._row_bytes > self._held_bytes

    def _choose_chunk_rows(self, rows: int) -> int:
        count = self._numbering.partition_count
        longest = -(-rows // count)
        most = spec.MAX_CHUNK_BYTES
        if rows != spec.MAX_ROWS:
            most = spec.choose_chunk_bytes(rows * self._row_bytes)
        elif self._padded:
            # The number of rows is unknown, and the last chunk of every partition is padded.
            most = max(most // count, spec.SMALL_CHUNK_BYTES)
        if not self._padded:
            return spec.choose_shard_rows(longest, self._row_bytes, most)
        return spec.choose_chunk_rows(longest, self._row_bytes, most, count)
