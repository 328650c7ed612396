"""Peers that read rows from array files: NumPy's own, HDF5, Zarr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from numpy.typing import NDArray

# One read from a sharded Zarr array fetches an inner chunk. The shard's index, 16 bytes for each
# inner chunk, is read before it.
SHARD_INNER_CHUNKS = 1024


@dataclass
class Memmap(Peer):
    """``np.load(mmap_mode="r")[ids]``, the most common code for this."""

    name: ClassVar[str] = "np.memmap"

    def prepare(self) -> None:
        """Write one .npy file."""
        file = self.own_directory / "rows.npy"
        shape = (self.table.rows, *self.table.row_shape)
        array = np.lib.format.open_memmap(file, mode="w+", dtype=self.table.dtype, shape=shape)
        for start, rows in self.table.blocks():
            array[start : start + len(rows)] = rows
        array.flush()

    def open(self) -> None:
        """Map the file."""
        self._rows = np.load(self.own_directory / "rows.npy", mmap_mode="r")

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return np.asarray(self._rows[ids])

    def one(self, number: int) -> NDArray[Any]:
        """Return one row; a copy, since a view has read nothing."""
        return np.array(self._rows[number])


@dataclass
class Hdf5(Peer):
    """h5py on a contiguous dataset, which needs no chunk cache.

    Its documentation asks for increasing ids without duplicates, and warns of lists of more than
    1,000. So ids are sorted, and split into lists of that length.
    """

    name: ClassVar[str] = "h5py"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("h5py", "h5py"),)
    slow: ClassVar[bool] = True

    longest_list: ClassVar[int] = 1000

    def prepare(self) -> None:
        """Write one file."""
        import h5py  # noqa: PLC0415

        shape = (self.table.rows, *self.table.row_shape)
        with h5py.File(self.own_directory / "rows.h5", "w") as file:
            dataset = file.create_dataset("rows", shape, self.table.dtype)
            for start, rows in self.table.blocks():
                dataset[start : start + len(rows)] = rows

    def open(self) -> None:
        """Open the file."""
        import h5py  # noqa: PLC0415

        self._dataset = h5py.File(self.own_directory / "rows.h5", "r")["rows"]

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        unique, inverse = np.unique(ids, return_inverse=True)
        step = self.longest_list
        parts = [self._dataset[unique[at : at + step]] for at in range(0, len(unique), step)]
        return np.asarray(np.concatenate(parts)[inverse])

    def one(self, number: int) -> NDArray[Any]:
        """Return one row."""
        return np.asarray(self._dataset[number])


@dataclass
class ZarrOindex(Peer):
    """zarr's ``oindex`` on an uncompressed array, sharded so that a row is a short read.

    The overhead of an inner chunk in zarr is far larger than the time to read it, so inner chunks
    are not as short as they could be.
    """

    name: ClassVar[str] = "zarr oindex"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("zarr", "zarr"),)
    slow: ClassVar[bool] = True

    inner_bytes: ClassVar[int] = 32 << 10

    def prepare(self) -> None:
        """Write a sharded Zarr v3 array."""
        array = self._create(self._inner_rows, self._inner_rows * SHARD_INNER_CHUNKS)
        # Shards are written whole.
        step = self._inner_rows * SHARD_INNER_CHUNKS
        shard = np.empty((step, *self.table.row_shape), self.table.dtype)
        filled = written = 0
        for _, block in self.table.blocks():
            rows = block
            while len(rows):
                count = min(len(rows), step - filled)
                shard[filled : filled + count] = rows[:count]
                rows, filled = rows[count:], filled + count
                if filled == step or written + filled == self.table.rows:
                    array[written : written + filled] = shard[:filled]
                    written, filled = written + filled, 0

    @property
    def _inner_rows(self) -> int:
        return max(self.inner_bytes // self.table.row_bytes, 1)

    def _create(self, inner_rows: int, shard_rows: int) -> Any:
        import zarr  # noqa: PLC0415

        return zarr.create_array(
            self.own_directory / "rows.zarr",
            shape=(self.table.rows, *self.table.row_shape),
            chunks=(inner_rows, *self.table.row_shape),
            shards=(shard_rows, *self.table.row_shape),
            dtype=self.table.dtype,
            compressors=None,
        )

    def open(self) -> None:
        """Open the array."""
        import zarr  # noqa: PLC0415

        self._array = zarr.open_array(self.own_directory / "rows.zarr", mode="r")

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return np.asarray(self._array.oindex[ids])

    def one(self, number: int) -> NDArray[Any]:
        """Return one row."""
        return np.asarray(self._array[number])


@dataclass
class TensorStore(ZarrOindex):
    """TensorStore on a sharded Zarr array, with more reads in flight than it has by default."""

    name: ClassVar[str] = "tensorstore"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("tensorstore", "tensorstore"),)

    inner_bytes: ClassVar[int] = 8 << 10

    def _create(self, inner_rows: int, shard_rows: int) -> Any:
        import tensorstore  # noqa: PLC0415

        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(self.own_directory / "rows.zarr")},
        }
        layout = tensorstore.ChunkLayout(
            read_chunk_shape=[inner_rows, *self.table.row_shape],
            write_chunk_shape=[shard_rows, *self.table.row_shape],
        )
        return tensorstore.open(
            spec,
            create=True,
            delete_existing=True,
            dtype=np.dtype(self.table.dtype),
            shape=[self.table.rows, *self.table.row_shape],
            chunk_layout=layout,
        ).result()

    def open(self) -> None:
        """Open the array."""
        import tensorstore  # noqa: PLC0415

        self._tensorstore = tensorstore
        self._store: Any = tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": str(self.own_directory / "rows.zarr")},
                "context": {"file_io_concurrency": {"limit": 64}},
                # The files do not change, so cached data need not be checked again.
                "recheck_cached_metadata": "open",
                "recheck_cached_data": "open",
            },
            read=True,
        ).result()

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids; reads of one batch share the shards' indexes."""
        with self._tensorstore.Batch() as batch:
            future = self._store[ids].read(batch=batch)
        return np.asarray(future.result())

    def one(self, number: int) -> NDArray[Any]:
        """Return one row."""
        return np.asarray(self._store[number].read().result())
