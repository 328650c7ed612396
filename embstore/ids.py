"""Are these ids, and does the table have them?

1. Anything array-like becomes an int64 array of the same shape: lists, tuples, NumPy arrays,
   ``__array__``, DLPack. Booleans and floats are refused; rounding an id would give a wrong row.
2. Ids are literal: a negative one, or one past the end, is an error. Nothing wraps or clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import IdRangeError, IdTypeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def as_ids(ids: Any) -> NDArray[np.int64]:
    """Return ``ids`` as an int64 array of the same shape.

    Parameters
    ----------
    ids : int or array-like of any integer dtype and any rank

    Raises
    ------
    IdRangeError
        If an id does not fit into int64.
    IdTypeError
        If ``ids`` are booleans, floats, strings, ragged lists or anything else than integers.
    """
    if isinstance(ids, np.ndarray):
        array = ids
    elif hasattr(ids, "__dlpack__") and not hasattr(ids, "__array__"):
        array = np.from_dlpack(ids)
    else:
        try:
            array = np.asarray(ids)
        except (ValueError, OverflowError) as error:
            raise IdTypeError(f"ids must be an array of integers: {error}") from error
        if array.size == 0 and isinstance(ids, list | tuple):
            # NumPy calls an empty list float64; it holds no float.
            array = array.astype(np.int64)
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise IdRangeError(f"the id {array.max()} is out of range of any table")
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind == "O" and all(type(value) is int for value in array.flat):
        big = max(array.flat, key=abs)
        raise IdRangeError(f"the id {big} is out of range of any table")
    raise IdTypeError(
        f"ids must be integers, not {array.dtype} (of type {type(ids).__name__}); "
        "if these numbers are meant as ids, convert them with .astype('int64')"
    )


def check_range(ids: NDArray[np.int64], rows: int) -> None:
    """Raise `IdRangeError` unless every id is in ``0 .. rows - 1``.

    Seen as unsigned, a negative id is a huge one, so a single pass finds both mistakes.
    """
    if ids.size == 0 or int(ids.view(np.uint64).max()) < rows:
        return
    bad = np.argwhere((ids < 0) | (ids >= rows))
    where = tuple(int(axis) for axis in bad[0])
    first = int(ids[where])
    position = "" if ids.ndim == 0 else f" at position {where[0] if ids.ndim == 1 else where}"
    others = "" if len(bad) == 1 else f" ({len(bad)} of the {ids.size} ids are out of range)"
    have = f"0 to {rows - 1}" if rows else "none at all"
    raise IdRangeError(
        f"id {first}{position} is out of range: the table has {rows} rows, ids {have}{others}"
    )
