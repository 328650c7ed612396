"""How does one array of the store get to disk? Chunk by chunk, through zarr.

`ArrayWriter` buffers rows until they fill a chunk, has zarr write it, and at the end notes the
chunks' checksums beside the array. The array grows with its chunks, so its length need not be
known. zarr is imported when something is written, not before.

An interrupt (Ctrl-C) does not stop what zarr has under way on its own threads, which would then
write into a directory that is being removed. So `ZarrThread` makes all its calls, and is closed, at
the end of the call under way, before a build is discarded.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embstore import layout
from embstore.layout import RawArray

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

T = TypeVar("T")


class ZarrThread:
    """One thread that makes the calls to zarr, so that one can wait for their end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embstore-write")
        # Starts the thread: an interrupt in a later `run` cannot be in the midst of that.
        self.run(int)

    def run(self, call: Callable[[], T]) -> T:
        """Return ``call()``."""
        return self._pool.submit(call).result()

    def close(self) -> None:
        """Wait for the call under way, and end the thread."""
        self._pool.shutdown()


class ArrayWriter:
    """Appends rows to a new array of the store.

    Parameters
    ----------
    store : Path
        The directory of the store.
    name : str
        The array's path inside it; its group must exist.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the rows.
    chunk_rows : int
        Rows in a chunk.
    thread : ZarrThread
        What calls zarr.
    """

    def __init__(
        self,
        store: Path,
        name: str,
        row_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunk_rows: int,
        thread: ZarrThread,
    ) -> None:
        self._store = store
        self._name = name
        self._row_shape = row_shape
        self._dtype = dtype
        self._chunk_rows = chunk_rows
        self._thread = thread
        self._buffer: NDArray[Any] | None = None
        self._buffered = 0
        self._array: zarr.Array[Any] | None = None

    @property
    def has_chunks(self) -> bool:
        """Whether a chunk is written, so that the chunk size is settled."""
        return self._array is not None

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows, shape (n, *row_shape)."""
        while len(rows):
            if self._buffer is None:
                self._buffer = np.empty((self._chunk_rows, *self._row_shape), self._dtype)
            count = min(len(rows), self._chunk_rows - self._buffered)
            self._buffer[self._buffered : self._buffered + count] = rows[:count]
            self._buffered += count
            rows = rows[count:]
            if self._buffered == self._chunk_rows:
                self._write(self._buffer)
                self._buffered = 0

    def finish(self, chunk_rows: int | None = None) -> None:
        """Write what is buffered, and the checksums.

        Parameters
        ----------
        chunk_rows : int, optional
            Another chunk size, if no chunk is written yet.
        """
        if chunk_rows is not None and not self.has_chunks:
            self._chunk_rows = chunk_rows
        array = self._array = self._array or self._thread.run(self._create)
        if self._buffer is not None and self._buffered:
            self._write(self._buffer[: self._buffered])
        self._buffer = None
        raw = RawArray(self._name, array.shape, self._dtype, self._chunk_rows)
        names = map(raw.chunk_name, range(raw.chunk_count))
        checksums = [read_checksum(self._store / name) for name in names]
        attribute = {layout.ATTRIBUTE: {layout.CHECKSUMS: checksums}}
        self._thread.run(lambda: array.attrs.update(attribute))

    def _create(self) -> zarr.Array[Any]:
        import zarr  # noqa: PLC0415
        from zarr.codecs import BytesCodec, Crc32cCodec  # noqa: PLC0415

        return zarr.create_array(
            self._store / self._name,
            shape=(0, *self._row_shape),
            chunks=(self._chunk_rows, *self._row_shape),
            dtype=self._dtype,
            filters=None,
            serializer=BytesCodec(endian="little" if self._dtype.itemsize > 1 else None),
            compressors=[Crc32cCodec()],
            fill_value=0,
            zarr_format=3,
            # A missing chunk must be a damage, not a chunk of zeros.
            config={"write_empty_chunks": True},
        )

    def _write(self, rows: NDArray[Any]) -> None:
        array = self._array = self._array or self._thread.run(self._create)
        start = array.shape[0]

        def write() -> None:
            array.resize((start + len(rows), *self._row_shape))
            array[start : start + len(rows)] = rows

        try:
            self._thread.run(write)
        except OSError as error:
            # A failed write, unlike a failed open, does not know its file.
            if error.errno is None or error.filename is not None:
                raise
            where = str(self._store / self._name)
            raise OSError(error.errno, _describe(error.errno), where) from error


def create_group(path: Path) -> zarr.Group:
    """Create a Zarr group at ``path``."""
    import zarr  # noqa: PLC0415

    return zarr.create_group(path, zarr_format=3)


def read_checksum(path: Path) -> int:
    """Return the CRC-32C at the end of a chunk file."""
    with path.open("rb") as file:
        file.seek(-layout.CHECKSUM_BYTES, 2)
        return int.from_bytes(file.read(), "little")


def _describe(number: int) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"{os.strerror(number)} while writing; free some, or choose a target on another disk"
    return f"{os.strerror(number)} while writing"
