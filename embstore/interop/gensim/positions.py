"""Indices of the view's arrays, which are those of an ndarray: negative ones, and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.settle import shown_with_type

if TYPE_CHECKING:
    from numpy.typing import NDArray


def positions(index: Any, rows: int) -> NDArray[np.int64]:
    """Return ids for an index of the first axis, of the same shape; for a mask, where it is true.

    Parameters
    ----------
    index : int, or array-like of integers, or of bools, shape (rows,)
        Negative integers count from the end.
    rows : int
        Length of the axis.

    Raises
    ------
    IndexError
        If they are not integers or out of range, or the mask has another length.

    Examples
    --------
    >>> positions([[0, -1]], 11), positions(np.arange(3) > 0, 3)
    (array([[ 0, 10]]), array([1, 2]))
    """
    given = np.asarray(index)
    if given.dtype.kind == "b":
        if given.shape != (rows,):
            raise IndexError(
                f"a mask has shape {given.shape}, expected ({rows},), one for each vector"
            )
        return np.flatnonzero(given)
    if given.dtype.kind not in "iu":
        if given.size:
            raise IndexError(f"an index must be integers, not {shown_with_type(index)}")
        given = given.astype(np.int64)
    outside = (given >= rows) | (given < -rows)
    if outside.any():
        raise IndexError(f"index {given[outside].flat[0]} is out of range for {rows} rows")
    given = given.astype(np.int64)
    return np.where(given < 0, given + rows, given)
