"""Arrow arrays as rows and words: which types hold numbers or words, and their conversion.

A row is a number, a list of numbers of any list type, nested lists, or a fixed-shape tensor. All
rows have one shape. Words are strings of any type, or bytes that are UTF-8; they may be encoded as
a dictionary or in runs.

Arrow does not count a null inside a dictionary or a run as a null of the column, so words are
decoded before nulls are looked for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from embstore.errors import SourceError
from embstore.settle import shown_bytes
from embstore.sources.packing import packed_binary
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.vocabulary.words import PackedWords

Shape = tuple[int | None, ...]

_EXTENSION = b"ARROW:extension:name"
_TYPES = pa.types
_TEXTS = (_TYPES.is_string, _TYPES.is_large_string, _TYPES.is_string_view)
_BYTES = (
    *(_TYPES.is_binary, _TYPES.is_large_binary),
    *(_TYPES.is_binary_view, _TYPES.is_fixed_size_binary),
)
_LISTS = (
    *(_TYPES.is_list, _TYPES.is_large_list, _TYPES.is_fixed_size_list),
    *(_TYPES.is_list_view, _TYPES.is_large_list_view),
)


def row_type(field: pa.Field) -> tuple[np.dtype[Any], Shape] | None:
    """Return the dtype and the shape of a row in a column; None if it does not hold numbers.

    An axis is None where lists have no fixed length. The shape of plain numbers is ``()``.
    """
    shape: list[int | None] = []
    while _is_list(storage_type(field.type)):
        kind = field.type
        if isinstance(kind, pa.FixedShapeTensorType):
            shape += kind.shape
            field = pa.field("item", kind.value_type)
            continue
        kind = storage_type(kind)
        shape.append(kind.list_size if pa.types.is_fixed_size_list(kind) else None)
        field = kind.value_field
    kind = field.type
    # Numbers of an extension type, such as arrow.bool8, mean something else. An extension that
    # Arrow does not know arrives as the type of its storage.
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    if _EXTENSION in (field.metadata or {}):
        return None
    return np.dtype(kind.to_pandas_dtype()), tuple(shape)


def known_row_type(field: pa.Field) -> tuple[np.dtype[Any], Shape]:
    """Return what `row_type` does, of a column that is known to hold numbers."""
    found = row_type(field)
    if found is None:
        raise TypeError(f"column {field.name!r} does not hold numbers")
    return found


def word_type(field: pa.Field) -> Literal["text", "bytes"] | None:
    """Return whether a column holds text, or bytes that may be text; None for other columns."""
    kind = decoded_type(field.type)
    if _is_text(kind):
        return "text"
    # Bytes of an extension type, such as polars' objects, are not text.
    if _is_bytes(kind) and _EXTENSION not in (field.metadata or {}):
        return "bytes"
    return None


def _is_text(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in _TEXTS)


def _is_bytes(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in _BYTES)


def has_permuted_axes(kind: pa.DataType) -> bool:
    """Say whether a type is a tensor whose axes are stored in another order."""
    return isinstance(kind, pa.FixedShapeTensorType) and kind.permutation not in (
        None,
        sorted(kind.permutation),
    )


def shape_of_first(column: pa.Array, place: str, name: str) -> tuple[int, ...]:
    """Return the shape of the first row of a column, which is not empty; see `rows_of`."""
    values = column.slice(0, 1)
    shape: list[int] = []
    while _is_list(storage_type(values.type)):
        is_tensor = isinstance(values.type, pa.FixedShapeTensorType)
        axes = values.type.shape if is_tensor else None
        values = _storage(values)
        if values.null_count:
            raise SourceError(f"{place}: column {name!r} is null; fix or remove the row")
        lengths = set(values.value_lengths().to_pylist())
        if len(lengths) > 1:
            raise SourceError(
                f"{place}: column {name!r} has lists of {min(lengths)} to {max(lengths)} values in "
                "one row; expected lists of one length"
            )
        shape += axes or [lengths.pop() if lengths else 0]
        values = values.flatten()
    return tuple(shape)


def rows_of(
    column: pa.Array, name: str, shape: tuple[int, ...], place: Callable[[int], str]
) -> NDArray[Any]:
    """Return a column as rows, in the dtype of its numbers.

    Parameters
    ----------
    column : pyarrow.Array
        The column, of n rows.
    name : str
        The column's name, for messages.
    shape : tuple of int
        The shape that each row must have.
    place : callable
        Returns how messages refer to the row at a position.

    Returns
    -------
    ndarray, shape (n, *shape)

    Raises
    ------
    SourceError
        If a row or number is null, or a row has another shape.
    """
    values, axis = column, 0
    while axis < len(shape):
        count = math.prod(shape[:axis])  # Lists of this level in a row.
        span = len(values.type.shape) if isinstance(values.type, pa.FixedShapeTensorType) else 1
        expected = math.prod(shape[axis : axis + span])
        values = _storage(values)
        if values.null_count:
            row = _first_null(values) // count
            what = f"column {name!r} is null" if axis == 0 else f"column {name!r} has a null list"
            raise SourceError(f"{place(row)}: {what}; fix or remove the row")
        lengths = values.value_lengths().to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != expected)
        if wrong.size:
            raise SourceError(
                f"{place(int(wrong[0]) // count)}: expected {expected} values, as in the first "
                f"row, found {lengths[wrong[0]]}; fix or remove the row"
            )
        values = values.flatten()
        axis += span
    if values.null_count:
        size = math.prod(shape)
        position = _first_null(values)
        what = f"value {position % size + 1}" if shape else f"column {name!r}"
        raise SourceError(f"{place(position // size)}: {what} is null; fix or remove the row")
    rows: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return rows.reshape(len(column), *shape)


def words_of(column: pa.Array, name: str, place: Callable[[int], str]) -> PackedWords:
    """Return a column as words; see `rows_of` for the parameters.

    Raises
    ------
    SourceError
        If a word is null, or not UTF-8.
    """
    column = _decoded(column)
    if column.null_count:
        raise SourceError(
            f"{place(_first_null(column))}: column {name!r} is null; fix or remove the row"
        )
    packed = column.cast(pa.binary())
    try:
        packed.cast(pa.string())  # Only to check that each word is UTF-8.
    except pa.ArrowInvalid:
        for row, word in enumerate(packed.to_pylist()):
            try:
                word.decode()
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{place(row)}: {shown_bytes(word)} in column {name!r} is not UTF-8 "
                    f"({error.reason} at byte {error.start}); convert the column, or name another "
                    f"with {option('word_column')}, or none with {option('word_column', '')}"
                ) from error
    return packed_binary(packed, "strict", place)


def storage_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that an extension type is stored as; other types as they are."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in _LISTS)


def _storage(values: pa.Array) -> pa.Array:
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def _first_null(values: pa.Array) -> int:
    return int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])


def _decoded(column: pa.Array) -> pa.Array:
    """Return words without an encoding, and without views."""
    kind = column.type
    if pa.types.is_run_end_encoded(kind):
        return pa.array(column.to_pylist(), _plain(decoded_type(kind)))
    if pa.types.is_dictionary(kind):
        if not _is_plain(kind.value_type):  # Arrow cannot take from views or runs.
            words = _decoded(column.dictionary)
            column = pa.DictionaryArray.from_arrays(column.indices, words)
        return _decoded(column.dictionary_decode())
    return column if _is_plain(kind) else column.cast(_plain(kind))


def decoded_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values in a type that may be encoded."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    return not (
        types.is_string_view(kind) or types.is_binary_view(kind) or types.is_run_end_encoded(kind)
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.large_string() if _is_text(kind) else pa.large_binary()
