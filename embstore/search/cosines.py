"""Cosines of all rows with a few vectors, and the rows where a combination of them is highest.

1. A block's dot products with the vectors are divided by the rows' norms. A norm is computed when
   its row is first seen, and kept in memory: four bytes a row. Norms are not stored in the format,
   because computing them only doubles the time of the first search.
2. Rows whose norms are extreme (`embstore.norms`) are scaled to length 1 before they are compared.
3. The few rows nearest to one vector are found by `Neighbours`. Of a combination of several, all
   scores of a block are computed.

Dot products are NumPy's ``einsum``, which adds up a row's numbers in their order. It is limited
only by memory bandwidth. Equal rows get scores that are equal to the bit, whatever their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.search.best import Best
from embstore.search.metrics import CosineOfUnits, cosines
from embstore.search.neighbours import Neighbours, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.search.table import SearchedTable

# Sorting all scores is faster than keeping the best ones from a quarter of the rows on.
SORTED_SHARE = 4
_OF_UNITS, _NO_IDS = CosineOfUnits(), np.empty(0, np.int64)


def _only(cosines: NDArray[Any]) -> NDArray[Any]:
    only: NDArray[Any] = cosines[0]
    return only


@dataclass(frozen=True, slots=True)
class Query:
    """The vectors that rows are compared with.

    Parameters
    ----------
    vectors : ndarray, shape (n, dimension)
        Vectors of length 1; the cosines of another one are multiplied by its length.
    combine : callable, optional
        Combines the cosines of k rows, shape (n, k), into one score for each, shape (k,). By
        default, the score is the cosine with the only vector.
    """

    vectors: NDArray[Any]
    combine: Callable[[NDArray[Any]], NDArray[Any]] = _only


class CosineSearch:
    """Search among the rows of a store; many threads may use it.

    Parameters
    ----------
    store : SearchedTable
        The store; its rows must be vectors.

    Attributes
    ----------
    dtype : numpy.dtype
        Dtype of norms and scores: float32, or float64 where float32 cannot hold the rows.
    nearest : Neighbours
        The search for the rows nearest to one vector, with the same norms.

    Examples
    --------
    >>> search = CosineSearch(store)
    >>> like = store["like"] / np.linalg.norm(store["like"])
    >>> ids, scores = search.best(Query(like[np.newaxis]), 3)
    >>> store.words(ids), scores.round(3)
    (['like', 'the', 'such'], array([1.   , 0.785, 0.7  ], dtype=float32))
    """

    def __init__(self, store: SearchedTable) -> None:
        self._store = store
        self.nearest = Neighbours(store)
        self.dtype = self.nearest.dtype
        self._norms = self.nearest.norms

    def norms(self) -> NDArray[Any]:
        """Return the L2 norms of all rows, shape (rows,), read-only."""
        found = self._norms.known()
        if found is None:
            found = np.empty(self._store.rows, self.dtype)

            def visit(ids: range, rows: NDArray[Any]) -> None:
                found[ids.start : ids.stop : ids.step] = self._norms.of(ids, self._cast(rows))

            self._store.scan(visit)
        norms = found.view()
        norms.flags.writeable = False
        return norms

    def scores(self, query: Query, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the scores of the ids ``start .. stop - 1``, shape (stop - start,).

        The score of a row of zeros, which has no direction, is nan.
        """
        stop = self._store.rows if stop is None else stop
        self._norms.known()  # If all are known, blocks need not look.
        found = np.empty(stop - start, self.dtype)

        def visit(ids: range, rows: NDArray[Any]) -> None:
            found[ids.start - start : ids.stop - start : ids.step] = self._score(query, ids, rows)

        self._store.scan(visit, start, stop)
        return found

    def best(
        self, query: Query, count: int, start: int = 0, stop: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the ``count`` ids with the highest scores, and their scores, highest first.

        For equal scores, the lower id comes first; rows of zeros, whose score is nan, come last.
        """
        stop = self._store.rows if stop is None else stop
        ids = range(start, stop)
        if count * SORTED_SHARE >= len(ids):
            best = Best(count, self.dtype)
            best.offer(ids, self.scores(query, start, stop))
            return best.result()
        if query.combine is _only:
            (found,) = self.nearest.find(Wanted(query.vectors, count, ids, [_NO_IDS]), _OF_UNITS)
            return found
        best = Best(count, self.dtype)
        self._norms.known()

        def visit(ids: range, rows: NDArray[Any]) -> None:
            best.offer(ids, self._score(query, ids, rows))

        self._store.scan(visit, start, stop)
        return best.result()

    def _score(self, query: Query, ids: range, rows: NDArray[Any]) -> NDArray[Any]:
        rows = self._cast(rows)
        norms = self._norms.of(ids, rows)
        found = np.empty((len(query.vectors), len(rows)), self.dtype)
        for vector, out in zip(query.vectors, found, strict=True):
            out[:] = cosines(rows, norms, vector, extremes=self._norms.have_extremes)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            return query.combine(found)

    def _cast(self, rows: NDArray[Any]) -> NDArray[Any]:
        return rows.astype(self.dtype, copy=False)
