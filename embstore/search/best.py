"""The best scores of a search, gathered from many threads."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ids_at(ids: range | NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ids at some places.

    Examples
    --------
    >>> ids_at(range(5, 11, 2), np.array([0, 2]))
    array([5, 9])
    """
    return ids.start + places * ids.step if isinstance(ids, range) else ids[places]


class Best:
    """The ids with the highest scores; many threads may offer ids.

    Parameters
    ----------
    count : int
        The largest number of ids to keep.
    dtype : numpy.dtype
        Dtype of the scores.

    Examples
    --------
    >>> best = Best(2, np.dtype(np.float32))
    >>> best.offer(np.array([0, 2, 4]), np.array([0.5, 0.1, 0.3], np.float32))
    >>> best.offer(np.array([1, 3]), np.array([0.2, 0.5], np.float32))
    >>> ids, scores = best.result()
    >>> ids.tolist(), scores.tolist()
    ([0, 3], [0.5, 0.5])
    """

    def __init__(self, count: int, dtype: np.dtype[Any]) -> None:
        # Up to twice ``count`` ids, unsorted, so that few offers have to sort.
        self._ids = np.empty(0, np.int64)
        self._scores = np.empty(0, dtype)
        self._count = count
        self._lock = Lock()
        # Lower scores are not among the best. No score is lower than nan.
        self._least = np.nan

    @property
    def least(self) -> Any:
        """The lowest of the best scores; nan until there are ``count`` of them."""
        return self._least

    def offer(self, ids: range | NDArray[np.int64], scores: NDArray[Any]) -> None:
        """Add ids, shape (n,), with their scores."""
        # Most blocks have none of the best. The largest of scores of which one is nan is nan.
        if scores.max(initial=-np.inf) < self._least:
            return
        good = np.flatnonzero(~(scores < self._least))
        if len(good) > self._count:
            good = good[~(scores[good] < self._least_of(scores[good]))]
        if not good.size:
            return
        with self._lock:
            self._ids = np.concatenate([self._ids, ids_at(ids, good)])
            self._scores = np.concatenate([self._scores, scores[good]])
            if len(self._ids) >= self._count:
                self._least = self._least_of(self._scores)
            if len(self._ids) > 2 * self._count:
                self._ids, self._scores = self._sorted()

    def result(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the best ids and their scores, highest first; lower ids first among equals."""
        with self._lock:
            return self._sorted()

    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        order = np.lexsort((self._ids, -self._scores))[: self._count]
        return self._ids[order], self._scores[order]

    def _least_of(self, scores: NDArray[Any]) -> Any:
        """Return the lowest of the best scores, in linear time; nan is lower than all others."""
        return -np.partition(-scores, self._count - 1)[self._count - 1]
