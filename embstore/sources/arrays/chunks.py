"""Rows of arrays that are stored in chunks (zarr, HDF5, dask, tensorstore), each decoded once.

Whatever slice is wanted, such a library decodes every chunk that it touches. So whole chunks are
read: the rows that were asked for, up to the end of the last chunk among them, are held until later
slices need them. A chunk may be several columns wide or less than a row; then all chunks beside it
are read with it, as far as they fit into `MAX_HELD_BYTES`.

Memory: the chunks of one slice, at least one. A single chunk has to fit, since nothing can be read
without decoding it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.sources.arrays.source import ArrayLike

MAX_HELD_BYTES = 1 << 30


def in_chunks(array: ArrayLike, layout: Any) -> ArrayLike:
    """Return an array whose chunks are decoded once where its rows are read in order.

    Parameters
    ----------
    array : array-like, shape (n, ...)
        The array, which slices along the first axis.
    layout : object
        The library's own array, which knows its chunks.

    Returns
    -------
    array-like
        ``array`` itself if the layout has no chunks.
    """
    shape = _chunk_shape(layout, len(array.shape))
    if shape is None or not math.prod(array.shape):
        return array
    rows = shape[0]
    if not isinstance(rows, int):
        return ChunkedRows(array, [0, *accumulate(rows)])
    row_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
    if tuple(shape[1:]) != tuple(array.shape[1:]):
        rows = min(rows, max(MAX_HELD_BYTES // row_bytes, 1))
    return ChunkedRows(array, range(0, array.shape[0] + rows, rows))


class ChunkedRows:
    """An array that is sliced in order, and read by whole chunks.

    Parameters
    ----------
    array : array-like, shape (n, ...)
        The array.
    bounds : sequence of int
        Where its chunks begin, ascending from 0, and a last one of n or more.
    """

    def __init__(self, array: ArrayLike, bounds: range | list[int]) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self._array = array
        self._bounds = bounds
        self._first = 0
        self._held: NDArray[Any] | None = None  # Rows from ``_first`` on.

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        stop = max(start, stop)
        pieces = []
        if self._held is not None and self._first <= start < self._first + len(self._held):
            pieces = [self._held[start - self._first : stop - self._first]]
            start += len(pieces[0])
            if start < stop:  # Copied, so that the old chunks can be freed before others are read.
                pieces = [pieces[0].copy()]
        if start < stop:
            self._held = None
            first = self._bounds[bisect_right(self._bounds, start) - 1]
            last = min(self._bounds[bisect_left(self._bounds, stop)], self.shape[0])
            self._first, self._held = first, np.asanyarray(self._array[first:last])
            pieces.append(self._held[start - first : stop - first])
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *pieces])


def _chunk_shape(array: Any, rank: int) -> tuple[Any, ...] | None:
    """Return the shape of an array's chunks, None if it has none.

    The first length is a tuple where chunks differ, as those of dask do.
    """
    candidates = [getattr(array, "shards", None), getattr(array, "chunks", None)]
    layout = getattr(array, "chunk_layout", None)  # Of tensorstore.
    candidates.append(getattr(getattr(layout, "read_chunk", None), "shape", None))
    chunking = getattr(array, "chunking", None)  # Of netCDF4.
    candidates.append(chunking() if callable(chunking) else None)
    for shape in candidates:
        if isinstance(shape, tuple | list) and len(shape) == rank and rank:
            first = shape[0]
            if isinstance(first, tuple | list):
                return (tuple(map(int, first)), *shape[1:])
            return (max(int(first), 1), *shape[1:])
    return None
