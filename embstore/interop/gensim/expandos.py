"""Attributes of keys, as gensim's ``expandos`` has them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from embstore.interop.gensim.positions import positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import DTypeLike, NDArray

    from embstore.store import EmbeddingStore

COUNT = "count"


class Expandos(Mapping[str, "Expando"]):
    """The attributes of a store, and ``"count"`` even where the store has none.

    gensim makes counts up when it reads a file of vectors without any, so code counts on them: the
    first word gets the number of words, and each other one less than the word before it.

    Examples
    --------
    >>> expandos = Expandos(store)
    >>> list(expandos), expandos["count"][0], expandos["count"][[1, -1]]
    (['count'], np.int64(11), array([10,  1]))
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def __getitem__(self, name: str) -> Expando:
        columns, rows = self._store.attributes, len(self._store)
        if name == COUNT and COUNT not in columns:
            return Expando(rows, np.dtype(np.int64), "int64", partial(np.subtract, rows))
        column = columns[name]
        return Expando(rows, column.dtype, column.dtype_name, column.__getitem__)

    def __iter__(self) -> Iterator[str]:
        columns = self._store.attributes
        yield from columns
        if COUNT not in columns:
            yield COUNT

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Expandos {', '.join(self)}>"


class Expando(NDArrayOperatorsMixin):
    """One attribute of all keys, as an array that reads the values that an index takes.

    Arithmetic and an ndarray's methods read all.

    Parameters
    ----------
    rows : int
        Number of keys.
    dtype : numpy.dtype
        Dtype of the values; object for strings.
    dtype_name : str
        How a store names it.
    values_of : callable
        Returns the values of ids, shape (n,).
    """

    ndim = 1

    def __init__(
        self,
        rows: int,
        dtype: np.dtype[Any],
        dtype_name: str,
        values_of: Callable[[NDArray[np.int64]], Any],
    ) -> None:
        self.shape = (rows,)
        self.dtype, self.dtype_name = dtype, dtype_name
        self._values_of = values_of

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(np.asarray(self))

    def __getitem__(self, index: Any) -> Any:
        if index is None or index is Ellipsis or isinstance(index, tuple):
            return np.asarray(self)[index]
        if isinstance(index, slice):
            return self._values_of(np.arange(*index.indices(len(self))))
        ids = positions(index, len(self))
        return self._values_of(ids.reshape(-1)).reshape(ids.shape)[()]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values: NDArray[Any] = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        read = [np.asarray(one) if isinstance(one, Expando) else one for one in inputs]
        return getattr(ufunc, method)(*read, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __repr__(self) -> str:
        return f"<Expando {len(self)} values, {self.dtype_name}, read when indexed>"
