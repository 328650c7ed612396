"""Peers of EngramDB, a store for the n-gram tables of language models: its fetch and its pages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHARDS = 4


@dataclass
class EngramFetch(Peer):
    """``Store.fetch(ids)`` on its default number of threads, seen through ``np.frombuffer``."""

    name: ClassVar[str] = "engramdb fetch"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("engramdb", "engramdb-python"),)

    def prepare(self) -> None:
        """Write consecutive rows to each ``shard_000.bin``, with nothing between them."""
        table = self.table
        files = [self._shard(number).open("wb") for number in range(SHARDS)]
        for start, rows in table.blocks():
            shards = np.arange(start, start + len(rows)) // self._shard_rows
            for number in np.unique(shards).tolist():
                files[number].write(rows[shards == number].tobytes())
        for number, file in enumerate(files):
            # The last shard may be short, and a page may begin with the last row.
            missing = max((number + 1) * self._shard_rows - table.rows, 0)
            file.write(bytes(min(missing, self._shard_rows) * table.row_bytes + self._page_bytes))
            file.close()

    def open(self) -> None:
        """Open the store."""
        from engramdb import Store  # noqa: PLC0415

        width, rows = self.table.row_bytes, self._shard_rows
        directory = str(self.own_directory)
        self._store = Store(directory, shards=SHARDS, rows_per_shard=rows, width=width)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return self.records(ids).view(self.table.dtype).reshape(-1, *self.table.row_shape)

    def records(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the bytes of the rows of ids, shape (n, row_bytes)."""
        found = np.frombuffer(self._store.fetch(ids), np.uint8)
        return found.reshape(-1, self.table.row_bytes)

    @property
    def _shard_rows(self) -> int:
        return -(-self.table.rows // SHARDS)

    @property
    def _page_bytes(self) -> int:
        """The smallest page that holds a row; its reader wants a power of two."""
        return 1 << (self.table.row_bytes - 1).bit_length()

    def _shard(self, number: int) -> Path:
        return self.own_directory / f"shard_{number:03d}.bin"


@dataclass
class EngramPages(EngramFetch):
    """``IoUringPageReader.read_pages``, one page for each row, from where the row begins."""

    name: ClassVar[str] = "engramdb io_uring"

    def open(self) -> None:
        """Open the files."""
        from engramdb import IoUringPageReader  # noqa: PLC0415

        self._reader = IoUringPageReader(page_size=self._page_bytes)
        if self._reader.backend != "io_uring":
            raise ValueError(f"io_uring is not allowed here; it reads by {self._reader.backend}")
        self._files = np.array(
            [os.open(self._shard(number), os.O_RDONLY) for number in range(SHARDS)]
        )

    def records(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the bytes of the rows of ids, a view of the pages."""
        shards, rows = np.divmod(ids, self._shard_rows)
        offsets = rows * self.table.row_bytes
        pages = self._reader.read_pages(self._files[shards].tolist(), offsets.tolist())
        found = np.frombuffer(b"".join(pages), np.uint8).reshape(len(ids), self._page_bytes)
        return found[:, : self.table.row_bytes]
