"""The writer of an array in the sharded layout: pieces become inner chunks, compressed.

It is an `ArrayWriter` whose pieces are whole inner chunks:

1. In the background, the inner chunks of a piece are compressed by as many threads as there are
   processors, and appended to the file of their shard.
2. After the last one of a shard, its index is written, and the file is flushed.

The files are what zarr would write, byte for byte.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from embstore.formats.own import spec
from embstore.formats.own.sharded import ShardedArray
from embstore.reading import workers
from embstore.writing.arrays import ArrayWriter, PiecePool

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.compression import Compression
    from embstore.writing.disk.background import Background


def shard_piece_bytes(piece_bytes: int, row_bytes: int) -> int:
    """Return the size of the pieces of sharded arrays, close to ``piece_bytes``.

    It is a power of two of inner chunks, one or more.

    Examples
    --------
    >>> shard_piece_bytes(4 << 20, 1200)  # 128 inner chunks of 16 rows and 27 rows
    2457600
    """
    inner_bytes = max(spec.choose_inner_rows(row_bytes) * row_bytes, 1)
    return inner_bytes << (max(piece_bytes // inner_bytes, 1).bit_length() - 1)


class ShardWriter(ArrayWriter):
    """Appends rows to a new array of the store in the sharded layout.

    Parameters
    ----------
    store : Path
        The directory of the store.
    name : str
        The array's path inside the store; its group must exist.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the rows.
    chunk_rows : int
        Rows in a shard.
    pool : PiecePool
        The source of pieces, whose size is `shard_piece_bytes`.
    background : Background
        The threads that write them.
    compression : Compression
        The codec of inner chunks.
    inner_rows : int, optional
        Rows in an inner chunk; by default chosen from the size of a row.
    """

    def __init__(
        self,
        store: Path,
        name: str,
        row_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunk_rows: int,
        pool: PiecePool,
        background: Background,
        compression: Compression,
        *,
        inner_rows: int | None = None,
    ) -> None:
        self._compression = compression
        self._inner_rows = inner_rows
        super().__init__(store, name, row_shape, dtype, chunk_rows, pool, background)
        self._inner_bytes = self._array.inner_bytes
        # Used by the writing thread: the sizes of the current shard's inner chunks, and their sum.
        self._sizes = array("Q")
        self._written_bytes = 0

    def _describe(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int
    ) -> ShardedArray:
        row_bytes = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
        inner_rows = min(self._inner_rows or spec.choose_inner_rows(row_bytes), chunk_rows)
        self._array = ShardedArray(name, shape, dtype, chunk_rows, inner_rows, self._compression)
        return self._array

    # The following methods run on the writing thread.

    def _store_piece(
        self, start: int, data: NDArray[np.uint8], piece: NDArray[np.uint8] | None, padding: int
    ) -> None:
        """Write the array's bytes from ``start`` on; all of ``data`` belongs to one shard."""
        chunk, within = divmod(start, self._chunk_bytes)
        path = self._chunk_path(chunk)
        if not within:
            self._checksum = self._written_bytes = 0
            self._sizes = array("Q")
        encoded = self._encode(data)
        self._sizes.extend(map(len, encoded))
        self._append(path, b"".join(encoded))
        if within + len(data) == self._chunk_bytes:
            self._end_chunk(path)
        elif padding:
            self._end_short(start + len(data), padding)
        if piece is not None:
            self._pool.give_back(piece)

    def _encode(self, data: NDArray[np.uint8]) -> list[bytes]:
        """Return the encoded inner chunks of some rows, the last one padded with zeros."""
        size, itemsize = self._inner_bytes, self._raw.dtype.itemsize
        starts = range(0, len(data), size)
        encoded = [b""] * len(starts)
        left = deque(enumerate(starts))

        def encode_some() -> None:
            while left:
                try:
                    at, start = left.popleft()
                except IndexError:  # Another thread took the last one.
                    return
                some = data[start : start + size]
                if len(some) < size:
                    some = np.concatenate([some, np.zeros(size - len(some), np.uint8)])
                encoded[at] = self._compression.encode(some, itemsize)

        threads = min(workers.processor_count(), len(starts))
        workers.together([encode_some] * threads, left.clear)
        return encoded

    def _end_short(self, start: int, count: int) -> None:
        """End the last shard: inner chunks without rows are absent."""
        del count
        self._end_chunk(self._chunk_path(start // self._chunk_bytes))

    def _end_chunk(self, path: Path) -> None:
        index = np.full((self._array.inner_count, 2), spec.ABSENT, "<u8")
        sizes = np.frombuffer(self._sizes, np.uint64)
        index[: len(sizes), 1] = sizes
        index[: len(sizes), 0] = np.cumsum(sizes) - sizes
        data = index.tobytes()
        tail = int(google_crc32c.value(data))
        self._append(path, data + tail.to_bytes(spec.CHECKSUM_BYTES, "little"))
        self._background.flush(path, self._written_bytes)
        self.listed.add(self._checksum, tail, self._written_bytes)

    def _append(self, path: Path, data: bytes) -> None:
        """Write bytes at the end of the current shard's file."""
        self._checksum = google_crc32c.extend(self._checksum, data)
        self._background.write_at(path, data, self._written_bytes)
        self._written_bytes += len(data)
