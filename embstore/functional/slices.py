"""How are the rows of many bags summed fast? In slices that stay in the processor's cache.

1. Bags are cut into pieces of at most `PIECE_IDS` ids, and the pieces are put in order of their
   length, so that neighbours fill a rectangle: (pieces, length of the longest).
2. A slice is such a rectangle. Its rows are gathered, and are still in the processor's cache when
   each piece's weights are multiplied with its rows, one product a piece. Where a piece is shorter
   than the rectangle, rows of zeros stand in.
3. Threads share the slices; each holds one slice of rows, however many ids there are.
4. Where a bag has several pieces, their sums are summed in the same way. So an error grows with the
   logarithm of a bag's length.
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

# Fills its second argument, shape (n, width), with the rows of its first, shape (n,).
Read = Callable[[NDArray[np.int64], NDArray[Any]], None]

PIECE_IDS = 64
# The gathered rows of a slice: half of a processor's second cache, and no more than a store reads
# in one go.
SLICE_BYTES = 512 << 10
SLICE_IDS = 4096
# Handing work over costs 30 to 50 us, in which a thread gathers some hundred KiB.
HELPED_BYTES = 1 << 20
# OpenBLAS spreads larger products over threads of its own, which get in the way of those here.
PRODUCT_ITEMS = 9216


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs of ids that are summed, the longest first.

    Parameters
    ----------
    starts, lengths : ndarray of int64, shape (n,)
        Where each one's ids begin, and how many there are, 1 to `PIECE_IDS`.
    places : ndarray of int64, shape (n,)
        Which one it is of the pieces of all bags, in order.
    splits : ndarray of int64, shape (bags + 1,)
        The pieces of bag ``b`` are those with the places ``splits[b] .. splits[b + 1] - 1``.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    places: NDArray[np.int64]
    splits: NDArray[np.int64]

    @classmethod
    def cut(cls, id_splits: NDArray[np.int64]) -> Pieces:
        """Cut bags, of which ``b`` has the ids ``id_splits[b] .. id_splits[b + 1] - 1``.

        Examples
        --------
        >>> pieces = Pieces.cut(np.array([0, 3, 3, 70]))
        >>> pieces.starts.tolist(), pieces.lengths.tolist(), pieces.places.tolist()
        ([3, 0, 67], [64, 3, 3], [1, 0, 2])
        >>> pieces.splits.tolist()
        [0, 1, 1, 3]
        """
        counts = -(np.diff(id_splits) // -PIECE_IDS)
        splits = np.concatenate([[0], np.cumsum(counts)])
        bags = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(bags))
        starts = id_splits[bags] + (places - splits[bags]) * PIECE_IDS
        lengths = np.minimum(id_splits[bags + 1] - starts, PIECE_IDS)
        # Of numbers this small, NumPy's stable sort is a radix sort.
        order = np.argsort((PIECE_IDS - lengths).astype(np.uint8), kind="stable")
        return cls(starts[order], lengths[order], places[order], splits)

    @property
    def in_order(self) -> bool:
        """Whether the pieces' ids follow each other, so that sorting has changed nothing."""
        return not len(self.lengths) or bool(self.lengths[0] == self.lengths[-1])

    def positions(self) -> NDArray[np.int64]:
        """Return where the pieces' ids are, one piece after the other."""
        ends = np.cumsum(self.lengths)
        shifts = self.starts - (ends - self.lengths)
        return np.repeat(shifts, self.lengths) + np.arange(ends[-1] if len(ends) else 0)

    def slices(self, slice_ids: int) -> Iterator[Rectangle]:
        """Yield neighbours whose rectangle has at most ``slice_ids`` ids, or that are alone."""
        start = first = 0
        while start < len(self.lengths):
            length = int(self.lengths[start])
            stop = min(start + max(slice_ids // length, 1), len(self.lengths))
            lengths = self.lengths[start:stop]
            yield Rectangle(start, first, length, lengths)
            start, first = stop, first + int(lengths.sum())


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Some pieces side by side.

    Parameters
    ----------
    start : int
        The first of them.
    first : int
        The position of its first id, where ids come in the order of the pieces.
    length : int
        Length of the longest piece.
    lengths : ndarray of int64, shape (n,)
        Length of each.
    """

    start: int
    first: int
    length: int
    lengths: NDArray[np.int64]

    def positions(self) -> tuple[slice | NDArray[np.int64], NDArray[np.int64]]:
        """Return where the ids are, shape (n * length,), and which of them only fill it up.

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
        begins = self.first + np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[:, np.newaxis]
        # What fills up is the piece's last id: it is in the processor's cache.
        positions = begins[:, np.newaxis] + np.minimum(steps, lengths - 1)
        return positions.ravel(), np.flatnonzero(steps >= lengths)


def sum_bags(
    out: NDArray[Any],
    read: Read,
    dtype: np.dtype[Any],
    ids: NDArray[np.int64],
    splits: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
    *,
    largest: bool = False,
    max_norm: float | None = None,
) -> None:
    """Fill ``out`` with the sums of bags; a bag without ids leaves its row as it is.

    Parameters
    ----------
    out : ndarray of float32 or float64, shape (bags, width)
        ``width`` is 1 or more.
    read : callable
        Reads rows of ``dtype``.
    ids, weights : ndarray, shape (n,)
        The ids of all bags, one bag after the other, and their factors, of the dtype of ``out``.
    splits : ndarray of int64, shape (bags + 1,)
        Bag ``b`` is ``ids[splits[b] : splits[b + 1]]``.
    largest : bool
        Whether the largest of each column is taken, and not the sum.
    max_norm : float, optional
        Rows are scaled down to it first.
    """
    pieces = Pieces.cut(splits)
    if not pieces.in_order:
        positions = pieces.positions()
        ids = ids[positions]
        weights = None if weights is None else weights[positions]
    filled = np.flatnonzero(np.diff(pieces.splits))
    if pieces.in_order and len(filled) == len(pieces.lengths) == len(out):
        _Summing(pieces, out, read, dtype, ids, weights, largest, max_norm).run()
        return
    sums = np.empty((len(pieces.lengths), out.shape[1]), out.dtype)
    _Summing(pieces, sums, read, dtype, ids, weights, largest, max_norm).run()
    if len(filled) == len(pieces.lengths):
        out[filled[pieces.places]] = sums
        return
    # Some bags have several pieces: their sums are summed.
    numbers = np.empty(len(sums), np.int64)
    numbers[pieces.places] = np.arange(len(sums))

    def take(which: NDArray[np.int64], rows: NDArray[Any]) -> None:
        sums.take(which, 0, rows, "clip")

    sum_bags(out, take, sums.dtype, numbers, pieces.splits, largest=largest)


@dataclass(frozen=True, slots=True)
class _Summing:
    """One round of sums, and what it needs; see `sum_bags`. Ids are in the order of the pieces."""

    pieces: Pieces
    sums: NDArray[Any]
    read: Read
    dtype: np.dtype[Any]
    ids: NDArray[np.int64]
    weights: NDArray[Any] | None
    largest: bool
    max_norm: float | None

    def run(self) -> None:
        """Fill the sums, on as many threads as help."""
        row_bytes = self.sums.shape[1] * self.sums.itemsize
        slices = deque(self.pieces.slices(min(SLICE_BYTES // row_bytes, SLICE_IDS)))
        helped_bytes = len(self.ids) * row_bytes // HELPED_BYTES
        thread_count = min(workers.processor_count(), helped_bytes, len(slices))
        work = partial(self._work, slices)
        workers.together([work] * max(thread_count, 1), slices.clear)

    def _work(self, slices: deque[Rectangle]) -> None:
        """Sum slices until none is left."""
        rows = np.empty((0, self.sums.shape[1]), self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # Infinite rows have such sums.
            while slices:
                try:
                    piece = slices.popleft()
                except IndexError:  # Another thread took the last one.
                    return
                if len(rows) < len(piece.lengths) * piece.length:
                    rows = np.empty((len(piece.lengths) * piece.length, rows.shape[1]), self.dtype)
                self._sum(piece, rows[: len(piece.lengths) * piece.length])

    def _sum(self, piece: Rectangle, rows: NDArray[Any]) -> None:
        """Sum one slice, whose rows go into a buffer."""
        positions, fillers = piece.positions()
        self.read(self.ids[positions], rows)
        rows = rows.astype(self.sums.dtype, copy=False)
        if self.max_norm is not None:
            clip_norms(rows, self.max_norm, row_rank=1)
        sums = self.sums[piece.start : piece.start + len(piece.lengths)]
        block = rows.reshape(len(sums), piece.length, -1)
        if self.largest:
            np.maximum.reduce(block, axis=1, out=sums)
            return
        if len(fillers):
            rows[fillers] = 0
        if self.weights is None:
            factors = np.ones((1, piece.length), sums.dtype)
        else:
            factors = self.weights[positions]
            if len(fillers):
                factors[fillers] = 0
            factors = factors.reshape(len(sums), piece.length)
        if piece.length == 1:
            np.multiply(rows, factors, out=sums)
        elif block[0].size < PRODUCT_ITEMS:
            np.matmul(factors[:, np.newaxis], block, out=sums[:, np.newaxis])
        else:
            factors = np.broadcast_to(factors, block.shape[:2])
            np.einsum("ij,ijk->ik", factors, block, out=sums)
