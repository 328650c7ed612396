"""Arrays and columns as callers give them, as NumPy arrays; checks for values that NumPy misreads.

Other libraries are never imported here.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from embstore.dtypes import has_masked, is_tensor

# NumPy's kinds of arrays that may hold str: its two string types, and objects.
WORD_KINDS = "UTO"

_PLAIN = (np.ndarray, str, list, tuple)
_NUMBERS = (int, float, np.number)
_ARROW_NUMBERS = re.compile(r"u?int\d+|halffloat|float|double|bool")


def plain(given: Any) -> Any:
    """Return a column of another library that may hold words as an ndarray.

    Parameters
    ----------
    given : object
        For example a pandas or polars Series, a pandas Index, or an Arrow array or scalar.

    Returns
    -------
    object
        An ndarray; the value of an Arrow scalar; anything else unchanged.
    """
    if isinstance(given, _PLAIN) or is_tensor(given):
        return given
    if hasattr(given, "as_py"):
        return given.as_py()
    if hasattr(given, "to_pylist") and hasattr(given, "type"):
        return _plain_arrow(given)
    try:
        found = np.asarray(given) if hasattr(given, "__array__") else None
    except (ValueError, OverflowError):  # Converting it to ids or words says why.
        return given
    return given if found is None or found.dtype.kind not in WORD_KINDS else found


def _plain_arrow(column: Any) -> Any:
    """Return an Arrow array; as an ndarray, unless it has numbers."""
    if _ARROW_NUMBERS.fullmatch(str(column.type)):
        return column
    # Not np.asarray, which shows a null of a dictionary as some other value.
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return values


def are_bytes(given: Any) -> bool:
    """Say whether this is a buffer of bytes, and neither an array nor a view that was asked for."""
    if isinstance(given, (*_PLAIN, memoryview, array)):
        return False
    if hasattr(given, "__array__"):
        return False
    try:
        return memoryview(given).format in ("B", "b", "c")
    except TypeError:
        return False


def hidden_problem(values: Any) -> str | None:
    """Return the mistake that NumPy hides when it makes one array of several values, or None.

    It turns a boolean among integers into 0 or 1, and a masked number into the number below the
    mask.

    Parameters
    ----------
    values : array-like
        A number, an array, or a (nested) sequence of these.

    Examples
    --------
    >>> hidden_problem([1, [2, True]]), hidden_problem([1, 2])
    ('one of them is a bool', None)
    """
    if isinstance(values, list | tuple):
        # Most lists hold plain numbers only, and few types.
        kinds = set(map(type, values))
        plain = {kind for kind in kinds if issubclass(kind, _NUMBERS) and kind is not bool}
        items = (item for item in values if type(item) not in plain)
        return None if kinds == plain else next(filter(None, map(hidden_problem, items)), None)
    if isinstance(values, bool | np.bool_):
        return "one of them is a bool"
    if isinstance(values, Sequence) and not isinstance(values, str | bytes | range | memoryview):
        return hidden_problem(list(values))
    return "some of them are masked" if has_masked(values) else _hidden_in_array(values)


def _hidden_in_array(values: Any) -> str | None:
    if not hasattr(values, "dtype"):  # A frame has a type for each column.
        types = getattr(values, "dtypes", getattr(getattr(values, "schema", None), "types", ()))
        if any("bool" in str(kind).lower() for kind in types):
            return "a column of them is of bools"
    found = np.asarray(values)
    if found.dtype.kind == "O" and found.ndim:
        return hidden_problem(found.ravel().tolist())
    return "some of them are bools" if found.dtype.kind == "b" else None
