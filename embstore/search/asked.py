"""What callers of ``most_similar`` ask: queries, the ids to search, and those to leave out."""

from __future__ import annotations

import math
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import has_masked, is_tensor, tensor_array
from embstore.settle import as_count, shown, shown_with_type
from embstore.table.given import plain
from embstore.table.ids import as_ids
from embstore.vocabulary.given import are_words
from embstore.vocabulary.missing import find_ids
from embstore.wording import shape_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.search.table import SearchedTable

_NO_IDS = np.empty(0, np.int64)
_QUERY = "a word, an id, a vector of shape {}, or a batch of one of these"
_SEVERAL = (
    "a batch is a list of words and ids, or an array of vectors; look up the rows of words first, "
    "as in store[words]"
)


class Queries:
    """The vectors of a query, and which rows they are.

    Parameters
    ----------
    store : SearchedTable
        The store that is searched.
    given : str, int, or array-like
        A word, an id, a vector, or a batch of one of these.

    Attributes
    ----------
    vectors : ndarray, shape (q, numbers of a row)
        The vectors.
    own : ndarray of int64, shape (q,), or None
        The ids of the vectors, which are not their own neighbours; None if they were given.
    is_batch : bool
        Whether several were asked for, if only one or none in a batch.

    Raises
    ------
    MissingWordError, IdRangeError, IdTypeError
        If words are missing, or ids wrong.
    TypeError, ValueError
        If ``given`` is none of these, has another shape, or numbers that are not finite.
    """

    def __init__(self, store: SearchedTable, given: Any) -> None:
        self.own: NDArray[np.int64] | None = None
        numbers = np.asarray(0) if isinstance(given, str | bytes) else _as_numbers(given)
        if numbers is not None and numbers.dtype.kind in "fc":
            self.vectors, self.is_batch = _as_vectors(numbers, store.row_shape)
            return
        ids = _as_ids(store, given, "query")
        if ids.ndim > 1:
            raise ValueError(
                f"query has shape {shape_text(ids.shape)}; expected "
                f"{_QUERY.format(store.row_shape)}"
            )
        self.is_batch = ids.ndim == 1
        self.own = ids.reshape(-1)
        self.vectors = _flat(store.lookup(self.own), len(self.own), store.row_shape)


def searched(store: SearchedTable, restrict: Any) -> range | NDArray[np.int64]:
    """Return the ids to search: consecutive ones, or any in ascending order.

    Parameters
    ----------
    store : SearchedTable
        The store that is searched.
    restrict : int, slice, range, or array-like of ids or words; or None
        The number of first ids, a range of ids, or these ids; None for all.

    Examples
    --------
    >>> searched(store, None), searched(store, 5), searched(store, slice(2, -1))
    (range(0, 11), range(0, 5), range(2, 10))
    >>> searched(store, ["like", "the"])
    array([0, 1])
    """
    if restrict is None:
        return range(store.rows)
    if isinstance(restrict, Integral):
        return range(min(as_count(restrict, "restrict"), store.rows))
    if isinstance(restrict, slice):
        restrict = range(*restrict.indices(store.rows))
    if isinstance(restrict, range):
        if restrict.step == 1:
            inside = 0 <= restrict.start <= restrict.stop <= store.rows
            if inside or not restrict:
                return restrict if inside else range(0)
        restrict = _numbers(store, restrict)
    return np.unique(_as_ids(store, restrict, "restrict"))


def left_out(store: SearchedTable, exclude: Any) -> NDArray[np.int64]:
    """Return the ids to leave out, in ascending order: those of ids or words, or of one.

    Examples
    --------
    >>> left_out(store, ["like", "the"]), left_out(store, 3), left_out(store, ())
    (array([0, 1]), array([3]), array([], dtype=int64))
    """
    if isinstance(exclude, slice):
        exclude = range(*exclude.indices(store.rows))
    if isinstance(exclude, range):
        exclude = _numbers(store, exclude)
    return np.unique(_as_ids(store, exclude, "exclude"))


def _numbers(store: SearchedTable, ids: range) -> NDArray[np.int64]:
    """Return the ids of a range; one that ends outside of the table takes no memory."""
    if not ids:
        return _NO_IDS
    as_ids([ids[0], ids[-1]], store.rows)
    return np.arange(ids.start, ids.stop, ids.step)


def _as_ids(store: SearchedTable, given: Any, name: str) -> NDArray[np.int64]:
    """Return the ids of ids, words, or a list of both."""
    if isinstance(given, set | frozenset | dict):
        given = list(given)
    given = plain(given)
    if isinstance(given, list | tuple):
        if not given:
            return _NO_IDS
        are_str = [isinstance(one, str) for one in given]
        if any(are_str) and not all(are_str):
            return np.array([_as_id(store, one, name) for one in given])
    if are_words(given):
        # Zeros or another row in the place of a missing word would have other neighbours.
        return find_ids(given, store.vocabulary, "error", unk=None, path="", remedy="")[()]
    if given is None or isinstance(given, bytes):
        raise TypeError(f"{name} must be ids or words, not {shown_with_type(given)}")
    return as_ids(given, store.rows)


def _as_id(store: SearchedTable, given: Any, name: str) -> np.int64:
    """Return the id of one item of a list of words and ids."""
    if not isinstance(given, str | Integral):
        raise TypeError(f"{name} has words and also {shown_with_type(given)}; {_SEVERAL}")
    return np.int64(_as_ids(store, given, name))


def _as_numbers(given: Any) -> NDArray[Any] | None:
    """Return an array of what may be numbers; None for words, and for what is no array."""
    given = plain(given)
    items = given if isinstance(given, list | tuple) else ()
    if are_words(given) or any(isinstance(one, str) for one in items):
        return None
    if has_masked(given):
        raise TypeError("query must be numbers, but some are masked")
    try:
        found = tensor_array(given) if is_tensor(given) else np.asarray(given)
    except (ValueError, TypeError, OverflowError) as error:
        if any(hasattr(one, "__len__") for one in items):
            raise ValueError(f"query has items of different shapes; {_SEVERAL}") from error
        return None
    if found.dtype.kind == "V":  # bfloat16 and float8.
        return found.astype(np.float32)
    # An empty list is a batch of no ids.
    return None if found.ndim == 1 and not found.size and given is items else found


def _as_vectors(numbers: NDArray[Any], shape: tuple[int, ...]) -> tuple[NDArray[Any], bool]:
    """Return vectors, shape (q, numbers of a row), and whether they are a batch."""
    if numbers.shape[numbers.ndim - len(shape) :] != shape or numbers.ndim > len(shape) + 1:
        raise ValueError(
            f"query has numbers of shape {shape_text(numbers.shape)}; expected "
            f"{_QUERY.format(shape)}"
        )
    if numbers.dtype.kind == "c":
        raise TypeError("query must be real numbers, not complex ones")
    is_batch = numbers.ndim > len(shape)
    vectors = _flat(numbers, len(numbers) if is_batch else 1, shape)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"query has numbers that are not finite, the first at vector "
            f"{int(finite.argmin())}: {shown(vectors[finite.argmin()].tolist())}"
        )
    return vectors, is_batch


def _flat(rows: NDArray[Any], count: int, shape: tuple[int, ...]) -> NDArray[Any]:
    return rows.reshape(count, math.prod(shape))
