"""What does a key stand for? A word, an int, which is an id, or a vector that is given as it is.

The arguments of gensim's functions, one key or several, with or without weights, become ids and
vectors here.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embstore.errors import MissingWordError

if TYPE_CHECKING:
    from embstore.store import EmbeddingStore

Key = str | int
# One key or vector, or several, with or without weights.
Keys = Key | NDArray[Any] | Sequence[Any] | None


class KeyLookup:
    """Finds the ids and vectors of keys.

    Parameters
    ----------
    store : EmbeddingStore
        Where they are.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return key in self._store
        return isinstance(key, Integral) and 0 <= int(key) < len(self._store)

    def ids(
        self, keys: Sequence[Any], missing: Literal["error", "none"] = "error"
    ) -> NDArray[np.int64]:
        """Return the ids of words and ints, shape (n,).

        Parameters
        ----------
        keys : sequence of str and int
        missing : {"error", "none"}
            What a key that is not there gives: an error, or -1.

        Raises
        ------
        MissingWordError
            If some are not there.
        TypeError
            If one is neither a word nor an int.
        """
        words = [key for key in keys if isinstance(key, str)]
        found = iter(self._store.ids(words, missing=missing))
        ids = np.empty(len(keys), np.int64)
        for at, key in enumerate(keys):
            if isinstance(key, str):
                ids[at] = next(found)
            elif not isinstance(key, Integral):
                raise TypeError(f"a key is a word or an int, not {type(key).__name__}")
            elif key in self or missing == "none":
                ids[at] = int(key) if key in self else -1
            else:
                raise MissingWordError(
                    f"there is no key {key}: an int is an id, from 0 to {len(self._store) - 1}"
                )
        return ids

    def vectors(self, keys: Sequence[Any], *, norm: bool) -> NDArray[np.float64]:
        """Return the vectors of keys, shape (n, dimension).

        Parameters
        ----------
        keys : sequence of str, int and ndarray
        norm : bool
            Whether to scale those of words and ints to length 1.

        Raises
        ------
        ValueError
            If a vector has another shape than the store's.
        """
        dimension = self._store.row_shape[0]
        vectors = np.empty((len(keys), dimension))
        is_key = np.array([not isinstance(key, np.ndarray) for key in keys], bool)
        rows = self._store.lookup(self.ids(without_vectors(keys)))
        vectors[is_key] = unit(rows.astype(np.float64)) if norm else rows
        for at in np.flatnonzero(~is_key).tolist():
            if keys[at].shape != (dimension,):
                raise ValueError(f"a vector of shape {keys[at].shape}, expected ({dimension},)")
            vectors[at] = keys[at]
        return vectors

    def mean(
        self, keys: Sequence[Any], weights: Sequence[float] | NDArray[Any], *, norm: bool
    ) -> NDArray[np.float64]:
        """Return the sum of weighted vectors, over the sum of the absolute weights."""
        factors = np.asarray(weights, np.float64)
        if factors.shape != (len(keys),):
            raise ValueError(f"weights of shape {factors.shape}, expected ({len(keys)},)")
        total = np.abs(factors).sum()
        return np.asarray(factors @ self.vectors(keys, norm=norm) / (total or 1.0))

    def present(self, keys: Sequence[Any]) -> list[int]:
        """Return the places of those keys that are there; a vector is."""
        there = np.array([isinstance(key, np.ndarray) for key in keys], bool)
        there[~there] = self.ids(without_vectors(keys), "none") >= 0
        return np.flatnonzero(there).tolist()


def without_vectors(keys: Sequence[Any]) -> list[Any]:
    """Return those keys that are words or ints."""
    return [key for key in keys if not isinstance(key, np.ndarray)]


def as_list(keys: Keys) -> list[Any]:
    """Return a list of what may be one key or vector, or several, or None.

    Examples
    --------
    >>> as_list(None), as_list("like"), as_list(["like", 5])
    ([], ['like'], ['like', 5])
    """
    if keys is None:
        return []
    if isinstance(keys, bytes):  # A sequence of ints, which would be ids.
        raise TypeError("a word is a str, not bytes; .decode() makes one")
    if isinstance(keys, str | Integral) or (isinstance(keys, np.ndarray) and keys.ndim == 1):
        return [keys]
    return list(keys)  # type: ignore[arg-type]  # An int is an Integral.


def weighted(positive: list[Any], negative: list[Any]) -> tuple[list[Any], list[float]]:
    """Return keys and vectors, and their weights.

    Examples
    --------
    >>> weighted(["like", ("day", 0.5)], ["the"])
    (['like', 'day', 'the'], [1.0, 0.5, -1.0])
    """
    keys, weights = [], []
    for items, usual in ((positive, 1.0), (negative, -1.0)):
        for item in items:
            if isinstance(item, str | Integral | np.ndarray):
                key, weight = item, usual
            else:
                key, weight = item
            keys.append(key)
            weights.append(float(weight))
    return keys, weights


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Scale vectors, shape (..., dimension), to length 1; zeros stay zeros.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms))
