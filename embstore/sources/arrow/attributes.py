"""Attributes from columns of Arrow data: which columns hold them, and their values.

A column of numbers, booleans or strings is an attribute if it is named; a file that embstore
exported names its own. Values may be encoded as a dictionary or in runs. Where the parts of a table
have numbers of different dtypes, the attribute has the common one, which must hold all of them
exactly.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from embstore.attributes.given import as_values
from embstore.dtypes import as_dtype, common_dtype
from embstore.errors import RowError, SourceError
from embstore.formats.own.spec import STRING
from embstore.sources.arrow.values import decoded_type, row_type, rows_of, word_type, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from embstore.attributes.values import Values
    from embstore.sources.arrow.files import Part

# A key of a schema's metadata: the names of the columns of attributes, as a JSON array.
# `embstore.sinks.parquet` writes it.
ATTRIBUTES_KEY = b"embstore.attributes"
_TYPES = pa.types
_REMEDIES = (
    (_TYPES.is_decimal, "cast it to float64, or to int64 if it holds whole numbers"),
    (_TYPES.is_temporal, "cast it to int64"),
    (_TYPES.is_duration, "cast it to int64"),
    (_TYPES.is_binary, "cast it to string"),
    (_TYPES.is_large_binary, "cast it to string"),
    (_TYPES.is_binary_view, "cast it to string"),
    (_TYPES.is_fixed_size_binary, "cast it to string"),
    (_TYPES.is_struct, "make its fields columns"),
    (_TYPES.is_null, "fill in its missing values, or convert its objects"),
)


def named_attributes(schema: pa.Schema, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the columns of attributes: those asked for, or those the file names."""
    if asked is not None:
        return tuple(asked)
    try:
        names = json.loads((schema.metadata or {}).get(ATTRIBUTES_KEY, b"[]"))
    except (ValueError, RecursionError):
        return ()
    known = isinstance(names, list) and all(
        isinstance(name, str) and schema.names.count(name) == 1 for name in names
    )
    return tuple(dict.fromkeys(names)) if known else ()


def find_dtypes(names: Iterable[str], parts: Sequence[Part]) -> dict[str, str]:
    """Return the dtype of each attribute, which holds the values of all parts.

    Parameters
    ----------
    names : iterable of str
        The names of the columns.
    parts : sequence of Part
        The parts of the table, which have these columns.

    Raises
    ------
    SourceError
        If a column does not hold numbers, booleans or strings, or there is no common dtype.
    """
    return {name: _common(name, parts) for name in names}


def attribute_of(column: pa.Array, name: str, dtype: str, place: Callable[[int], str]) -> Values:
    """Return a column as the values of an attribute.

    Parameters
    ----------
    column : pyarrow.Array
        The column.
    name : str
        Its name, for messages.
    dtype : str
        The dtype of the attribute, from `find_dtypes`.
    place : callable
        Returns how messages refer to the row at a position.

    Raises
    ------
    SourceError
        If a value is null, or ``dtype`` does not hold it.
    """
    if dtype == STRING:
        return words_of(column, name, place)
    while pa.types.is_dictionary(column.type) or pa.types.is_run_end_encoded(column.type):
        is_dictionary = pa.types.is_dictionary(column.type)
        column = column.dictionary_decode() if is_dictionary else pc.run_end_decode(column)
    numbers = rows_of(column, name, (), place)
    try:
        return as_values(name, numbers, dtype)
    except RowError as error:
        raise SourceError(f"{place(error.position)}: {error.problem}") from error


def _common(name: str, parts: Sequence[Part]) -> str:
    found = [_dtype_of(part.schema.field(name), part.name) for part in parts]
    kinds = {*found}
    if len(kinds) == 1:
        return found[0]
    problem: Any = None
    if not kinds & {STRING, "bool"}:
        try:
            return common_dtype(map(as_dtype, found)).name
        except ValueError as error:
            problem = error
    other = next(place for place, dtype in enumerate(found) if dtype != found[0])
    raise SourceError(
        f"{parts[other].name}: column {name!r} is {found[other]}, but {found[0]} in "
        f"{parts[0].name}; convert it to one dtype in all parts"
    ) from problem


def _dtype_of(field: pa.Field, place: str) -> str:
    """Return the dtype of an attribute with the values of a column."""
    kind = decoded_type(field.type)
    if word_type(field) == "text":
        return STRING
    if pa.types.is_boolean(kind):
        return "bool"
    numbers = row_type(field.with_type(kind))
    if numbers is not None and numbers[1] == ():
        return numbers[0].name
    remedy = "convert it"
    if numbers is not None:
        remedy = "make a column of each value"
    for is_kind, how in _REMEDIES:
        if is_kind(kind):
            remedy = how
    raise SourceError(
        f"{place}: column {field.name!r} is {field.type}, but an attribute holds numbers, booleans "
        f"or strings; {remedy}"
    )
