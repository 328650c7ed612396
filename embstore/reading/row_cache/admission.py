"""Admission to a row cache: which rows it should hold, decided from the lookups so far.

Nothing here reads or copies rows; `Admission.plan` returns what to change.

1. Lookups are counted in a sketch (`embstore.reading.row_cache.sketch`), and the rows that were not
   cached are collected.
2. While slots are free, collected rows get them, the most looked up ones first.
3. Afterwards, from time to time, the collected rows that were looked up most are compared with the
   cached rows that were looked up least, and replace those with a lower count. The count of a row
   that is not cached stands against that of the one it would replace, as in TinyLFU.
4. If a comparison did not change the share of hits, the next one comes later: where no row is
   wanted more than another, replacing rows is work for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embstore.reading.row_cache.sketch import MAX_COUNT, CountSketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.reading.row_cache.row_map import RowMap

# Shares of the slots: filled at a time, replaced at a time, the lookups between comparisons, and
# the rows collected meanwhile.
FILLED_SHARE = 1 / 32
REPLACED_SHARE = 1 / 64
COMPARED_SHARE = 1 / 2
COLLECTED_SHARE = 1 / 4
MAX_DELAY = 16  # Times the usual distance of two comparisons.
# Times the rows replaced at a time: most of them are read from the disk, up to 3 % of the lookups.
MAX_REPLACED = 4
# A smaller change of the share of hits may be chance.
NOTED_CHANGE = 1 / 500
MIN_ROWS = 256  # In steps of any kind.


@dataclass(frozen=True, slots=True)
class Change:
    """A change of what a row cache holds.

    Attributes
    ----------
    remove : ndarray of int64
        Distinct rows to remove.
    add : ndarray of int64
        Distinct rows to add.
    """

    remove: NDArray[np.int64]
    add: NDArray[np.int64]


_NONE = np.zeros(0, np.int64)


class Admission:
    """The choice of rows for a cache; for one thread at a time.

    Parameters
    ----------
    row_count : int
        Number of rows in the table.
    slot_count : int
        Number of rows that the cache can hold.

    Examples
    --------
    >>> from embstore.reading.row_cache.row_map import RowMap
    >>> admission = Admission(1000, 10)
    >>> admission.observe(np.array([5, 7, 7]), np.array([False, False, False]))
    >>> admission.plan(RowMap(1000), 2).add.tolist()
    [5, 7]
    """

    def __init__(self, row_count: int, slot_count: int) -> None:
        self.sketch = CountSketch(row_count, slot_count)
        self._slot_count = slot_count
        self._missed: list[NDArray[np.int64]] = []
        self._missed_count = 0
        self._fill_rows = _share(slot_count, FILLED_SHARE)
        self._replaced_rows = _share(slot_count, REPLACED_SHARE)
        # Rows to collect, of which the best are chosen.
        self._most_collected = _share(slot_count, COLLECTED_SHARE)
        self._distance = _share(slot_count, COMPARED_SHARE)
        self._delay = 1
        self._since = self._hits_since = 0  # Rows looked up since the last comparison.
        # Rows with this count or less are not collected: enough others have more.
        self._enough = 0
        self._last_share = 0.0  # Hits before the last comparison.

    def observe(self, rows: NDArray[np.int64], present: NDArray[np.bool_]) -> None:
        """Count lookups of rows, shape (n,), and whether each was cached."""
        missing = ~present
        counts = self.sketch.add(rows)
        self._since += len(rows)
        self._hits_since += len(rows) - int(np.count_nonzero(missing))
        if self._enough:
            missing &= counts > self._enough
        missed = rows[missing]
        self._missed.append(missed)
        self._missed_count += len(missed)
        if self._missed_count > 2 * self._most_collected:
            self._keep_best(self._most_collected)

    def plan(self, cached: RowMap, free_count: int) -> Change | None:
        """Return what to change in a cache that holds some rows and has free slots, if anything."""
        if free_count:
            if self._missed_count < min(self._fill_rows, free_count):
                self._enough //= 2
                return None
            rows, _ = self._collected(cached)
            self._forget()
            return Change(_NONE, np.sort(rows[:free_count])) if len(rows) else None
        if self._since < self._distance * self._delay:
            return None
        return self._compare(cached)

    def _compare(self, cached: RowMap) -> Change | None:
        """Return the rows to remove for better ones, which stay collected."""
        self._set_delay()
        rows, counts = self._collected(cached)
        self._forget()
        most = self._replaced_rows * min(self._delay, MAX_REPLACED)
        rows, counts = rows[:most], counts[:most]
        least, least_counts = self._least_wanted(cached, len(rows))
        if len(least) == most:
            self._enough = int(least_counts[-1])
        else:  # The counts of cached rows may have fallen.
            self._enough = min(self._enough, self._high_count(cached))
        # The counts of the collected rows fall, and those of the cached rows rise.
        count = int(np.count_nonzero(counts[: len(least)] > least_counts))
        if not count:
            return None
        self._missed, self._missed_count = [rows[:count]], count
        return Change(np.sort(least[:count]), _NONE)

    def _set_delay(self) -> None:
        share = self._hits_since / max(self._since, 1)
        changed = abs(share - self._last_share) > NOTED_CHANGE
        self._delay = 1 if changed else min(2 * self._delay, MAX_DELAY)
        self._last_share = share
        self._since = self._hits_since = 0

    def _least_wanted(
        self, cached: RowMap, most: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the cached rows with the lowest counts and those counts, ascending."""
        sketch, size = self.sketch, MAX_COUNT + 1
        # Piece by piece, twice, because arrays for all rows would take memory from the cache.
        totals = sum(np.bincount(sketch.counts(some), minlength=size) for some in cached.rows())
        sums = np.cumsum(totals)
        highest = int(np.searchsorted(sums, most))  # Enough have this count or less.
        left = most - (int(sums[highest - 1]) if highest else 0)  # Of those with this count.
        rows, found = [_NONE], [np.zeros(0, np.uint8)]
        for some in cached.rows():
            counts = sketch.counts(some)
            last = np.flatnonzero(counts == highest)[:left]
            left -= len(last)
            for low in (np.flatnonzero(counts < highest), last):
                rows.append(some[low])
                found.append(counts[low])
        all_rows, all_counts = np.concatenate(rows), np.concatenate(found)
        order = np.argsort(all_counts, kind="stable")[:most]
        return all_rows[order], all_counts[order]

    def _high_count(self, cached: RowMap) -> int:
        """Return a count that a row no more wanted than the cached ones seldom has."""
        total = sum(int(self.sketch.counts(some).sum()) for some in cached.rows())
        return 2 * total // max(len(cached), 1) + 4

    def _collected(
        self, cached: RowMap | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the collected rows that are not cached and their counts, descending."""
        rows = distinct(np.concatenate([_NONE, *self._missed]))
        if cached is not None:
            rows = cached.missing(rows)
        counts = self.sketch.counts(rows)
        order = np.argsort(MAX_COUNT - counts, kind="stable")
        return rows[order], counts[order]

    def _keep_best(self, most: int) -> None:
        rows, counts = self._collected()
        if len(rows) > most:
            self._enough = int(counts[most])
        self._missed = [rows[:most]]
        self._missed_count = min(len(rows), most)

    def _forget(self) -> None:
        self._missed, self._missed_count = [], 0


def distinct(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct rows of an array, sorted; the array is sorted in place."""
    # np.unique takes longer, and leaves many small pieces of freed memory behind.
    rows.sort()
    is_first = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    return rows[is_first]


def _share(slot_count: int, share: float) -> int:
    return max(int(slot_count * share), MIN_ROWS)
