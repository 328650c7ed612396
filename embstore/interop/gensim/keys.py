"""Keys of gensim's functions: words, ids (ints), and vectors.

Its functions take one key or several, with or without weights; here they become ids and vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from embstore.errors import MissingWordError
from embstore.norms import unit
from embstore.settle import shown, shown_with_type
from embstore.vocabulary.given import are_words
from embstore.vocabulary.missing import find_ids

if TYPE_CHECKING:
    from embstore.store import EmbeddingStore

Key = str | int
# One key or vector, or several, with or without weights.
Keys = Key | NDArray[Any] | Sequence[Any] | None


class KeyLookup:
    """The ids and vectors of keys.

    Parameters
    ----------
    store : EmbeddingStore
        The store that has them.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return key in self._store
        return is_id(key) and 0 <= int(key) < len(self._store)

    def id_of(self, key: Any) -> int:
        """Return the id of one word or int; errors as `ids`."""
        if isinstance(key, str) and (found := self._store.vocabulary.id_of(key)) >= 0:
            return found
        if is_id(key) and 0 <= int(key) < len(self._store):
            return int(key)
        return int(self.ids([key])[0])  # Raises.

    def ids(
        self, keys: Sequence[Any], missing: Literal["error", "none"] = "error"
    ) -> NDArray[np.int64]:
        """Return the ids of words and ints, shape (n,).

        Parameters
        ----------
        keys : sequence of str and int
        missing : {"error", "none"}
            What to do with a missing key: raise, or return -1 as its id.

        Raises
        ------
        MissingWordError
            If keys are missing. As in gensim, anything else that may be a key of a dict is one.
        TypeError
            If a key may not be one: a list, an array, a bool.
        """
        words = [key for key in keys if isinstance(key, str)]
        store = self._store
        of_words = find_ids(
            words, store.vocabulary, missing, unk=None, path=store.location, remedy=""
        )
        if len(words) == len(keys):
            return of_words
        found = iter(of_words)
        ids = np.empty(len(keys), np.int64)
        for at, key in enumerate(keys):
            if isinstance(key, str):
                ids[at] = next(found)
            elif key in self:
                ids[at] = int(key)
            elif type(key).__hash__ is None or isinstance(key, bool | np.bool_):
                raise TypeError(f"a key must be a str or an int, not {type(key).__name__}")
            elif missing == "none":
                ids[at] = -1
            else:
                plain = key.item() if isinstance(key, np.generic) else key
                raise MissingWordError(
                    f"key {shown(plain)} is missing: a key is a word, or an id from 0 to "
                    f"{len(self._store) - 1}"
                )
        return ids

    def vectors(self, keys: Sequence[Any], *, norm: bool) -> NDArray[np.float64]:
        """Return the vectors of keys, shape (n, dimension).

        Parameters
        ----------
        keys : sequence of str, int and ndarray
        norm : bool
            Whether to scale the vectors of words and ids to length 1.

        Raises
        ------
        ValueError
            If a given vector has another shape than the store's rows.
        """
        dimension = self._store.row_shape[0]
        vectors = np.empty((len(keys), dimension))
        is_key = np.array([not isinstance(key, np.ndarray) for key in keys], bool)
        rows = self._store.lookup(self.ids(without_vectors(keys)))
        vectors[is_key] = unit(rows.astype(np.float64)) if norm else rows
        for at in np.flatnonzero(~is_key).tolist():
            if keys[at].shape != (dimension,):
                raise ValueError(f"a vector has shape {keys[at].shape}, expected ({dimension},)")
            if keys[at].dtype.kind == "b":
                raise TypeError("a vector must be of numbers, not of bools")
            vectors[at] = keys[at]
        return vectors

    def mean(
        self, keys: Sequence[Any], weights: Sequence[float] | NDArray[Any], *, norm: bool
    ) -> NDArray[np.float64]:
        """Return the sum of the weighted vectors divided by the sum of the absolute weights."""
        factors = np.asarray(weights, np.float64)
        if factors.shape != (len(keys),):
            raise ValueError(f"weights have shape {factors.shape}, expected ({len(keys)},)")
        total = np.abs(factors).sum()
        # Divided first, so that the sum of large vectors does not overflow.
        return np.asarray(factors / (total or 1.0) @ self.vectors(keys, norm=norm))

    def present(self, keys: Sequence[Any]) -> list[int]:
        """Return the positions of vectors, and of keys that the store has."""
        found = np.array([isinstance(key, np.ndarray) for key in keys], bool)
        found[~found] = self.ids(without_vectors(keys), "none") >= 0
        return np.flatnonzero(found).tolist()


def without_vectors(keys: Sequence[Any]) -> list[Any]:
    """Return the keys that are words or ids."""
    return [key for key in keys if not isinstance(key, np.ndarray)]


def as_list(keys: Keys) -> list[Any]:
    """Return one key or vector, several, or None as a list.

    Examples
    --------
    >>> as_list(None), as_list("like"), as_list(["like", 5])
    ([], ['like'], ['like', 5])
    """
    if keys is None:
        return []
    if isinstance(keys, str | Integral):
        return [keys]
    if isinstance(keys, np.ndarray) and keys.ndim == 1 and not are_words(keys):
        return [keys]
    return key_list(keys)


def key_list(keys: Any) -> list[Any]:
    """Return several keys or vectors as a list; also those in a Series, an Index or an Arrow array.

    A str is refused, because its letters would be looked up.

    Examples
    --------
    >>> key_list(("like", 5)), key_list(np.array(["like", "the"]))
    (['like', 5], ['like', 'the'])
    """
    if isinstance(keys, bytes):  # A sequence of ints, which would be ids.
        raise TypeError("a word must be a str, not bytes; convert it with .decode()")
    if isinstance(keys, str):
        raise TypeError(f"expected a list of words, not {shown_with_type(keys)}")
    if hasattr(keys, "__array__"):
        keys = np.asarray(keys)
    if isinstance(keys, np.ndarray) and are_words(keys):
        keys = keys.tolist()
    return list(keys)


def is_id(key: Any) -> TypeGuard[Integral]:
    """Say whether a key is an id: an integer, and not a bool."""
    return isinstance(key, Integral) and not isinstance(key, bool)


def weighted(positive: list[Any], negative: list[Any]) -> tuple[list[Any], list[float]]:
    """Return all keys and vectors, and their weights: 1 or -1 where none is given.

    Examples
    --------
    >>> weighted(["like", ("day", 0.5)], ["the"])
    (['like', 'day', 'the'], [1.0, 0.5, -1.0])
    """
    keys, weights = [], []
    for items, usual in ((positive, 1.0), (negative, -1.0)):
        for item in items:
            key, weight = item, usual
            if not isinstance(item, str | Integral | np.ndarray):
                try:
                    key, weight = item
                    weight = float(weight)
                except (TypeError, ValueError):
                    raise TypeError(
                        f"expected a key, a vector or (key, weight), not {shown_with_type(item)}"
                    ) from None
            keys.append(key)
            weights.append(weight)
    return keys, weights
