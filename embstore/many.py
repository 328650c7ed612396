"""Lookups in several stores at once, such as the features of a recommender.

1. A few rows of each store that are expected in RAM are gathered together
   (`embstore.reading.joint`), or else one store after the other.
2. The first store whose rows are on the device ends this. Its rows and those of all later stores
   are announced before any is waited for. So the device reads for all of them at once, and the call
   takes as long as for one.
3. Rows from elsewhere, such as those at a URL, are looked up by threads, at the same time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.encoded import EncodedRecords
from embstore.reading.joint import JointPlan
from embstore.reading.mapped import MappedRecords
from embstore.reading.short_path import FEW_BYTES, FEW_ROWS
from embstore.store import EmbeddingStore
from embstore.table.ids import as_ids
from embstore.threads import LazyPool
from embstore.view import StoreView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

# Lookups at a time in stores that are not mapped.
ASKERS = 32
_askers = LazyPool(ASKERS, "embstore_many")
# Plans of joint gathers, by the identities of their tables.
KEPT_PLANS = 16
_plans: dict[tuple[int, ...], JointPlan] = {}

_ndarray, _INT64 = np.ndarray, np.dtype(np.int64)


def lookup_many(
    pairs: Iterable[tuple[EmbeddingStore | StoreView, ArrayLike]],
) -> list[NDArray[Any]]:
    """Return the rows of ids in several stores, one array for each.

    For models with many tables, of which each step needs a few rows: the features of a recommender,
    or the layers of a language model. In RAM, this takes about as long as ``numpy.take`` on as many
    arrays. Cold rows of all stores are read at the same time.

    Parameters
    ----------
    pairs : iterable of (EmbeddingStore or StoreView, array-like of integers)
        Stores, local, remote or connected, and ids in them, as `EmbeddingStore.lookup` takes them.
        A store may come several times.

    Returns
    -------
    list of ndarray
        For each pair ``store.lookup(ids)``, of shape ``ids.shape + store.row_shape``, in order.

    Raises
    ------
    TypeError
        If one of them is not a pair of a store and ids.
    IdTypeError, IdRangeError, StoreClosedError, RemoteError
        As `EmbeddingStore.lookup`; the message begins with the pair, counted from 0.

    Examples
    --------
    >>> users, items = store, store.view(0, 6)
    >>> rows = embstore.lookup_many([(users, [7, 1]), (items, [[0], [5]])])
    >>> [found.shape for found in rows]
    [(2, 8), (2, 1, 8)]
    """
    given = list(pairs)
    found = _take_together(given)
    return _take_in_turn(given) if found is None else found


def _take_together(pairs: list[Any]) -> list[NDArray[Any]] | None:
    """Return the rows of all pairs by one gather; None if they cannot be, or a pair is wrong."""
    try:
        tables = [store._joint for store, _ in pairs]
        batches = [ids for _, ids in pairs]
    except (AttributeError, TypeError, ValueError):
        return None
    if not tables or None in tables:
        return None
    for ids in batches:
        if type(ids) is not _ndarray or ids.dtype is not _INT64:
            return None
    key = tuple(map(id, tables))
    plan = _plans.get(key)
    if plan is None or not plan.is_for(tables):
        if len(_plans) >= KEPT_PLANS:
            _plans.clear()
        plan = _plans[key] = JointPlan(tables)
    return plan.take(tables, batches)


def _take_in_turn(pairs: list[Any]) -> list[NDArray[Any]]:
    """Return the rows of all pairs, one after the other, those that are in RAM first."""
    found: list[Any] = []
    later: list[tuple[int, Callable[[], NDArray[Any]]]] = []
    at, cold = -1, False
    try:
        for at, pair in enumerate(pairs):
            store, ids = _settled(pair)
            warm, rows = store._warm, None
            if not cold and warm is not None and 0 < ids.size <= store._few_ids:
                rows = warm(ids)
                cold = rows is None
            if rows is None:
                later.append((at, _begin(store, ids)))
            found.append(rows)
        for at, rows_of in later:
            found[at] = rows_of()
    except Exception as error:
        _name(error, at)
        raise
    return found


def _settled(pair: Any) -> tuple[EmbeddingStore, NDArray[np.int64]]:
    """Return the store of a pair, that of the table if it is a view, and the ids as an array."""
    try:
        store, ids = pair
    except (TypeError, ValueError):
        raise _wrong(pair) from None
    if isinstance(store, StoreView):
        store, ids = store.store, store._checked(ids, "error")[0]
    if not isinstance(store, EmbeddingStore):
        raise _wrong(store)
    return store, as_ids(ids, store._rows)


def _begin(store: EmbeddingStore, ids: NDArray[np.int64]) -> Callable[[], NDArray[Any]]:
    """Start reading the rows of ids, if they may be cold; return what waits for them."""
    form = store._open_forms().default
    records, size = form.records, ids.size
    if not (isinstance(records, MappedRecords | EncodedRecords) and records.mapped):
        pool = _askers.get()
        return partial(pool.result, pool.submit(partial(store.lookup, ids.copy())))
    if not (0 < size <= FEW_ROWS and size * store.record_bytes <= FEW_BYTES):
        return partial(store.lookup, ids)
    out = np.empty(ids.shape + form.row_shape, form.dtype)
    fill = records.announce_few(store._rows_of(ids.reshape(-1)))

    def rows() -> NDArray[Any]:
        fill(out.reshape(size, *form.row_shape))
        return out

    return rows


def _wrong(given: object) -> TypeError:
    return TypeError(
        f"expected a pair of an EmbeddingStore or StoreView and ids, found {type(given).__name__}"
    )


def _name(error: Exception, at: int) -> None:
    """Have an error say in which pair it was."""
    text = str(error)
    if error.args == (text,):
        error.args = (f"pair {at}: {text}",)
    else:
        error.add_note(f"in pair {at} of lookup_many")
