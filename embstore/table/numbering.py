"""The numbering of a table: the partition of each id, its row there, and its row in the columns.

The arithmetic of TensorFlow's ``partition_strategy``, for any row count and any partition count,
even more partitions than rows. With ``base, extra = divmod(rows, partition_count)``,
partition ``p`` has ``base + (p < extra)`` rows under both strategies, and

* ``mod`` assigns ids in turn: ``partition = id % P``, ``row = id // P``;
* ``div`` cuts the ids into contiguous pieces, the first ``extra`` of them one row longer.

Thirteen ids over five partitions:

>>> [list(Numbering(13, 5, "mod").ids_of(p)) for p in range(5)]
[[0, 5, 10], [1, 6, 11], [2, 7, 12], [3, 8], [4, 9]]
>>> [list(Numbering(13, 5, "div").ids_of(p)) for p in range(5)]
[[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10], [11, 12]]

Source of both: the documentation of ``tf.compat.v1.nn.embedding_lookup``.

In the columns, partition ``p`` starts at row ``p * partition_rows``. One partition is the identity:
ids are rows, without arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Strategy = Literal["mod", "div"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)


@dataclass(frozen=True, slots=True)
class Numbering:
    """A table of ``rows`` ids, cut into ``partition_count`` partitions.

    Parameters
    ----------
    rows : int
        Number of ids, 0 or more.
    partition_count : int
        Number of partitions, 1 or more; if it exceeds ``rows``, some are empty.
    strategy : {"mod", "div"}
        How ids are split among partitions; see the module's docstring.
    partition_rows : int, optional
        Distance between the first rows of two partitions in the columns; by default the row count
        of the longest partition.

    Raises
    ------
    ValueError
        For a negative row count, fewer than one partition, another strategy, or partitions that
        would overlap.
    """

    rows: int
    partition_count: int = 1
    strategy: Strategy = "mod"
    partition_rows: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ValueError(f"rows must be 0 or more, not {self.rows}")
        if self.partition_count < 1:
            raise ValueError(f"partition count must be 1 or more, not {self.partition_count}")
        if self.strategy not in STRATEGIES:
            raise ValueError(f'strategy must be "mod" or "div", not {self.strategy!r}')
        if self.partition_rows is not None and self.partition_rows < self.row_count(0):
            raise ValueError(
                f"partitions of {self.row_count(0)} rows overlap at a distance of "
                f"{self.partition_rows} rows"
            )

    @property
    def distance(self) -> int:
        """Rows from the first row of a partition to that of the next, in the columns."""
        return self.row_count(0) if self.partition_rows is None else self.partition_rows

    @property
    def column_rows(self) -> int:
        """Rows that a column must have for all ids."""
        filled = min(self.partition_count, self.rows)  # Partitions that have rows.
        return (filled - 1) * self.distance + self.row_count(filled - 1) if filled else 0

    def row_count(self, partition: int) -> int:
        """Return the number of rows in ``partition``."""
        base, extra = divmod(self.rows, self.partition_count)
        return base + (partition < extra)

    def row_counts(self) -> tuple[int, ...]:
        """Return the number of rows in each partition."""
        return tuple(self.row_count(partition) for partition in range(self.partition_count))

    def ids_of(self, partition: int) -> range:
        """Return the ids of ``partition``, in the order of its rows."""
        if self.strategy == "mod":
            return range(partition, self.rows, self.partition_count)
        base, extra = divmod(self.rows, self.partition_count)
        start = partition * base + min(partition, extra)
        return range(start, start + base + (partition < extra))

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each id in the columns.

        Parameters
        ----------
        ids : ndarray of int64, any shape
            Ids in ``0 .. rows - 1``; this is not checked here.

        Returns
        -------
        rows : ndarray of int64, the shape of ``ids``
            ``ids`` itself if there is one partition, else a new array.

        Examples
        --------
        >>> Numbering(10, 2, "mod", partition_rows=8).rows_of(np.arange(5)).tolist()
        [0, 8, 1, 9, 2]
        """
        if self.partition_count == 1:
            return ids
        # In place, because each new array takes a large part of a small lookup's time.
        partition, row = self.locate(ids)
        partition *= scalar(self.distance)
        partition += row
        return partition

    def row_of(self, number: int) -> int:
        """Return the row of one id in the columns."""
        count = self.partition_count
        if count == 1:
            return number
        if self.strategy == "mod":
            return number % count * (self.partition_rows or self.distance) + number // count
        partition, row = self.locate_one(number)
        return partition * self.distance + row

    def ids_at(self, rows: range) -> range:
        """Return the ids of consecutive rows of the columns, all in one partition.

        Examples
        --------
        >>> list(Numbering(10, 2, "mod", partition_rows=8).ids_at(range(9, 12)))
        [3, 5, 7]
        """
        partition, first = (
            divmod(rows.start, self.distance) if self.partition_count > 1 else (0, rows.start)
        )
        return self.ids_of(partition)[first : first + len(rows)]

    def row_ranges(self, start: int, stop: int) -> list[range]:
        """Return the rows of the ids ``start .. stop - 1`` in the columns, by partition.

        Consecutive ids are consecutive rows of each partition, under both strategies.

        Examples
        --------
        >>> Numbering(10, 2, "mod", partition_rows=8).row_ranges(1, 6)
        [range(1, 3), range(8, 11)]
        """
        found = []
        for _, piece in self.spread(start, stop):
            first = self.row_of(start + piece.start)
            count = len(range(*piece.indices(stop - start)))
            found.append(range(first, first + count))
        return sorted(found, key=lambda rows: rows.start)

    def locate(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the partition and the row in it of each id.

        Parameters
        ----------
        ids : ndarray of int64, any shape
            Ids in ``0 .. rows - 1``; this is not checked here.

        Returns
        -------
        partition, row : ndarray of int64, the shape of ``ids``
            New arrays.

        Examples
        --------
        >>> partition, row = Numbering(13, 5, "mod").locate(np.array([7, 12]))
        >>> partition.tolist(), row.tolist()
        ([2, 2], [1, 2])
        """
        count = self.partition_count
        if self.strategy == "mod":
            if count & (count - 1) == 0:
                return ids & scalar(count - 1), ids >> scalar(count.bit_length() - 1)
            row = ids // scalar(count)
            return ids - row * scalar(count), row
        base, extra = divmod(self.rows, count)
        # TensorFlow's formula. Where base is 0, every id is below `extra` and the second
        # quotient is negative, so the divisor only has to be non-zero.
        partition = np.maximum(ids // (base + 1), (ids - extra) // max(base, 1))
        return partition, ids - (partition * base + np.minimum(partition, extra))

    def locate_one(self, number: int) -> tuple[int, int]:
        """Return the partition and the row in it of one id; see `locate`."""
        if self.strategy == "mod":
            row, partition = divmod(number, self.partition_count)
            return partition, row
        base, extra = divmod(self.rows, self.partition_count)
        partition = max(number // (base + 1), (number - extra) // max(base, 1))
        return partition, number - (partition * base + min(partition, extra))

    def spread(self, start: int, stop: int) -> Iterator[tuple[int, slice]]:
        """Yield the partition of each piece of the consecutive ids ``start .. stop - 1``.

        Yields
        ------
        partition : int
        piece : slice
            The elements of the sequence ``start .. stop - 1`` that belong to ``partition``; they
            are consecutive rows of it.

        Examples
        --------
        >>> list(Numbering(13, 5, "div").spread(4, 7))
        [(1, slice(0, 2, 1)), (2, slice(2, 3, 1))]
        """
        length = stop - start
        if self.strategy == "mod":
            for offset in range(min(self.partition_count, length)):
                partition = (start + offset) % self.partition_count
                yield partition, slice(offset, length, self.partition_count)
            return
        done = 0
        while done < length:
            partition, _ = self.locate_one(start + done)
            end = min(self.ids_of(partition).stop - start, length)
            yield partition, slice(done, end, 1)
            done = end


@lru_cache(maxsize=256)
def scalar(number: int) -> NDArray[np.int64]:
    """Return a number as an array of rank 0.

    NumPy computes with it in half the time that it takes with an int, which counts in a small
    lookup.
    """
    return np.array(number, np.int64)
