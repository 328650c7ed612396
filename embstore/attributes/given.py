"""Values of attributes as callers give them, as arrays of numbers or packed strings.

1. An array, a list, a column of another library, or any iterable has one value for each row: all
   numbers, all booleans, or all str. NumPy would make one kind of several, so lists are searched.
2. A missing value is refused: None, a masked number, a null of Arrow or polars, NaN among strings.
   NaN among floats is a number.
3. A column has one dtype. Numbers of another one are taken if the column's holds them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.values import Values, dtype_name, empty_values
from embstore.dtypes import (
    as_dtype,
    find_dtype,
    has_masked,
    is_float,
    is_tensor,
    tensor_array,
)
from embstore.errors import RowError, SourceError
from embstore.formats.own import spec
from embstore.formats.own.attribute_manifest import check_name
from embstore.settle import shown
from embstore.table.given import are_bytes, plain
from embstore.vocabulary.words import PackedWords, pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBERS = (int, float, np.number)
_REMEDIES = {
    "S": "decode the bytes first: np.strings.decode(values)",
    "M": "store them as numbers, as in values.astype('datetime64[s]').astype('int64')",
    "m": "store them as numbers, as in values.astype('timedelta64[s]').astype('int64')",
    "c": "give the real and the imaginary parts as two attributes",
    "f": "convert them with .astype('float64')",
    "V": "give each field as an attribute",
}


def as_values(
    name: str, given: Any, dtype: str | None = None, *, empty_dtype: str | None = None
) -> Values:
    """Return the values of an attribute as numbers, little endian, or as packed strings.

    Parameters
    ----------
    name : str
        The attribute's name.
    given : array-like, iterable of numbers or str, or PackedWords
        One value for each row.
    dtype : str, optional
        The dtype of the column, as the format names it; by default that of the values.
    empty_dtype : str, optional
        The dtype of an empty list, which has none of its own; by default ``dtype``.

    Raises
    ------
    TypeError
        If they are not one-dimensional, or not of a kind that can be stored.
    RowError
        If one is missing, of another kind than the others, or not one of ``dtype``.
    SourceError
        If there are none, so that the dtype is not known.

    Examples
    --------
    >>> as_values("count", [3, 1])
    array([3, 1])
    >>> as_values("title", ["a", "b"]).encoded()
    [b'a', b'b']
    """
    values = (
        given if isinstance(given, PackedWords) else _settled(name, given, empty_dtype or dtype)
    )
    if dtype is None or dtype == dtype_name(values):
        return values
    if isinstance(values, PackedWords) or dtype == spec.STRING:
        raise TypeError(f"attribute {name!r} has the dtype {dtype}, not {dtype_name(values)}")
    return _cast(name, values, dtype)


def as_dtypes(given: Any, name: str) -> dict[str, str]:
    """Return the dtypes of attributes by their names, as the format names them.

    Raises
    ------
    TypeError, ValueError
        If this is not a mapping of names to dtypes that can be stored.

    Examples
    --------
    >>> as_dtypes({"count": np.int64, "title": "string"}, "attributes")
    {'count': 'int64', 'title': 'string'}
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a mapping of names to dtypes, not {type(given).__name__}")
    found = {}
    for key, value in given.items():
        check_name(key)
        found[key] = _as_dtype_name(value, f"{name}[{key!r}]")
    return found


def check_count(name: str, values: Values, count: int) -> None:
    """Refuse another number of values than that of rows."""
    if len(values) != count:
        raise SourceError(
            f"attribute {name!r} has {len(values)} values for {count} rows; give one for each row"
        )


def _as_dtype_name(value: Any, where: str) -> str:
    if isinstance(value, str) and value in spec.ATTRIBUTE_DTYPES:
        return value
    if value is str:
        return spec.STRING
    try:
        found = as_dtype(value)
    except TypeError:
        found = None
    if found is not None and found.kind in "UT":
        return spec.STRING
    if found is None or found.name not in spec.ATTRIBUTE_DTYPES:
        expected = ", ".join(spec.ATTRIBUTE_DTYPES)
        raise TypeError(f"{where} must be one of {expected}, not {shown(value)}")
    return found.name


