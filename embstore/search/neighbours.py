"""The rows nearest to each of many vectors, found in one pass over the table.

1. The store scans its rows in blocks, on as many threads as there are processors.
2. Of a block and a few vectors all scores are computed. For more vectors, one matrix product
   tells which rows cannot be among the best, and only the others are scored (`metrics`).
3. A few vectors are multiplied, too, where rows are floats in memory and their norms are known from
   an earlier search. Then one thread scans, and the threads of the product share each block: they
   take turns less often than threads of Python, which are late after a pause.
4. Of each block, only rows that are at least as good as the worst of the best so far are kept.

Memory is bounded: a few blocks, the best scores, and the norms of up to 67 million rows (twice for
partitions by ``mod``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.norms import are_extreme, row_norms
from embstore.progress import Progress
from embstore.reading import workers
from embstore.search.best import Best, ids_at
from embstore.search.blas_threads import have_threads, multiply, one_thread_each
from embstore.search.metrics import Errors, Euclidean, error_of
from embstore.search.row_norms import RowNorms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.progress import OnProgress
    from embstore.search.metrics import Metric
    from embstore.search.table import SearchedTable

# From this number of vectors on, the matrix product pays.
SCREENED = 3
# Scores of a block that are on the screen at a time.
SCREEN_NUMBERS = 1 << 20
BLOCK_BYTES = 4 << 20  # Of rows that are looked up.


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for.

    Parameters
    ----------
    vectors : ndarray, shape (q, dimension)
        The vectors.
    count : int
        Number of rows to find for each.
    among : range or ndarray of int64
        The ids that are searched: consecutive, or any in ascending order.
    without : sequence of ndarray of int64
        For each vector, ids in ascending order that are left out.
    """

    vectors: NDArray[Any]
    count: int
    among: range | NDArray[np.int64]
    without: Sequence[NDArray[np.int64]]


class Neighbours:
    """Search among the rows of a store; many threads may use it.

    Parameters
    ----------
    store : SearchedTable
        The store. Rows of several axes are compared as vectors of all their numbers.

    Attributes
    ----------
    dtype : numpy.dtype
        Dtype of norms and scores: float32, or float64 where float32 cannot hold the rows.
    norms : RowNorms
        The norms of the rows, as far as searches have computed them.

    Examples
    --------
    >>> from embstore.search.metrics import METRICS
    >>> wanted = Wanted(store[:1], 2, range(len(store)), [np.array([0])])
    >>> [(ids, scores)] = Neighbours(store).find(wanted, METRICS["cosine"])
    >>> store.words(ids), scores.round(3)
    (['like', 'day'], array([0.785, 0.671], dtype=float32))
    """

    def __init__(self, store: SearchedTable) -> None:
        self._store = store
        self.dtype = np.result_type(store.dtype, np.float32)
        self.norms = RowNorms(store.rows, self.dtype)

    def find(
        self, wanted: Wanted, metric: Metric, progress: OnProgress | None = None
    ) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Return for each vector the nearest ids and their scores, the nearest first.

        Among equal scores, the lower id comes first.
        """
        search = _Search(wanted, metric, self.norms, self.dtype, views=self._has_views())
        done, lock = 0, Lock()
        row_bytes = self._store.nbytes // max(self._store.rows, 1)

        def visit(ids: range | NDArray[np.int64], rows: NDArray[Any]) -> None:
            nonlocal done
            search.offer(ids, rows.reshape(len(rows), -1).astype(self.dtype, copy=False))
            if progress is not None:
                with lock:
                    done += len(rows)
                    progress(Progress(done * row_bytes, len(wanted.among) * row_bytes, done))

        if isinstance(wanted.among, range):
            with search.threads():
                self._store.scan(visit, wanted.among.start, wanted.among.stop)
        else:
            step = max(BLOCK_BYTES // max(row_bytes, 1), 1)
            for start in range(0, len(wanted.among), step):
                ids = wanted.among[start : start + step]
                visit(ids, self._store.lookup(ids))
        return [best.result() for best in search.bests]

    def _has_views(self) -> bool:
        """Say whether rows are compared as they lie in memory."""
        store = self._store
        return store.mapped and store.encoding == "plain" and store.dtype == self.dtype


def _places_of(wanted: NDArray[np.int64], ids: range | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of ids, which ascend, that some others have."""
    places: NDArray[np.int64]
    if isinstance(ids, range):
        places, rest = np.divmod(wanted - ids.start, ids.step)
        has = (rest == 0) & (places >= 0) & (places < len(ids))
    else:
        places = np.searchsorted(ids, wanted)
        has = np.isin(wanted, ids)
    return np.asarray(places[has])


