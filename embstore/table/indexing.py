"""Indices of several axes, as NumPy's: the first axis is looked up, the others are not.

`first_axis` finds the item for the first axis. The rows that it asks for are looked up, and NumPy
applies the index to them, with the item replaced by one that takes all of these rows. So everything
but the first item means what it means for an ndarray.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def first_axis(index: tuple[Any, ...], rank: int) -> int | None:
    """Return the position of the item for the first axis; None if there is none.

    Parameters
    ----------
    index : tuple
        Integers, slices, arrays, None and an ellipsis; also words, for the first axis.
    rank : int
        Number of axes of the table.

    Raises
    ------
    IndexError
        If there are more items than axes, or several ellipses.
    TypeError
        If an item for another axis is a str.

    Examples
    --------
    >>> first_axis((slice(3), 0), 2), first_axis((None, ..., [1, 2], 0), 2), first_axis((..., 0), 2)
    (0, 2, None)
    """
    if sum(item is Ellipsis for item in index) > 1:
        raise IndexError("an index can have only one ellipsis (...)")
    axis_counts = [_axis_count(item) for item in index]
    if sum(axis_counts) > rank:
        raise IndexError(
            f"the table has {rank} axes, but the index is for {sum(axis_counts)}; to look up "
            "several rows, write store[[0, 5, 17]]"
        )
    places = [place for place, count in enumerate(axis_counts) if count]
    if any(isinstance(index[place], str) for place in places[1:]):
        raise TypeError(
            "a word can only be the first item of an index; to look up several words, write "
            'store[["like", "the"]]'
        )
    open_at = next((place for place, item in enumerate(index) if item is Ellipsis), len(index))
    if not places or (open_at < places[0] and sum(axis_counts) < rank):
        return None
    return places[0]


def _axis_count(item: Any) -> int:
    """Return for how many axes an item of an index is."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, list):
        try:
            item = np.asarray(item)
        except ValueError:  # No array, so no mask.
            return 1
    if isinstance(item, np.ndarray) and item.dtype.kind == "b":
        return max(item.ndim, 1)
    return 1