def _settled(name: str, given: Any, dtype: str | None) -> Values:
    """Return values of the dtype that they come in; no values of ``dtype``."""
    if isinstance(given, str | Mapping | Set) or are_bytes(given):
        raise TypeError(
            f"attribute {name!r} must be an array or a list of one value for each row, not a "
            f"{type(given).__name__}"
        )
    _check_nulls(name, given)
    if is_tensor(given):
        return _numbers(name, tensor_array(given))
    given = plain(given)
    if not hasattr(given, "__array__") and not isinstance(given, list | tuple | range | memoryview):
        if not isinstance(given, Iterable):
            raise TypeError(
                f"attribute {name!r} must be an array or a list of one value for each row, not "
                f"{shown(given)}"
            )
        if not hasattr(given, "__buffer__") and not _is_buffer(given):
            given = list(given)
    if isinstance(given, list | tuple):
        return _listed(name, given, dtype)
    array = np.asarray(given)
    if array.dtype.kind in "OT" and array.ndim == 1:
        return _listed(name, array.tolist(), dtype)
    if array.dtype.kind == "U" and array.ndim == 1:
        return _strings(name, array.tolist())
    return _numbers(name, array)


def _listed(name: str, values: list[Any] | tuple[Any, ...], dtype: str | None) -> Values:
    """Return values of Python: all str, all bool, or all numbers."""
    if not len(values):
        if dtype is None:
            raise SourceError(
                f"attribute {name!r} has no values, so its dtype is not known; give an array of "
                "the dtype"
            )
        return empty_values(dtype)
    kinds = set(map(type, values))
    if any(hasattr(kind, "as_py") for kind in kinds):
        return _listed(name, [v.as_py() if hasattr(v, "as_py") else v for v in values], dtype)
    families = {_family(kind) for kind in kinds}
    if families == {str}:
        return _strings(name, list(values))
    if families in ({bool}, {int}):
        if families == {int} and not _has_float(kinds):
            return _integers(name, values)
        array = np.asarray(values)
        if families == {int} and array.dtype.kind == "f":
            _check_exact(name, values, array)
        return _numbers(name, array)
    _refuse_value(name, values)
    # Arrays without axes, for example.
    return _numbers(name, np.asarray(values))


def _family(kind: type) -> type | None:
    """Return str, bool, int for all numbers, or None for others."""
    if issubclass(kind, str):
        return str
    if issubclass(kind, bool | np.bool_):
        return bool
    is_number = issubclass(kind, _NUMBERS) and not issubclass(kind, np.timedelta64)
    return int if is_number else None


def _has_float(kinds: set[type]) -> bool:
    return any(issubclass(kind, float | np.floating) for kind in kinds)


def _integers(name: str, values: Sequence[Any]) -> NDArray[Any]:
    """Return integers as the first of int64 and uint64 that holds all of them."""
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        return _numbers(name, array)
    low = min(int(value) for value in values)
    most = (1 << 63) - 1 if low < 0 else (1 << 64) - 1
    for position, value in enumerate(values):
        if not -(1 << 63) <= int(value) <= most:
            raise RowError(
                f"attribute {name!r} has {shown(value)}, which is not an int64"
                + (", as the negative ones need" if low < 0 else " or uint64"),
                position,
            )
    return np.asarray(values, np.uint64)


def _check_exact(name: str, values: Iterable[Any], array: NDArray[Any]) -> None:
    """Refuse integers among floats that are no floats."""
    for position, (value, found) in enumerate(zip(values, array.tolist(), strict=True)):
        if isinstance(value, int | np.integer) and int(value) != found:
            raise RowError(
                f"attribute {name!r} has {shown(value)} among floats, which no float64 equals; "
                "give integers only, or floats",
                position,
            )


