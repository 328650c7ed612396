"""Lookups of a few rows that keep the GIL, for when several threads look rows up.

NumPy's ``take`` gives up the GIL, and so do other functions. A thread that wants it back waits for
all those that want it, too: with many threads, most of a lookup's time. An index into an array of
items keeps it for up to 500 of them (``NPY_BEGIN_THREADS_THRESHOLDED`` in NumPy's C API), and a
lookup of a few rows takes no longer than the hand-over. So one thread works at a time, and none
waits in between: with 32 threads, 2 to 4 times as many rows (`benchmarks.growth.threads`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.results import as_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.gather import GridGather

    Few = Callable[[NDArray[np.int64], NDArray[Any] | None], NDArray[Any]]

# Larger results take longer than a hand-over, so other threads had better work meanwhile.
HELD_BYTES = 128 << 10
# Rows of an index: half of a few, and no more than NumPy indexes without giving up the GIL.
PIECE_ROWS = 256


def held_function(
    gather: GridGather, table: NDArray[Any], spots_of: Callable[[NDArray[np.int64]], Any]
) -> Few:
    """Return the function for 1 to 512 ids of any shape, as `ShortPath.few`, that keeps the GIL.

    It raises IndexError where ``spots_of`` does.
    """
    dtype, row_shape, items = table.dtype, table.shape[1:], gather.records

    def held(ids: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        shape = ids.shape + row_shape
        wanted = ids.reshape(-1)
        if len(wanted) <= PIECE_ROWS:
            found = items[spots_of(wanted)]
            if out is None:
                result: NDArray[Any] = found.view(dtype).reshape(shape)
                return result
            pieces = [found]
        else:
            # All before the first is copied: `out` may overlap the ids.
            starts = range(0, len(wanted), PIECE_ROWS)
            pieces = [items[spots_of(wanted[start : start + PIECE_ROWS])] for start in starts]
        if out is None:
            out = np.empty(shape, dtype)
        elif not (out.dtype is dtype and out.flags.carray and out.shape == shape):
            as_out(out, shape, dtype)
        rows: NDArray[Any] = np.ndarray(len(wanted), items.dtype, out)
        start = 0
        for piece in pieces:
            rows[start : start + len(piece)] = piece
            start += PIECE_ROWS
        return out

    return held
