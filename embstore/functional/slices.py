"""Sums of many bags, slice by slice in the processor's cache.

1. Bags are cut into pieces of at most `PIECE_IDS` ids, and the pieces are sorted by length, so that
   neighbours fill a rectangle: (pieces, length of the longest).
2. A slice is such a rectangle. Its rows are gathered, and are still in the processor's cache when
   each piece's weights are multiplied by its rows, one product a piece. Pieces that are shorter
   than the rectangle are filled up with rows of zeros.
3. Threads share the slices; each holds the rows of one slice, whatever the number of ids.
4. Where a bag has several pieces, their sums are summed in the same way. So the rounding error
   grows with the logarithm of a bag's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embstore.norms import clip_norms
from embstore.reading import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

# Called with ids, shape (n,), and an array, shape (n, width), to fill with their rows.
Read = Callable[[NDArray[np.int64], NDArray[Any]], None]

PIECE_IDS = 64
# The gathered rows of a slice: half of a processor's second-level cache, and no more than a store
# reads at once.
SLICE_BYTES = 512 << 10
SLICE_IDS = 4096
# Bytes of rows for each helping thread. Handing work over costs 30 to 50 us, in which a thread
# gathers some hundred KiB.
HELPER_BYTES = 1 << 20
# OpenBLAS spreads larger products over threads of its own, which compete with those here.
PRODUCT_ITEMS = 9216


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs of ids, the longest first.

    Parameters
    ----------
    starts, lengths : ndarray of int64, shape (n,)
        Position of each piece's first id, and how many ids it has, 1 to `PIECE_IDS`.
    numbers : ndarray of int64, shape (n,)
        Number of each piece in the order of the bags.
    splits : ndarray of int64, shape (bags + 1,)
        Bag ``b`` has the pieces of the numbers ``splits[b] .. splits[b + 1] - 1``.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    numbers: NDArray[np.int64]
    splits: NDArray[np.int64]

    @classmethod
    def cut(cls, id_splits: NDArray[np.int64]) -> Pieces:
        """Cut bags; bag ``b`` has the ids at ``id_splits[b] .. id_splits[b + 1] - 1``.

        Examples
        --------
        >>> pieces = Pieces.cut(np.array([0, 3, 3, 70]))
        >>> pieces.starts.tolist(), pieces.lengths.tolist(), pieces.numbers.tolist()
        ([3, 0, 67], [64, 3, 3], [1, 0, 2])
        >>> pieces.splits.tolist()
        [0, 1, 1, 3]
        """
        counts = -(np.diff(id_splits) // -PIECE_IDS)
        splits = np.concatenate([[0], np.cumsum(counts)])
        bags = np.repeat(np.arange(len(counts)), counts)
        numbers = np.arange(len(bags))
        starts = id_splits[bags] + (numbers - splits[bags]) * PIECE_IDS
        lengths = np.minimum(id_splits[bags + 1] - starts, PIECE_IDS)
        # NumPy's stable sort of numbers this small is a radix sort.
        order = np.argsort((PIECE_IDS - lengths).astype(np.uint8), kind="stable")
        return cls(starts[order], lengths[order], numbers[order], splits)

    @property
    def in_order(self) -> bool:
        """Whether all pieces are of one length, so that sorting has not moved any."""
        return not len(self.lengths) or bool(self.lengths[0] == self.lengths[-1])

    def positions(self) -> NDArray[np.int64]:
        """Return the positions of the pieces' ids, one piece after the other."""
        ends = np.cumsum(self.lengths)
        shifts = self.starts - (ends - self.lengths)
        return np.repeat(shifts, self.lengths) + np.arange(ends[-1] if len(ends) else 0)

    def slices(self, slice_ids: int) -> Iterator[Rectangle]:
        """Yield rectangles of at most ``slice_ids`` ids, or of a single piece."""
        start = first = 0
        while start < len(self.lengths):
            length = int(self.lengths[start])
            stop = min(start + max(slice_ids // length, 1), len(self.lengths))
            lengths = self.lengths[start:stop]
            yield Rectangle(start, first, length, lengths)
            start, first = stop, first + int(lengths.sum())


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Consecutive pieces, side by side.

    Parameters
    ----------
    start : int
        Position of the first piece among all pieces.
    first : int
        Position of its first id, with the ids in the order of the pieces.
    length : int
        Length of the longest piece.
    lengths : ndarray of int64, shape (n,)
        Length of each piece.
    """

    start: int
    first: int
    length: int
    lengths: NDArray[np.int64]

    def positions(self) -> tuple[slice | NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions of the ids, shape (n * length,), and which of them are fillers.

        Examples
        --------
        >>> Rectangle(0, 5, 2, np.array([2, 2])).positions()
        (slice(5, 9, None), array([], dtype=int64))
        >>> Rectangle(0, 5, 2, np.array([2, 1])).positions()
        (array([5, 6, 7, 7]), array([3]))
        """
        count = len(self.lengths)
        if self.lengths[-1] == self.length:
            return slice(self.first, self.first + count * self.length), np.empty(0, np.int64)
        steps = np.arange(self.length)
        starts = self.first + np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[:, np.newaxis]
        # The filler is the piece's last id, whose row is in the processor's cache.
        positions = starts[:, np.newaxis] + np.minimum(steps, lengths - 1)
        return positions.ravel(), np.flatnonzero(steps >= lengths)


def sum_bags(
    out: NDArray[Any],
    read: Read,
    dtype: np.dtype[Any],
    ids: NDArray[np.int64],
    splits: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
    max_norm: float | None = None,
) -> None:
    """Fill ``out`` with the sums of bags; the row of a bag without ids stays unchanged.

    Parameters
    ----------
    out : ndarray of float32 or float64, shape (bags, width)
        ``width`` is 1 or more.
    read : callable
        Called with ids, shape (n,), and an array of ``dtype``, shape (n, width), to fill with
        their rows.
    ids, weights : ndarray, shape (n,)
        The ids of all bags, one bag after the other, and their factors, of the dtype of ``out``.
    splits : ndarray of int64, shape (bags + 1,)
        Bag ``b`` is ``ids[splits[b] : splits[b + 1]]``.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it first.
    """
    pieces = Pieces.cut(splits)
    if not pieces.in_order:
        positions = pieces.positions()
        ids = ids[positions]
        weights = None if weights is None else weights[positions]
    filled = np.flatnonzero(np.diff(pieces.splits))
    if pieces.in_order and len(filled) == len(pieces.lengths) == len(out):
        _Summing(pieces, out, read, dtype, ids, weights, max_norm).run()
        return
    sums = np.empty((len(pieces.lengths), out.shape[1]), out.dtype)
    _Summing(pieces, sums, read, dtype, ids, weights, max_norm).run()
    if len(filled) == len(pieces.lengths):
        out[filled[pieces.numbers]] = sums
        return
    # Some bags have several pieces: their sums are summed.
    positions = np.empty(len(sums), np.int64)
    positions[pieces.numbers] = np.arange(len(sums))

    def take(positions: NDArray[np.int64], rows: NDArray[Any]) -> None:
        sums.take(positions, 0, rows, "clip")

    sum_bags(out, take, sums.dtype, positions, pieces.splits)


@dataclass(frozen=True, slots=True)
class _Summing:
    """The sums of all pieces, one row each; see `sum_bags`. Ids are in the order of the pieces."""

    pieces: Pieces
    sums: NDArray[Any]
    read: Read
    dtype: np.dtype[Any]
    ids: NDArray[np.int64]
    weights: NDArray[Any] | None
    max_norm: float | None

    def run(self) -> None:
        """Fill the sums, on as many threads as are worth their start."""
        row_bytes = self.sums.shape[1] * self.sums.itemsize
        slices = deque(self.pieces.slices(min(SLICE_BYTES // row_bytes, SLICE_IDS)))
        worth_count = len(self.ids) * row_bytes // HELPER_BYTES
        thread_count = min(workers.processor_count(), worth_count, len(slices))
        work = partial(self._work, slices)
        workers.together([work] * max(thread_count, 1), slices.clear)

    def _work(self, slices: deque[Rectangle]) -> None:
        """Sum slices until none is left."""
        rows = np.empty((0, self.sums.shape[1]), self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # Rows may be infinite.
            while slices:
                try:
                    rectangle = slices.popleft()
                except IndexError:  # Another thread took the last one.
                    return
                row_count = len(rectangle.lengths) * rectangle.length
                if len(rows) < row_count:
                    rows = np.empty((row_count, rows.shape[1]), self.dtype)
                self._sum(rectangle, rows[:row_count])

    def _sum(self, rectangle: Rectangle, rows: NDArray[Any]) -> None:
        """Sum one slice; ``rows`` is a buffer for its rows."""
        positions, fillers = rectangle.positions()
        length = rectangle.length
        self.read(self.ids[positions], rows)
        rows = rows.astype(self.sums.dtype, copy=False)
        if self.max_norm is not None:
            clip_norms(rows, self.max_norm, row_rank=1)
        sums = self.sums[rectangle.start : rectangle.start + len(rectangle.lengths)]
        block = rows.reshape(len(sums), length, -1)
        if len(fillers):
            rows[fillers] = 0
        if self.weights is None:
            factors = np.ones((1, length), sums.dtype)
        else:
            factors = self.weights[positions]
            if len(fillers):
                factors[fillers] = 0
            factors = factors.reshape(len(sums), length)
        if length == 1:
            np.multiply(rows, factors, out=sums)
        elif block[0].size < PRODUCT_ITEMS:
            np.matmul(factors[:, np.newaxis], block, out=sums[:, np.newaxis])
        else:
            factors = np.broadcast_to(factors, block.shape[:2])
            np.einsum("ij,ijk->ik", factors, block, out=sums)
