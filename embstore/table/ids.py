"""Ids: conversion of a caller's ids to int64, and the check that the table has them.

1. Anything array-like becomes an int64 array of the same shape: lists, tuples, NumPy arrays,
   ``__array__``, DLPack. Booleans and floats are refused; rounding an id would give a wrong row.
   NumPy turns a boolean among integers into 0 or 1, so lists are searched for them.
2. Ids are literal: a negative one, or one past the end, is an error. None wraps or is clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import has_masked
from embstore.errors import IdRangeError, IdTypeError
from embstore.table.given import are_bytes, hidden_problem, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)
_INTEGERS = (int, np.integer)

# The remedies for common mistakes, by the kind of the given dtype.
_REMEDIES = {
    "b": "turn a mask into ids with np.flatnonzero(mask)",
    "f": "if these numbers are meant as ids, convert them with .astype('int64')",
    "U": "look up rows by word with lookup_words",
    "T": "look up rows by word with lookup_words",
    "S": "words are str, not bytes; convert them with np.strings.decode(words)",
}


def as_ids(ids: Any, rows: int) -> NDArray[np.int64]:
    """Return ``ids`` as an int64 array of the same shape, every id in ``0 .. rows - 1``.

    Parameters
    ----------
    ids : int or array-like of any integer dtype and any rank
    rows : int
        Rows of the table.

    Raises
    ------
    IdTypeError
        If ``ids`` are booleans, floats, strings, ragged lists or otherwise not integers.
    IdRangeError
        If an id is negative, or not below ``rows``.

    Examples
    --------
    >>> as_ids([[0, 5], (7, 7)], 11).tolist()
    [[0, 5], [7, 7]]
    """
    if type(ids) is list and set(map(type, ids)) == {int}:
        # Most lists, so they have a path of their own; NumPy gives large numbers another dtype.
        found = np.array(ids)
        ids = found if found.dtype is _INT64 else ids
    fits = type(ids) is np.ndarray and ids.dtype.kind in "iu"
    array = ids if fits else _as_integers(ids)
    if array.dtype.kind != "O":
        # As an unsigned number, a negative id is a huge one, so a single pass finds both mistakes.
        # A uint64 beyond int64 is the same huge number before and after.
        wide = array if array.dtype is _INT64 else array.astype(_INT64, copy=False)
        unsigned = wide.view(_UINT64)
        # argmax takes a quarter of the time of max for a small array.
        if wide.size == 0 or unsigned.item(unsigned.argmax()) < rows:
            return wide
    check_range(array, (array < 0) | (array >= rows), rows)
    return array.astype(np.int64)


def as_counts(counts: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a count for each id as a float64 array of rank 1, in the order of the ids.

    Parameters
    ----------
    counts : array-like of integers or floats, 0 or more
    shape : tuple of int
        Shape of the ids.

    Raises
    ------
    TypeError
        If they are not numbers.
    ValueError
        If they have another shape, or one is negative or not finite.

    Examples
    --------
    >>> as_counts([3, 0.5], (2,)).tolist()
    [3.0, 0.5]
    """
    if has_masked(counts):
        raise TypeError("counts must be numbers, but some are masked")
    try:
        array = np.asarray(plain(counts))
    except (ValueError, OverflowError) as error:
        raise TypeError(f"counts must be an array of numbers: {error}") from error
    if array.dtype.kind not in "iuf" and array.size:
        raise TypeError(f"counts must be integers or floats, not {array.dtype}")
    if not hasattr(counts, "dtype") and (problem := hidden_problem(counts)):
        raise TypeError(f"counts must be numbers, but {problem}")
    if array.shape != shape:
        raise ValueError(f"counts has shape {array.shape}, expected {shape}, that of the ids")
    with np.errstate(over="ignore"):  # A long double may become infinite.
        found = array.astype(np.float64).reshape(-1)
    bad = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(bad):
        raise ValueError(
            f"counts must be 0 or more and finite, not {found[bad[0]]} at position {bad[0]}"
        )
    return found


def check_range(ids: NDArray[Any], outside: NDArray[np.bool_], rows: int) -> None:
    """Raise IdRangeError if any id is outside of the table, and name the first one.

    Parameters
    ----------
    ids : ndarray of integers, any shape
        The ids as the caller gave them: the message tells a position among these.
    outside : ndarray of bool, the shape of ``ids``
        Which ids are out of range.
    rows : int
        Rows of the table.
    """
    bad = np.argwhere(outside)
    if not len(bad):
        return
    where = tuple(int(axis) for axis in bad[0])
    position = "" if ids.ndim == 0 else f" at position {where[0] if ids.ndim == 1 else where}"
    others = "" if len(bad) == 1 else f" ({len(bad)} of the {ids.size} ids are out of range)"
    have = f"{rows} rows, ids 0 to {rows - 1}" if rows else "no rows"
    raise IdRangeError(
        f"id {int(ids[where])}{position} is out of range: the table has {have}{others}"
    )


def _as_integers(ids: Any) -> NDArray[Any]:
    """Return an array of integers, of an integer dtype or as objects."""
    if has_masked(ids):
        raise IdTypeError(
            "ids must be integers, but some are masked; give ids.compressed(), or ids.filled(id)"
        )
    ids = plain(ids)
    if are_bytes(ids):  # NumPy would take each byte for a number.
        raise IdTypeError(f"ids must be integers, not {type(ids).__name__}")
    if hasattr(ids, "__dlpack__") and not hasattr(ids, "__array__"):
        array = np.from_dlpack(ids)
    else:
        try:
            array = np.asarray(ids)
        except (ValueError, OverflowError) as error:
            raise IdTypeError(f"ids must be an array of integers: {error}") from error
    found = array.dtype
    if isinstance(ids, list | tuple | range | int):
        if array.size == 0:
            # NumPy makes an empty list float64, though it holds no float.
            return array.astype(np.int64)
        if array.dtype.kind == "f":
            # It also makes integers float64 if some are 2**63 or more, and others less.
            array = np.asarray(ids, object)
    if array.dtype.kind in "iu" and not hasattr(ids, "dtype") and (problem := hidden_problem(ids)):
        raise IdTypeError(f"ids must be integers, but {problem}")
    if array.dtype.kind in "iu" or (array.dtype.kind == "O" and _all_integers(array)):
        return array
    name = type(ids).__name__
    is_one_object = np.isscalar(ids) or (found.kind == "O" and array.ndim == 0)
    what = name if is_one_object else f"{found} (of type {name})"
    remedy = _REMEDIES.get(found.kind)
    raise IdTypeError(f"ids must be integers, not {what}" + (f"; {remedy}" if remedy else ""))


def _all_integers(array: NDArray[Any]) -> bool:
    return all(isinstance(value, _INTEGERS) and not isinstance(value, bool) for value in array.flat)
