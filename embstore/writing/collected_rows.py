"""Consecutive rows of several batches, brought together.

Splitting a batch among partitions costs some 10 us a partition, however few rows each gets. With
thousands of partitions, that would be most of the time of a build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class CollectedRows:
    """Blocks of consecutive rows, from batches that follow each other.

    Parameters
    ----------
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the rows.
    block_rows : int
        Rows of a block, 1 or more. A batch that has as many is a block itself, without a copy.

    Examples
    --------
    >>> collected = CollectedRows((), np.dtype(int), 4)
    >>> [[(start, rows.tolist()) for rows, start in collected.add(np.arange(i, i + 3), i)]
    ...  for i in (0, 3)]
    [[], [(0, [0, 1, 2, 3])]]
    >>> [(start, rows.tolist()) for rows, start in collected.rest()]
    [(4, [4, 5])]
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: np.dtype[Any], block_rows: int) -> None:
        self._shape, self._dtype = (block_rows, *row_shape), dtype
        self._block: NDArray[Any] | None = None
        self._count = self._start = 0

    def add(self, rows: NDArray[Any], start: int) -> Iterator[tuple[NDArray[Any], int]]:
        """Take rows, shape (n, *row_shape), from the id ``start`` on; yield full blocks.

        Yields
        ------
        rows : ndarray, shape (m, *row_shape)
            They may change once the next block is asked for.
        start : int
            The id of the first one.
        """
        block_rows, done = self._shape[0], 0
        if not self._count and len(rows) >= block_rows:
            yield rows, start
            return
        while done < len(rows):
            if self._block is None:
                self._block = np.empty(self._shape, self._dtype)
            if not self._count:
                self._start = start + done
            some = rows[done : done + block_rows - self._count]
            self._block[self._count : self._count + len(some)] = some
            self._count += len(some)
            done += len(some)
            if self._count == block_rows:
                yield from self.rest()

    def rest(self) -> Iterator[tuple[NDArray[Any], int]]:
        """Yield the rows that are left, as `add` does."""
        if self._block is not None and self._count:
            count, self._count = self._count, 0
            yield self._block[:count], self._start

    def close(self) -> None:
        """Drop the rows that are left."""
        self._block, self._count = None, 0
