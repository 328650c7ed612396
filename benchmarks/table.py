"""What must a row be? Here the generator of the table says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.bench.table import Table
from tools.make_table import make_table, table_rows, table_words

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# What a step of the generator works on stays in the processor's cache.
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class GeneratedTable(Table):
    """A store that ``tools/make_table`` made."""

    @classmethod
    def make(cls, path: Path, rows: int, dimension: int, *, words: bool = False) -> GeneratedTable:
        """Make the store, over 4 ``mod`` partitions."""
        make_table(path, rows, dimension, words=words)
        return cls.at(path)

    @classmethod
    def at(cls, path: Path) -> GeneratedTable:
        """Return the table of a store that was made before.

        Raises
        ------
        ValueError
            If something else made the store.
        """
        with embstore.open(path) as store:
            if store.source.get("generator") != "splitmix64":
                raise ValueError(f"{path} was not made by tools/make_table, so it can't be checked")
        table = Table.of(path)
        return cls(table.path, table.rows, table.row_shape, table.dtype, table.has_words)

    def expected(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return what a lookup of ``ids``, shape (n,), must give."""
        out = np.empty((len(ids), *self.row_shape), self.dtype)
        for start in range(0, len(ids), ROWS_AT_ONCE):
            piece = slice(start, start + ROWS_AT_ONCE)
            out[piece] = table_rows(ids[piece], self.row_shape[0])
        return out

    def words(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the words of ids, shape (n,)."""
        return table_words(ids)
