"""embstore as a peer of the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import embstore
from benchmarks.peers.base import Peer
from embstore.bench.state import files_under

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass
class Embstore(Peer):
    """embstore itself.

    Parameters
    ----------
    preload : bool
        Whether the store is opened with ``preload=True``.
    """

    preload: bool = False

    name: ClassVar[str] = "embstore"

    def files(self) -> list[Path]:
        """Return the files of the store."""
        return files_under(self.table.path)

    def prepare(self) -> None:
        """Write the rows into another store."""
        with embstore.StoreWriter(
            self.own_directory / "again.embstore",
            row_shape=self.table.row_shape,
            dtype=self.table.dtype,
            partitions=4,
            rows=self.table.rows,
        ) as writer:
            for _, rows in self.table.blocks():
                writer.write(rows)

    def open(self) -> None:
        """Open the store."""
        self._store = embstore.open(self.table.path, preload=self.preload)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return self._store.lookup(ids)

    def one(self, number: int) -> NDArray[Any]:
        """Return one row."""
        row: NDArray[Any] = self._store[number]
        return row

    def lookup_words(self, words: list[str]) -> NDArray[Any]:
        """Return the rows of words."""
        return self._store.lookup_words(words)


@dataclass
class EmbstoreInto(Embstore):
    """embstore, filling the same array (``out=``) in every lookup."""

    name: ClassVar[str] = "embstore lookup(out=)"
    reuse: ClassVar[bool] = True

    def open(self) -> None:
        """Open the store."""
        super().open()
        self._out = np.empty((0, *self.table.row_shape), self.table.dtype)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids, in the array of the previous lookup."""
        if len(self._out) != len(ids):
            self._out = np.empty((len(ids), *self.table.row_shape), self.table.dtype)
        return self._store.lookup(ids, out=self._out)
