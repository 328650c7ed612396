"""Sketches of how often rows are looked up, in a few bytes for each row worth keeping.

A Count-Min sketch (Cormode, Muthukrishnan: An improved data stream summary, 2005) with

* conservative update: only the smallest of a row's counters rise (Estan, Varghese: New directions
  in traffic measurement and accounting, 2002);
* aging: after a period of lookups, all counters are halved, as in TinyLFU (Einziger, Friedman,
  Manes: TinyLFU: A highly efficient cache admission policy, 2017);
* multiply-shift hashing (Dietzfelbinger et al.: A reliable randomized algorithm for the
  closest-pair problem, 1997).

Where a counter for each row of the table takes little memory beside the cache, rows are not hashed,
and their counts are exact. A row that occurs several times in one call of `CountSketch.add` counts
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_COUNT = 255
# Counters in each of the two hashed rows of the sketch, for each row worth keeping.
COUNTERS_EACH = 4
# Lookups between two halvings, for each row worth keeping. Hashed rows share counters, so they have
# to be forgotten sooner.
EXACT_PERIOD_EACH = 64
HASHED_PERIOD_EACH = 16
# Up to this many rows of the table, for each row worth keeping, have a counter each.
EXACT_EACH = 16
# Odd numbers without a pattern: the first digits of the golden ratio and of the square root of 3.
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))


class CountSketch:
    """Approximate counts of rows, up to 255.

    Parameters
    ----------
    row_count : int
        Number of rows in the table.
    kept_count : int
        Number of rows worth keeping: the slots of a cache.

    Examples
    --------
    >>> sketch = CountSketch(1000, 10)
    >>> _ = sketch.add(np.array([5, 7]))
    >>> _ = sketch.add(np.array([7, 900]))
    >>> sketch.counts(np.array([5, 7, 8])).tolist()
    [1, 2, 0]
    """

    def __init__(self, row_count: int, kept_count: int) -> None:
        self._shift: np.uint64 | None = None
        period_each = EXACT_PERIOD_EACH
        if not _is_exact(row_count, kept_count):
            width, period_each = _width(kept_count), HASHED_PERIOD_EACH
            self._shift = np.uint64(64 - (width.bit_length() - 1))
            self._counters = [np.zeros(width, np.uint8) for _ in _FACTORS]
        else:
            self._counters = [np.zeros(row_count, np.uint8)]
        self._period = max(period_each * kept_count, 1)
        self.added = 0

    @staticmethod
    def size_bytes(row_count: int, kept_count: int) -> int:
        """Return the bytes of the counters."""
        exact = _is_exact(row_count, kept_count)
        return row_count if exact else len(_FACTORS) * _width(kept_count)

    def add(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Count rows, shape (n,), once each; return their counts."""
        self.added += len(rows)
        while self.added >= self._period:
            for counters in self._counters:
                np.right_shift(counters, 1, out=counters)
            self.added //= 2
        places = self._places(rows)
        counts = self._smallest(places)
        counts += counts < MAX_COUNT
        for counters, at in zip(self._counters, places, strict=True):
            counters[at] = np.maximum(counters.take(at), counts)
        return counts

    def raise_to(self, rows: NDArray[np.int64], counts: NDArray[np.uint8]) -> None:
        """Let distinct rows count at least ``counts``, both of shape (n,)."""
        for counters, at in zip(self._counters, self._places(rows), strict=True):
            np.maximum.at(counters, at, counts)

    def scaled(self, counts: NDArray[np.float64], total: float) -> NDArray[np.uint8]:
        """Return true counts, shape (n,), of ``total`` lookups as the sketch would have them."""
        share = self._period / 2 / total if total > 0 else 0.0
        return np.clip(np.rint(counts * share), 1, MAX_COUNT).astype(np.uint8)

    def counts(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the count of each row, shape (n,)."""
        return self._smallest(self._places(rows))

    def _places(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self._shift is None:
            return [rows]
        return [
            (rows.view(np.uint64) * factor >> self._shift).view(np.int64) for factor in _FACTORS
        ]

    def _smallest(self, places: list[NDArray[np.int64]]) -> NDArray[np.uint8]:
        found = self._counters[0].take(places[0])
        for counters, at in zip(self._counters[1:], places[1:], strict=True):
            np.minimum(found, counters.take(at), out=found)
        return found


def _is_exact(row_count: int, kept_count: int) -> bool:
    return row_count <= EXACT_EACH * kept_count


def _width(kept_count: int) -> int:
    """Return the counters in a hashed row, a power of two."""
    return 1 << max(COUNTERS_EACH * kept_count - 1, 1).bit_length()