def _refuse_value(name: str, values: Sequence[Any]) -> None:
    """Raise for the first value that is missing, or of another kind than the first."""
    first: type | None = None
    are_strings = any(isinstance(value, str) for value in values)
    for position, value in enumerate(values):
        family = _family(type(value))
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            raise RowError(
                f"attribute {name!r} has no value here ({shown(value)}); fill it, or leave the row "
                "out",
                position,
            )
        if isinstance(value, bytes | bytearray):
            raise RowError(f"attribute {name!r} has bytes; {_REMEDIES['S']}", position)
        if are_strings and isinstance(value, float) and math.isnan(value):
            raise RowError(
                f"attribute {name!r} has nan among strings: the value is missing; fill it, or "
                "leave the row out",
                position,
            )
        if family is None and not isinstance(value, np.ndarray | np.generic):
            raise RowError(
                f"attribute {name!r} must have numbers or str, not {shown(value)} "
                f"({type(value).__name__})",
                position,
            )
        if first is not None and family is not first:
            raise RowError(
                f"attribute {name!r} has values of several kinds: {shown(value)} is a "
                f"{type(value).__name__}, those before it are {first.__name__}",
                position,
            )
        first = family


def _strings(name: str, words: list[str]) -> PackedWords:
    try:
        return pack(words)
    except UnicodeEncodeError as error:
        bad = (at for at, word in enumerate(words) if not _is_utf8(word))
        raise RowError(
            f"attribute {name!r} has {shown(error.object)}, which has no UTF-8", next(bad, 0)
        ) from error


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _numbers(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return numbers of a dtype that can be stored, little endian."""
    if array.ndim != 1:
        raise TypeError(
            f"attribute {name!r} must have one value for each row, shape (n,), not an array of "
            f"shape {array.shape}"
        )
    if array.dtype != np.bool_ and find_dtype(array.dtype) is None:
        remedy = _REMEDIES.get(array.dtype.kind)
        raise TypeError(
            f"attribute {name!r} must have numbers, booleans or str, not {array.dtype}"
            + (f"; {remedy}" if remedy else "")
        )
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _cast(name: str, values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return numbers in another dtype, which must hold them exactly."""
    target = as_dtype(dtype)
    if (values.dtype.kind == "b") != (target.kind == "b") or (
        is_float(values.dtype) and not is_float(target)
    ):
        raise TypeError(f"attribute {name!r} has the dtype {dtype}, not {values.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(target)
        wide = np.float64 if is_float(target) else values.dtype
        same = cast.astype(wide) == values
        if is_float(values.dtype):
            same |= np.isnan(values) & np.isnan(cast)
        elif is_float(target):  # NumPy compares an int64 as a float64, which may not hold it.
            wide_cast, most = cast.astype(np.float64), float(int(np.iinfo(values.dtype).max) + 1)
            inside = (wide_cast >= float(np.iinfo(values.dtype).min)) & (wide_cast < most)
            same = inside & (np.where(inside, wide_cast, 0).astype(values.dtype) == values)
        else:  # A negative number may come back from an unsigned one.
            same &= (cast < 0) == (values < 0)
    if not same.all():
        position = int(np.flatnonzero(~same)[0])
        raise RowError(
            f"attribute {name!r} is {dtype}, which cannot hold {values[position]}", position
        )
    return cast.astype(target.newbyteorder("<"), copy=False)


def _check_nulls(name: str, given: Any) -> None:
    """Refuse masked numbers, and the nulls of Arrow and polars."""
    if has_masked(given):
        raise TypeError(f"attribute {name!r} has masked values; replace them with .filled(value)")
    count = getattr(given, "null_count", 0)
    count = count() if callable(count) else count
    if type(getattr(getattr(given, "dtype", None), "na_value", None)).__name__ == "NAType":
        count = int(given.isna().sum())  # Of pandas, where np.asarray may show nan.
    if count:
        raise TypeError(f"attribute {name!r} has {count} nulls; fill them, or leave their rows out")


def _is_buffer(given: Any) -> bool:
    try:
        memoryview(given)
    except TypeError:
        return False
    return True
