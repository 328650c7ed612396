"""Peers that are built for random access: LMDB and Lance."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass
class Lmdb(Peer):
    """LMDB with one value for each row, read with ``getmulti`` without copying.

    Its documentation: ``readahead=False`` "may improve random read performance" for databases
    larger than RAM, ``lock=False`` without writers, ``append=True`` for keys that come in order.
    """

    name: ClassVar[str] = "LMDB"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("lmdb", "lmdb"),)
    slow: ClassVar[bool] = True

    def prepare(self) -> None:
        """Write one database."""
        import lmdb  # noqa: PLC0415

        size = 3 * self.table.rows * (self.table.row_bytes + 64) + (64 << 20)
        with lmdb.open(str(self.own_directory), map_size=size, sync=False) as database:
            for start, rows in self.table.blocks():
                flat = rows.reshape(len(rows), -1).view(np.uint8)
                keys = _keys(np.arange(start, start + len(rows)))
                items = [(key, row.data) for key, row in zip(keys, flat, strict=True)]
                with database.begin(write=True) as transaction:
                    transaction.cursor().putmulti(items, append=True)
            database.sync(True)

    def open(self) -> None:
        """Open the database."""
        import lmdb  # noqa: PLC0415

        self._database = lmdb.open(
            str(self.own_directory), readonly=True, lock=False, readahead=False
        )
        self._cursor = self._database.begin(buffers=True).cursor()

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids, read in the order of the keys, which is that of the pages."""
        unique, inverse = np.unique(ids, return_inverse=True)
        values = b"".join([value for _, value in self._cursor.getmulti(_keys(unique))])
        rows = np.frombuffer(values, self.table.dtype).reshape(-1, *self.table.row_shape)
        return np.asarray(rows[inverse])


@dataclass
class Lance(Peer):
    """Lance's ``take`` on a column of fixed-size lists.

    Its performance guide: 8 threads read local files unless ``LANCE_IO_THREADS`` is set; more
    threads keep more reads in flight.
    """

    name: ClassVar[str] = "Lance take"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("lance", "pylance"),)

    io_threads: int = 32

    def prepare(self) -> None:
        """Write one dataset of one fragment."""
        os.environ["LANCE_LOG"] = "error"
        import lance  # noqa: PLC0415
        import pyarrow as pa  # noqa: PLC0415

        length = self.table.row_bytes // np.dtype(self.table.dtype).itemsize
        kind = pa.list_(pa.from_numpy_dtype(np.dtype(self.table.dtype)), length)
        schema = pa.schema([("row", kind)])

        def batches() -> Iterator[pa.RecordBatch]:
            for _, rows in self.table.blocks():
                values = pa.array(rows.reshape(-1).copy())
                yield pa.record_batch(
                    [pa.FixedSizeListArray.from_arrays(values, length)], schema=schema
                )

        lance.write_dataset(
            pa.RecordBatchReader.from_batches(schema, batches()),
            self.own_directory / "rows.lance",
            mode="overwrite",
            max_rows_per_file=max(self.table.rows, 1),
            data_storage_version="stable",
        )

    def open(self) -> None:
        """Open the dataset."""
        os.environ |= {"LANCE_IO_THREADS": str(self.io_threads), "LANCE_LOG": "error"}
        import lance  # noqa: PLC0415  # Importing it reads the environment.

        self._dataset = lance.dataset(self.own_directory / "rows.lance")

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        column = self._dataset.take(ids, columns=["row"]).column("row")
        chunks = [np.asarray(chunk.flatten()) for chunk in column.chunks]
        values = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return values.reshape(len(ids), *self.table.row_shape)


def _keys(ids: NDArray[np.int64]) -> list[bytes]:
    """Return keys that sort like the ids."""
    raw = ids.astype(">u8").tobytes()
    return [raw[at : at + 8] for at in range(0, len(raw), 8)]
