"""Ids as Keras hands them over: integers, or floats that it has made of them.

Keras casts the ids that a model is given to the dtype of its ``Input``, float32 by default. Such
ids are taken where none can have been rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The bits of a float's significand: it holds every integer up to that power of two.
_EXACT_BITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}


def check_dtype(name: str, rows: int) -> None:
    """Raise TypeError unless a dtype is an integer's, or a float's that tells all ids apart.

    Parameters
    ----------
    name : str
        The name of the dtype.
    rows : int
        Rows of the table.

    Examples
    --------
    >>> check_dtype("float32", 400_000)
    >>> check_dtype("float32", 40_000_000)
    Traceback (most recent call last):
      ...
    TypeError: ids are float32, which cannot tell all 40000000 ids of the table apart; give \
keras.Input(..., dtype="int64")
    """
    if name.startswith(("int", "uint")):
        return
    if name not in _EXACT_BITS:
        raise TypeError(f'ids must be integers, not {name}; give keras.Input(..., dtype="int64")')
    if rows > 1 << _EXACT_BITS[name]:
        raise TypeError(
            f"ids are {name}, which cannot tell all {rows} ids of the table apart; give "
            'keras.Input(..., dtype="int64")'
        )


def as_whole(ids: NDArray[Any]) -> NDArray[Any]:
    """Return ids as integers; raise ValueError if a float is not whole.

    Examples
    --------
    >>> as_whole(np.array([3.0, 0.0], np.float32))
    array([3, 0])
    """
    if ids.dtype.kind in "iu":
        return ids
    with np.errstate(invalid="ignore"):
        whole = ids.astype(np.int64)
    wrong = whole != ids
    if wrong.any():
        raise ValueError(f"ids must be whole numbers, not {ids[wrong].flat[0]}")
    return whole
