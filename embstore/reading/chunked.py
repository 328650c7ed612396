"""Rows chunk by chunk through zarr: slower, and works wherever zarr does.

1. The plan groups the request by chunk.
2. Each chunk is fetched and decoded once; zarr checks its checksum.
3. Its rows are scattered into the places of the request that asked for them.

It holds one chunk in memory at a time, and no file open. So it cannot go on reading a store that a
build has replaced, and says so.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import StoreCorruptError, StoreNotFoundError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import open_checked
from embstore.reading.stats import StatsCounter
from embstore.table.numbering import physical_rows
from embstore.table.pieces import pieces
from embstore.table.plan import group_by_chunk

if TYPE_CHECKING:
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.reading import Visit


class ChunkReader:
    """Reads any store through zarr.

    Parameters
    ----------
    path : Path
        The store.
    manifest : Manifest
        Its manifest.

    Raises
    ------
    StoreCorruptError
        If a chunk file is missing or of another size.
    """

    page_bytes: int | None = None

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.numbering = physical_rows(manifest)
        self.stats = StatsCounter(manifest.row_bytes)
        self._path = path
        self._identity = identity(path)
        self._row_shape = manifest.row_shape
        self._partitions: dict[int, zarr.Array[Any]] = {}
        self._manifest = manifest
        for partition in range(manifest.partition_count):
            for chunk in range(manifest.partition(partition).chunk_count):
                self._check_chunk(partition, chunk)

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows; see `embstore.reading.Reader`."""
        time_begin = time.perf_counter()
        rows = out.reshape(-1, *self._row_shape)
        groups = group_by_chunk(self.numbering.number(ids.reshape(-1)), self.numbering)
        for group in groups:
            chunk = self._chunk(group.partition, group.chunk)
            rows[group.positions] = chunk[group.rows]
        bytes_read = len(groups) * self._manifest.partition(0).file_bytes
        seconds = time.perf_counter() - time_begin
        self.stats.add(ids.size, bytes_read, len(groups), 0, seconds)

    def read_one(self, number: int) -> NDArray[Any]:
        """Return the row of one id, shape ``row_shape``."""
        out = np.empty(self._row_shape, self._manifest.dtype)
        self.read(np.array(number), out)
        return out[()]

    def prefetch(self, ids: NDArray[np.int64]) -> None:
        """Do nothing: a chunk is read when it is needed."""

    def scan(self, start: int, stop: int, visit: Visit) -> None:
        """Show the rows of the ids ``start .. stop - 1``; see `embstore.EmbeddingStore.scan`."""
        chunk_rows = self.numbering.chunk_rows
        for piece in pieces(self.numbering, start, stop, chunk_rows):
            number, first = divmod(piece.row, chunk_rows)
            chunk = self._chunk(piece.partition, number)
            chunk.flags.writeable = False
            visit(piece.ids, chunk[first : first + len(piece.ids)])

    def _chunk(self, partition: int, chunk: int) -> NDArray[Any]:
        """Return the rows of a chunk, fetched and decoded."""
        begin = chunk * self.numbering.chunk_rows
        try:
            self._check_chunk(partition, chunk)
            if partition not in self._partitions:
                self._partitions[partition] = open_partition(self._path, partition)
            rows = self._partitions[partition][begin : begin + self.numbering.chunk_rows]
        except (ValueError, FileNotFoundError) as error:
            check_identity(self._path, self._identity)
            if isinstance(error, StoreCorruptError):
                raise
            where = self._path / spec.partition_name(partition)
            raise StoreCorruptError(f"{where}: chunk {chunk}: {error}") from error
        check_identity(self._path, self._identity)
        # zarr gives the dtype that is stored: uint16 for bfloat16.
        return np.asarray(rows).view(self._manifest.dtype)

    def _check_chunk(self, partition: int, chunk: int) -> None:
        """Raise unless the chunk's file is there: to zarr, a missing chunk is one of zeros."""
        array = self._manifest.partition(partition)
        os.close(open_checked(self._path / array.chunk_name(chunk), array.file_bytes))


def identity(path: Path) -> tuple[int, int, int] | None:
    """Return what tells the store at ``path`` from one that replaces it; None if there is none."""
    try:
        status = (path / spec.METADATA).stat()
    except OSError:
        return None
    # The time too, because a file system gives the inodes of removed files to new ones.
    return status.st_dev, status.st_ino, status.st_mtime_ns


def check_identity(path: Path, expected: tuple[int, int, int] | None) -> None:
    """Raise `StoreNotFoundError` if another store, or none, is at ``path`` by now."""
    if identity(path) != expected:
        raise StoreNotFoundError(
            f"the store {path} was replaced or removed since it was opened; open it again"
        )


def open_partition(path: Path, partition: int) -> zarr.Array[Any]:
    """Open one partition as a read-only Zarr array."""
    # Imported here because opening a store and mapped lookups must not wait for zarr (0.4 s).
    import zarr  # noqa: PLC0415

    return zarr.open_array(path / spec.partition_name(partition), mode="r")
