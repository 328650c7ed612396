"""The rows of a lookup grouped by inner chunk, and ranges of rows cut where inner chunks end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


class InnerGroups:
    """The rows of a lookup, grouped by inner chunk.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,), n 1 or more
        The rows.
    shift : int
        The rows in an inner chunk, as the exponent of a power of two.

    Attributes
    ----------
    chunks : ndarray of int64
        The inner chunks, ascending and distinct.
    """

    def __init__(self, rows: NDArray[np.int64], shift: int) -> None:
        numbers = rows >> shift
        self._order = np.argsort(numbers, kind="stable")
        ordered = numbers[self._order]
        starts = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist()]
        self.chunks: NDArray[np.int64] = ordered[starts]
        self._bounds = [*starts, len(rows)]
        self._rows = rows[self._order] & ((1 << shift) - 1)

    def copy(self, group: int, block: NDArray[Any], target: NDArray[Any]) -> int:
        """Copy the records of a group to their places; return their number."""
        start, stop = self._bounds[group], self._bounds[group + 1]
        target[self._order[start:stop]] = block[self._rows[start:stop]]
        return stop - start


def cut_ranges(ranges: Sequence[range], most_rows: int) -> Iterator[range]:
    """Cut ranges of rows at the multiples of ``most_rows``.

    Examples
    --------
    >>> list(cut_ranges([range(3, 9)], 4))
    [range(3, 4), range(4, 8), range(8, 9)]
    """
    for rows in ranges:
        start = rows.start
        while start < rows.stop:
            stop = min((start // most_rows + 1) * most_rows, rows.stop)
            yield range(start, stop)
            start = stop