def _narrowed(vectors: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return vectors in the dtype of a search."""
    with np.errstate(over="ignore", under="ignore"):
        found = vectors.astype(dtype, copy=False)
    if (np.isinf(found) & np.isfinite(vectors)).any():
        raise ValueError(
            f"query has numbers up to {np.abs(vectors).max():.3g}, and the search is in {dtype}, "
            f"whose largest is {np.finfo(dtype).max:.3g}; scale the query"
        )
    return found


class _Search:
    """One search: its vectors, and the best rows so far."""

    def __init__(
        self,
        wanted: Wanted,
        metric: Metric,
        norms: RowNorms,
        dtype: np.dtype[Any],
        *,
        views: bool,
    ) -> None:
        self._metric, self._norms = metric, norms
        are_known = norms.known() is not None  # Then blocks need not look.
        wide = wanted.vectors.astype(np.result_type(wanted.vectors, dtype), copy=False)
        self._vectors = _narrowed(metric.prepare(wide), dtype)
        self._lengths = row_norms(self._vectors)
        self._without = wanted.without
        self._error = error_of(self._vectors.shape[1], dtype)
        self._count = wanted.count
        self.bests = [Best(wanted.count, dtype) for _ in self._vectors]
        are_ordinary = not (are_extreme(self._lengths) & (self._lengths != 0)).any()
        are_many = len(self._vectors) >= SCREENED
        self._multiplies = are_ordinary and are_many
        self._shares = are_ordinary and not are_many and are_known and views and have_threads()
        is_screened = self._multiplies or self._shares or isinstance(metric, Euclidean)
        self._screens = are_ordinary and is_screened
        helps_next = views and norms.are_kept
        self._needs_norms = self._screens or metric.needs_norms or helps_next

    def threads(self) -> AbstractContextManager[None]:
        """Return what decides which threads work: those of the scan, or those of products."""
        if self._shares:
            return workers.alone()
        return one_thread_each() if self._multiplies else nullcontext()

    def offer(self, ids: range | NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Compare the rows of ids, in ascending order, with all vectors."""
        norms = self._norms.of(ids, rows) if self._needs_norms else None
        if norms is None or not self._screens:
            for number in range(len(self._vectors)):
                self._compare(number, ids, rows, norms, None)
            return
        step = max(SCREEN_NUMBERS // max(len(rows), 1), 1)
        with np.errstate(all="ignore"):  # Once, as it takes as long as small products.
            for start in range(0, len(self._vectors), step):
                some = range(start, min(start + step, len(self._vectors)))
                for number, places in self._screen(some, self._products(some, rows), norms):
                    self._compare(number, ids, rows, norms, places)

    def _products(self, some: range, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the dot products of some vectors with rows, shape (q, n)."""
        vectors = self._vectors[some.start : some.stop]
        found: NDArray[Any]
        if self._shares:
            found = np.empty((len(some), len(rows)), rows.dtype)
            for vector, out in zip(vectors, found, strict=True):
                multiply(rows, vector, out)
        elif len(some) >= SCREENED:
            found = vectors @ rows.T
        else:
            found = np.einsum("kj,ij->ki", vectors, rows)
        return found

    def _screen(
        self, some: range, dots: NDArray[Any], norms: NDArray[Any]
    ) -> Iterator[tuple[int, NDArray[np.int64] | None]]:
        """Yield some vectors with the places of rows that may be among the best; None for all.

        ``dots`` has their products with all rows, shape (q, n), and is overwritten.
        """
        bounds = np.array([self.bests[number].least for number in some], self._vectors.dtype)
        inexact, ordinary = None, norms
        if self._norms.have_extremes:  # A product with such a row may be wrong.
            inexact = are_extreme(norms) & (norms != 0)
            ordinary = norms[~inexact]
        errors = Errors(self._error, ordinary.max(initial=0))
        most, less = self._metric.screen(dots, norms, self._lengths[some.start : some.stop], errors)
        if inexact is not None:
            most[:, inexact] = np.nan  # Not among those that bound the others.
        needed = self._metric.on_screen(bounds)
        # Most vectors have no such row in most blocks.
        may_have = ~(np.fmax.reduce(most, axis=1) < needed)
        if inexact is not None:
            may_have |= inexact.any()
        for column in np.flatnonzero(may_have).tolist():
            number = some[column]
            found = most[column] >= needed[column]
            if inexact is not None:
                found |= inexact
            if np.isnan(bounds[column]):
                # Those that are left out may be among the first.
                first = self._count + len(self._without[number])
                if first >= len(norms):
                    yield number, None
                    continue
                bound = -np.partition(-most[column], first - 1)[first - 1] - less[column]
                found |= ~(most[column] < bound)
            places = np.flatnonzero(found)
            if places.size:
                yield number, places if places.size * 2 < len(norms) else None

    def _compare(
        self,
        number: int,
        ids: range | NDArray[np.int64],
        rows: NDArray[Any],
        norms: NDArray[Any] | None,
        places: NDArray[np.int64] | None,
    ) -> None:
        """Score the rows at some places, or all, by one vector, without those to leave out."""
        if places is not None:
            ids, rows = ids_at(ids, places), rows[places]
            norms = None if norms is None else norms[places]
        vector, extremes = self._vectors[number], self._norms.have_extremes
        scores = self._metric.score(rows, norms, vector, extremes=extremes)
        without = self._without[number]
        hidden = _places_of(without, ids) if without.size else without
        if hidden.size:
            others = np.delete(np.arange(len(ids)), hidden)
            ids, scores = ids_at(ids, others), scores[others]
        self.bests[number].offer(ids, scores)
