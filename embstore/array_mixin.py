"""What a store has in common with an ndarray: its facts, conversion, and indices of several axes.

So libraries that take arrays, such as dask and scikit-learn, take a store, and read it by one
lookup instead of row by row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.table.ids import as_ids
from embstore.table.indexing import first_axis
from embstore.vocabulary.given import are_words

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from embstore.table.protocols import Visit


class ArrayMixin(ABC):
    """Attributes and methods of an ndarray, on a table with `lookup` and `scan`."""

    _rows: int
    _row_shape: tuple[int, ...]
    _dtype: np.dtype[Any]

    @abstractmethod
    def lookup(self, ids: ArrayLike) -> NDArray[Any]:
        """Return the rows of ``ids``."""

    @abstractmethod
    def ids(self, words: Any) -> NDArray[np.int64]:
        """Return the ids of ``words``."""

    @abstractmethod
    def scan(self, visit: Visit) -> None:
        """Pass all rows to a function, block by block."""

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
        rows = np.empty(self.shape, self._dtype)

        def put(ids: range, block: NDArray[Any]) -> None:
            rows[ids.start : ids.stop : ids.step] = block

        self.scan(put)
        return rows

    def __len__(self) -> int:
        return self._rows

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(
                "the rows of a store are on disk, so an array of them is always a copy; omit "
                "copy=False"
            )
        rows = self.to_numpy()
        return rows if dtype is None else rows.astype(dtype, copy=False)

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
