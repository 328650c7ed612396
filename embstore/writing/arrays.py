"""The writer of one array of a store, in pieces that are written while the next are filled.

1. Rows are copied one after the other into a piece: a few MiB that end at a multiple of the piece
   size or at the end of a chunk. (The page cache makes pages as large as one write, so whole pieces
   give a reader large pages.)
2. A full piece is queued in `embstore.writing.disk.background`. There its CRC-32C is added to that
   of its chunk, and it is written into the chunk's file. After the last piece of a chunk, the
   checksum is written and the file is flushed.
3. Once everything is written, zarr gives the array's metadata, to which the list of checksums is
   added.

The array grows with its rows, so its length need not be known. The files are what zarr would write,
byte for byte.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from embstore.formats.own import spec
from embstore.formats.own.sharded import ListedChunks
from embstore.formats.own.spec import RawArray
from embstore.formats.own.zero_checksums import extend_with_zeros
from embstore.writing.metadata import array_metadata

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.writing.disk.background import Background


class PiecePool:
    """Pieces of memory that are reused, because fresh memory costs as much as the copying.

    Parameters
    ----------
    piece_bytes : int
        Size of a piece, a power of two.
    """

    def __init__(self, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        self._free: list[NDArray[np.uint8]] = []

    def take(self) -> NDArray[np.uint8]:
        """Return a piece with arbitrary content."""
        try:
            return self._free.pop()
        except IndexError:
            return np.empty(self.piece_bytes, np.uint8)

    def give_back(self, piece: NDArray[np.uint8]) -> None:
        """Return a piece to the pool; any thread may call this."""
        self._free.append(piece)


class ArrayWriter:
    """Appends rows to a new array of the store.

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
        Rows in a chunk.
    pool : PiecePool
        The source of pieces.
    background : Background
        The threads that write them.

    Attributes
    ----------
    listed : ListedChunks
        The complete chunks so far, as the writing thread has come to them.
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
    ) -> None:
        self._store = store
        self._raw = self._describe(name, (0, *row_shape), dtype, chunk_rows)
        self._row_bytes = math.prod(row_shape) * dtype.itemsize
        self._row_count = 0
        self._chunk_bytes = self._raw.chunk_bytes
        self._pool = pool
        self._background = background
        self._size_bytes = 0  # Of all rows so far.
        self._piece: NDArray[np.uint8] | None = None
        self._filled = 0  # Bytes in the piece.
        self._is_ended = False  # Whether the last chunk is short and complete.
        # Used by the writing thread, as are the checksum and the path of the current chunk.
        self.listed = ListedChunks([], [], [])
        self._checksum = 0
        self._path: tuple[int, Path] | None = None
        background.make_directory(store / name)

    def append(self, rows: NDArray[Any], *, copy: bool = True) -> None:
        """Append rows, shape (n, *row_shape); without ``copy``, they must not change afterwards."""
        data = rows.reshape(-1).view(np.uint8) if rows.flags.c_contiguous else None
        done, total = 0, len(rows) * self._row_bytes
        self._row_count += len(rows)
        while done < total:
            room = self._room()
            count = min(room, total - done)
            if data is not None and not copy and count == room and not self._filled:
                self._write(data[done : done + count])
            else:
                piece = self._piece = self._pool.take() if self._piece is None else self._piece
                out = piece[self._filled : self._filled + count]
                if data is not None:
                    out[:] = data[done : done + count]
                else:
                    _gather(rows, done, out)
                self._filled += count
                if count == room:
                    self._write_piece(piece)
            done += count

    def take_over(self, array: RawArray, listed: ListedChunks, chunks: range) -> None:
        """Let the next chunks be those of another version, whose files are linked.

        After a chunk that is not full, nothing may follow.

        Parameters
        ----------
        array, listed : RawArray, ListedChunks
            The array of the other version, and what it lists.
        chunks : range
            The numbers of the chunks; all rows so far fill those before them.

        Raises
        ------
        ValueError
            If they do not.
        """
        if self._filled or self._size_bytes != chunks.start * self._chunk_bytes:
            raise ValueError(f"{self._raw.name} does not end before chunk {chunks.start}")
        rows = min(chunks.stop * self._raw.chunk_rows, array.shape[0])
        self._row_count, self._size_bytes = rows, rows * self._row_bytes
        self._is_ended = bool(rows % self._raw.chunk_rows)
        self._background.write(partial(self._list, listed, chunks), 0)

    def finish(self) -> None:
        """Queue the rest of the rows, and the padding of the last chunk; again, do nothing."""
        rest = (self._size_bytes + self._filled) % self._chunk_bytes
        padding = self._chunk_bytes - rest if rest and not self._is_ended else 0
        self._is_ended = self._is_ended or padding > 0
        if self._piece is not None:
            self._write_piece(self._piece, padding)
        elif padding:
            self._background.write(partial(self._end_short, self._size_bytes, padding), 0)

    def metadata(self) -> tuple[Path, bytes]:
        """Return the path and content of the array's metadata, once everything is written."""
        array = self.array
        return self._store / array.metadata_name, array_metadata(array, self.listed)

    @property
    def array(self) -> RawArray:
        """The array, with the rows that it has so far."""
        return replace(self._raw, shape=(self._row_count, *self._raw.shape[1:]))

    def _describe(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int
    ) -> RawArray:
        return RawArray(name, shape, dtype, chunk_rows)

    def _room(self) -> int:
        """Return how many bytes the current piece still takes."""
        piece_bytes, chunk_bytes = self._pool.piece_bytes, self._chunk_bytes
        within = (self._size_bytes + self._filled) % chunk_bytes
        return min(piece_bytes - within % piece_bytes, chunk_bytes - within)

    def _write_piece(self, piece: NDArray[np.uint8], padding: int = 0) -> None:
        filled = piece[: self._filled]
        self._piece, self._filled = None, 0
        self._write(filled, piece, padding)

    def _write(
        self, data: NDArray[np.uint8], piece: NDArray[np.uint8] | None = None, padding: int = 0
    ) -> None:
        work = partial(self._store_piece, self._size_bytes, data, piece, padding)
        self._size_bytes += len(data)
        self._background.write(work, len(data))

    # The following methods run on the writing thread.

    def _list(self, listed: ListedChunks, chunks: range) -> None:
        """List chunks of another version."""
        part = slice(chunks.start, chunks.stop)
        self.listed.checksums.extend(listed.checksums[part])
        self.listed.tails.extend(listed.tails[part])
        self.listed.sizes.extend(listed.sizes[part])

    def _store_piece(
        self, start: int, data: NDArray[np.uint8], piece: NDArray[np.uint8] | None, padding: int
    ) -> None:
        """Write the array's bytes from ``start`` on; all of ``data`` belongs to one chunk.

        With a ``padding``, they are the last ones, and it is what the chunk lacks.
        """
        chunk, within = divmod(start, self._chunk_bytes)
        path = self._chunk_path(chunk)
        if not within:
            self._checksum = 0
        self._checksum = google_crc32c.extend(self._checksum, data)
        self._background.write_at(path, data.data, within)
        if within + len(data) == self._chunk_bytes:
            self._end_chunk(path)
        elif padding:
            self._end_short(start + len(data), padding)
        if piece is not None:
            self._pool.give_back(piece)

    def _end_short(self, start: int, count: int) -> None:
        """Add the padding to the last chunk's checksum; in the file, the zeros are a hole."""
        self._checksum = extend_with_zeros(self._checksum, count)
        self._end_chunk(self._chunk_path(start // self._chunk_bytes))

    def _end_chunk(self, path: Path) -> None:
        checksum = self._checksum.to_bytes(spec.CHECKSUM_BYTES, "little")
        self._background.write_at(path, checksum, self._chunk_bytes)
        self._background.flush(path, self._raw.file_bytes)
        self.listed.add(self._checksum, self._checksum, self._raw.file_bytes)

    def _chunk_path(self, chunk: int) -> Path:
        if self._path is None or self._path[0] != chunk:
            self._path = chunk, self._store / self._raw.chunk_name(chunk)
        return self._path[1]


def _gather(rows: NDArray[Any], start: int, out: NDArray[np.uint8]) -> None:
    """Fill ``out`` with the bytes from ``start`` on of rows that are not contiguous."""
    row_bytes = rows[0].nbytes
    row, skipped = divmod(start, row_bytes)
    if skipped:  # The rest of a row whose first bytes are in the previous piece.
        count = min(row_bytes - skipped, len(out))
        out[:count] = _bytes(rows[row])[skipped : skipped + count]
        out, row = out[count:], row + 1
    whole, rest = divmod(len(out), row_bytes)
    out[: whole * row_bytes].view(rows.dtype).reshape(whole, *rows.shape[1:])[...] = rows[
        row : row + whole
    ]
    if rest:
        out[-rest:] = _bytes(rows[row + whole])[:rest]


def _bytes(row: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(row).reshape(-1).view(np.uint8)
