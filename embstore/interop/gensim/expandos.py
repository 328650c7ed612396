"""Attributes of keys, as gensim's ``expandos`` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.interop.gensim.keys import KeyLookup, as_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

    from embstore.columns import Column
    from embstore.store import EmbeddingStore

COUNT = "count"


class Expandos(Mapping[str, "Column | MadeUpCounts"]):
    """The attributes of a store, and ``"count"`` even where the store has none.

    gensim makes counts up when it reads a file of vectors without any, so code counts on them: the
    first word gets the number of words, and each other one less than the word before it.

    Examples
    --------
    >>> expandos = Expandos(store)
    >>> list(expandos), expandos["count"][0], expandos["count"][[1, 10]]
    (['count'], np.int64(11), array([10,  1]))
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def __getitem__(self, name: str) -> Column | MadeUpCounts:
        columns = self._store.attributes
        if name == COUNT and COUNT not in columns:
            return MadeUpCounts(self._store)
        return columns[name]

    def __iter__(self) -> Iterator[str]:
        columns = self._store.attributes
        yield from columns
        if COUNT not in columns:
            yield COUNT

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Expandos {', '.join(self)}>"


class MadeUpCounts:
    """A count for each id: the number of words less the id."""

    dtype = np.dtype(np.int64)
    dtype_name = "int64"
    ndim = 1

    def __init__(self, store: EmbeddingStore) -> None:
        self._store, self._keys = store, KeyLookup(store)

    @property
    def shape(self) -> tuple[int]:
        """One number for each id."""
        return (len(self._store),)

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return np.asarray(self)[key]
        ids = self._keys.ids(as_list(key)) if not isinstance(key, np.ndarray) else key
        counts = len(self) - np.asarray(ids, np.int64)
        return counts if isinstance(key, list | tuple | np.ndarray) else counts[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.arange(len(self), 0, -1, dtype=dtype or np.int64)
