"""What a store has in common with an ndarray: its facts, conversion, iteration, and indices.

So libraries that take arrays, such as dask and scikit-learn, take a store, and read it by one
lookup instead of row by row. Iterating reads blocks of rows, too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.consecutive import window_rows
from embstore.reading.in_order import read_in_order
from embstore.table.ids import as_ids
from embstore.table.indexing import first_axis
from embstore.vocabulary.given import are_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from embstore.table.numbering import Numbering

# While iterating. Of a mapping, a block that a cache of the processor holds; a row that is kept
# keeps its block in memory. Without a mapping, a read is far more expensive than copying its rows.
BLOCK_BYTES = 384 << 10
READ_BYTES = 4 << 20


class ArrayMixin(ABC):
    """Attributes and methods of an ndarray, on a table with `lookup`."""

    _rows: int
    _row_shape: tuple[int, ...]
    _dtype: np.dtype[Any]
    _numbering: Numbering

    @abstractmethod
    def lookup(self, ids: ArrayLike) -> NDArray[Any]:
        """Return the rows of ``ids``."""

    @abstractmethod
    def ids(self, words: Any) -> NDArray[np.int64]:
        """Return the ids of ``words``."""

    @abstractmethod
    def _fill(self, start: int, rows: NDArray[Any]) -> None:
        """Fill an array with the rows of the ids from ``start`` on."""

    @property
    @abstractmethod
    def mapped(self) -> bool:
        """Whether rows come from a memory mapping; raises if the table is closed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole table: ``(rows, *row_shape)``."""
        return (self._rows, *self._row_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows."""
        return self._dtype

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._rows

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self._row_shape

    @property
    def ndim(self) -> int:
        """Number of axes of the table, that of the rows included."""
        return 1 + len(self._row_shape)

    @property
    def size(self) -> int:
        """Count of all numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of all numbers in bytes, as an array in RAM."""
        return self.size * self._dtype.itemsize

    def to_numpy(self) -> NDArray[Any]:
        """Return all rows in RAM, in the order of their ids, shape `shape`.

        Examples
        --------
        >>> store.to_numpy().shape
        (11, 8)
        """
        return self._all_rows(self._dtype)

    def _all_rows(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return all rows in RAM, as another dtype of numbers."""
        rows = np.empty(self.shape, dtype)
        self._fill(0, rows)
        return rows

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Return an iterator of all rows in the order of their ids.

        They are read in blocks of up to 384 KiB, or of one row; a row that is kept keeps its block
        in memory. Once the store is closed, the next block raises StoreClosedError.

        Examples
        --------
        >>> max(float(row.sum()) for row in store) == store[:].sum(axis=1).max()
        np.True_
        """
        return chain.from_iterable(self._blocks(backwards=False))

    def __reversed__(self) -> Iterator[NDArray[Any]]:
        return chain.from_iterable(self._blocks(backwards=True))

    def _blocks(self, *, backwards: bool) -> Iterator[NDArray[Any]]:
        """Yield new arrays of consecutive rows."""
        row_bytes = max(self._dtype.itemsize * math.prod(self._row_shape), 1)
        step = max(BLOCK_BYTES // row_bytes, 1)
        read = step
        if not self.mapped:
            read = window_rows(self._numbering, max(READ_BYTES // row_bytes, 1), row_bytes)
        starts = range(0, self._rows, read)

        def look_up(start: int) -> NDArray[Any]:
            return self.lookup(np.arange(start, min(start + read, self._rows)))

        def announce(start: int) -> None:
            self._announce(start, min(start + read, self._rows))

        for block in read_in_order(
            starts[::-1] if backwards else starts, look_up, announce, read * row_bytes
        ):
            rows = block[::-1] if backwards else block
            if len(rows) <= step:
                yield rows
                continue
            for first in range(0, len(rows), step):
                yield rows[first : first + step].copy()

    def _announce(self, start: int, stop: int) -> None:
        """Start reading the rows of the ids ``start .. stop - 1``, where supported."""
        del start, stop

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(
                "the rows of a store are on disk, so an array of them is always a copy; omit "
                "copy=False"
            )
        wanted = self._dtype if dtype is None else np.dtype(dtype)
        if wanted == self._dtype or wanted.kind in "iufc":  # Without all rows in two dtypes.
            return self._all_rows(wanted)
        return self.to_numpy().astype(wanted)

    def _pick(self, index: tuple[Any, ...]) -> NDArray[Any]:
        """Return the rows of an index of several axes, by one lookup."""
        at = first_axis(index, self.ndim)
        item = slice(None) if at is None else index[at]
        taken: Any = slice(None)
        if isinstance(item, slice):
            rows = self._slice(item)
        else:
            ids = np.asarray(self.ids(item) if are_words(item) else as_ids(item, self._rows))
            rows = self.lookup(ids.reshape(-1))
            taken = np.arange(ids.size).reshape(ids.shape)[()]
        found: Any = rows[index if at is None else (*index[:at], taken, *index[at + 1 :])]
        # A small part must not keep all rows in memory.
        few = isinstance(found, np.ndarray) and found.nbytes * 2 <= rows.nbytes
        result: NDArray[Any] = found.copy() if few else found
        return result

    def _slice(self, ids: slice) -> NDArray[Any]:
        """Return the rows of a slice; as for any sequence, bounds beyond the end are fine."""
        return self.lookup(np.arange(*ids.indices(self._rows)))
