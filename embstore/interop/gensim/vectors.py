"""The vectors of all keys, as an array that is read when it is indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from embstore.array_mixin import ArrayMixin
from embstore.interop.gensim.positions import positions
from embstore.table.indexing import first_axis

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from embstore.store import EmbeddingStore
    from embstore.table.protocols import Visit


class Vectors(ArrayMixin, NDArrayOperatorsMixin):
    """All vectors, in the order of ids: shape, dtype, and rows when they are asked for.

    It is indexed as an ndarray is, negative numbers and masks included, and reads the rows that an
    index takes. ``np.asarray(vectors)`` reads all. Arithmetic with it is refused, because that
    would read the whole table, although no index asks for it.

    Parameters
    ----------
    store : EmbeddingStore
        The store; its rows are vectors.
    change : callable, optional
        Returns what is shown instead of rows, shape (n, dimension), in the dtype ``dtype``.
    dtype : numpy.dtype, optional
        Dtype of what is shown; by default that of the store.

    Examples
    --------
    >>> vectors = Vectors(store)
    >>> vectors.shape, vectors[-1].shape, vectors[2:5, 0].shape, vectors[[1, 1]].shape
    ((11, 8), (8,), (3,), (2, 8))
    >>> np.array_equal(np.asarray(vectors)[4], vectors[4])
    True
    """

    def __init__(
        self,
        store: EmbeddingStore,
        change: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        self._store, self._change = store, change
        self._rows, self._row_shape = store.rows, store.row_shape
        self._dtype = store.dtype if dtype is None else dtype

    @property
    def mapped(self) -> bool:
        """Whether rows come from a memory mapping."""
        return self._store.mapped

    def lookup(self, ids: ArrayLike) -> NDArray[Any]:
        """Return the vectors of ids."""
        rows = self._store.lookup(ids)
        return rows if self._change is None else self._change(rows)

    def ids(self, words: Any) -> NDArray[np.int64]:
        """Return the ids of words."""
        return self._store.ids(words)

    def scan(self, visit: Visit) -> None:
        """Pass all vectors to a function, block by block; see `EmbeddingStore.scan`."""
        change = self._change
        if change is None:
            self._store.scan(visit)
        else:
            self._store.scan(lambda ids, rows: visit(ids, change(rows)))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, slice):
            return self._slice(index)
        if not isinstance(index, tuple):
            if index is Ellipsis:
                return self._slice(slice(None))
            if index is None:
                return self._slice(slice(None))[np.newaxis]
            return self.lookup(positions(index, self._rows))
        at = first_axis(index, self.ndim)
        if at is not None and not isinstance(index[at], slice):
            index = (*index[:at], positions(index[at], self._rows), *index[at + 1 :])
        return self._pick(index)

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(np.ndarray, name):
            raise AttributeError(f"no {name} here: {_ARITHMETIC}")
        raise AttributeError(f"'Vectors' object has no attribute {name!r}")

    def __array_ufunc__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(_ARITHMETIC)

    def __array_function__(self, function: Any, _: Any, given: Any, options: Any) -> Any:
        if function in _OF_SHAPE and len(given) == 1 and not options:
            return getattr(self, function.__name__)
        raise TypeError(_ARITHMETIC)

    def __repr__(self) -> str:
        return f"<Vectors {self._rows} x {self._row_shape[0]} {self._dtype}, read when indexed>"


_OF_SHAPE = (np.shape, np.ndim, np.size)
_ARITHMETIC = (
    "arithmetic would read all vectors into RAM; take the rows that it needs, as in vectors[ids], "
    "search with most_similar, or read all with np.asarray(vectors)"
)
