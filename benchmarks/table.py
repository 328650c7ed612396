"""Tables of generated rows, so that every looked-up row can be checked by its generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tools.make_table import make_table, table_rows, table_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Rows that the generator makes at a time; they stay in the processor's cache.
GENERATED_TOGETHER = 256
# Bytes of rows that are handed on at a time; likewise.
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class GeneratedTable:
    """A store that ``tools/make_table`` made.

    Parameters
    ----------
    path : Path
        The store.
    rows : int
        Number of rows.
    row_shape : tuple of int
        Shape of one row.
    dtype : str
        Name of their dtype.
    has_words : bool
        Whether rows have words.
    """

    path: Path
    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    has_words: bool = False

    @classmethod
    def make(
        cls, path: Path, rows: int, dimension: int, *, partitions: int = 4, words: bool = False
    ) -> GeneratedTable:
        """Make the store, over ``mod`` partitions."""
        make_table(path, rows, dimension, partitions, words=words)
        return cls.at(path)

    @classmethod
    def at(cls, path: Path) -> GeneratedTable:
        """Return the table of a store that was made before.

        Raises
        ------
        ValueError
            If another program made the store.
        """
        with embstore.open(path) as store:
            if store.source.get("generator") != "splitmix64":
                raise ValueError(
                    f"{path} was not made by tools/make_table, so its rows cannot be checked"
                )
            return cls(store.path, store.rows, store.row_shape, store.dtype.name, store.has_words)

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def total_bytes(self) -> int:
        """Size of all rows."""
        return self.rows * self.row_bytes

    def expected(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows that a lookup of ``ids``, shape (n,), must give."""
        out = np.empty((len(ids), *self.row_shape), self.dtype)
        for start in range(0, len(ids), GENERATED_TOGETHER):
            piece = slice(start, start + GENERATED_TOGETHER)
            out[piece] = table_rows(ids[piece], self.row_shape[0])
        return out

    def words(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the words of ids, shape (n,)."""
        return table_words(ids)

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first id, rows) in the order of the ids; the array is reused for the next rows."""
        length = max(BLOCK_BYTES // max(self.row_bytes, 1), 1)
        block = np.empty((min(length, self.rows), *self.row_shape), self.dtype)
        with embstore.open(self.path) as store:
            for start in range(0, self.rows, length):
                count = min(length, self.rows - start)
                yield start, store.lookup(np.arange(start, start + count), out=block[:count])

    def matrix(self) -> NDArray[Any]:
        """Return all rows as one array in RAM."""
        matrix = np.empty((self.rows, *self.row_shape), self.dtype)
        for start, block in self.blocks():
            matrix[start : start + len(block)] = block
        return matrix
