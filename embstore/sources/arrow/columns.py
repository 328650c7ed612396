"""The choice of columns: which hold the rows of a table, and which its words.

Rows come from

1. the column that is named, or that a file exported by embstore names;
2. else the only column of lists of numbers;
3. else, if there are no lists, from a column for each dimension: all columns of numbers, in their
   order, if their names count up from 0 or 1, or if all are floats and no name counts.

Words come from the column that is named, else from one called ``word``, else from the only column
of strings, whatever its name, or of bytes. The index of a pandas frame is such a column too.

Without words, a column of integers called ``id`` or the like, or the index of a pandas frame, must
number the rows from 0, because rows get ids in order.

A column that is named as an attribute is none of these, so that it may have any ids.

Where this leaves a choice, the caller has to make it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embstore.errors import SourceError
from embstore.sources.arrow.attributes import named_attributes
from embstore.sources.arrow.row_ids import id_column, numbering, pandas_index
from embstore.sources.arrow.values import has_permuted_axes, row_type, word_type
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD_COLUMN = "word"
# A key of a schema's metadata: the column of rows. `embstore.sinks.parquet` writes it.
ROWS_KEY = b"embstore.rows"
_NUMBERED = re.compile(r"(.*?)(\d{1,9})(\D*)")
# Names of columns that tell something about a row, and are not one of its dimensions.
_NOT_DIMENSION = re.compile(
    r"_*(ids?|idx|index|row|rank|n|num|counts?|freq|frequency|score|weight|label|target|class|"
    r"length|len|size|norm|distance|similarity|probability|time|timestamp|year)_*",
    re.IGNORECASE,
)
_SHOWN_COLUMNS = 20


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are read.

    Attributes
    ----------
    rows : tuple of str
        The column of rows; the columns of the dimensions if ``is_wide``.
    is_wide : bool
        Whether there is a column for each dimension.
    words : str or None
        The column of words.
    index : str, dict or None
        The index of a pandas frame that stands for the ids: a column, or a range as pandas
        describes it.
    ids : str or None
        Another column that has the ids.
    attributes : tuple of str
        The columns of attributes.
    """

    rows: tuple[str, ...]
    is_wide: bool
    words: str | None
    index: str | dict[str, Any] | None
    ids: str | None
    attributes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all columns to read."""
        others = (self.words, self.index, self.ids)
        return [*self.rows, *(name for name in others if isinstance(name, str)), *self.attributes]


def choose_columns(
    schema: pa.Schema,
    name: str,
    *,
    column: str | None = None,
    word_column: str | None = None,
    attributes: Sequence[str] | None = None,
) -> Columns:
    """Return the columns of rows, words and attributes.

    Parameters
    ----------
    schema : pyarrow.Schema
        All columns.
    name : str
        The name of the table, for messages.
    column : str, optional
        The column of rows.
    word_column : str, optional
        The column of words; ``""`` for no words.
    attributes : sequence of str, optional
        The columns of attributes. By default those that a file exported by embstore names.

    Raises
    ------
    SourceError
        If a named column is missing or of a wrong type, or none can be chosen.
    """
    beside = named_attributes(schema, attributes)
    if missing := [one for one in beside if one not in schema.names]:
        raise SourceError(f"{name} has no column {missing[0]!r}; it has: {listing(schema)}")
    index = _index(schema, beside)
    words = _choose_words(schema, name, word_column, index, beside)
    ids = id_column(schema, column, index, beside) if words is None else None
    rows, is_wide = _choose_rows(schema, name, column, words, [*index, ids], beside)
    for one in beside:
        if one == words or one in rows:
            what = "words" if one == words else "rows"
            raise SourceError(
                f"{name}: column {one!r} holds the {what}; name another in "
                f"{option('attributes')}, or other columns of rows and words; it has: "
                f"{listing(schema)}"
            )
    for one in [*rows, *([] if words is None else [words]), *beside]:
        if schema.names.count(one) > 1:
            raise SourceError(
                f"{name} has {schema.names.count(one)} columns {one!r}; rename them: "
                f"{listing(schema)}"
            )
    return Columns(rows, is_wide, words, *numbering(index, ids, words, word_column), beside)


def _index(schema: pa.Schema, attributes: tuple[str, ...]) -> list[Any]:
    """Return the levels of a pandas frame's index that are no attributes."""
    return [level for level in pandas_index(schema) if level not in attributes]


def match_columns(
    first: Columns, schema: pa.Schema, name: str, first_name: str, word_column: str | None
) -> Columns:
    """Return the columns of a further part of a table, which are those of the first part.

    The order of columns may differ, and types may too.

    Raises
    ------
    SourceError
        If one is missing or of a wrong type, or the part would be read in another way.
    """
    words_or_none = () if first.words is None else (first.words,)
    for one in (*first.rows, *words_or_none, *first.attributes):
        if schema.names.count(one) != 1:
            found = "no" if one not in schema.names else str(schema.names.count(one))
            raise SourceError(
                f"{name} has {found} column {one!r}, which {first_name} has; it has: "
                f"{listing(schema)}"
            )
    for one in first.rows:
        if row_type(schema.field(one)) is None or has_permuted_axes(schema.field(one).type):
            raise SourceError(
                f"{name}: column {one!r} is {schema.field(one).type}; expected numbers, as in "
                f"{first_name}"
            )
    index = _index(schema, first.attributes)
    words = _choose_words(schema, name, word_column, index, first.attributes)
    if words != first.words:
        raise SourceError(
            f"{name} has its words in {_shown(words)}, but {first_name} in {_shown(first.words)}; "
            f"name the column of words with {option('word_column')}"
        )
    ids = None
    if words is None:
        ids = id_column(schema, first.rows[0], index, first.attributes)
    if first.is_wide:
        known = {*first.names, ids, *(level for level in index if isinstance(level, str))}
        others = [f.name for f in schema if f.name not in known and word_type(f) is None]
        if others:
            raise SourceError(f"{name} has a column {others[0]!r}, which {first_name} lacks")
    index_or_none, ids = numbering(index, ids, words, word_column)
    return replace(first, index=index_or_none, ids=ids)


def _shown(name: str | None) -> str:
    return "no column" if name is None else f"column {name!r}"


def listing(schema: pa.Schema) -> str:
    """Return the columns and their types, for messages."""
    shown = ", ".join(f"{field.name}: {field.type}" for field in list(schema)[:_SHOWN_COLUMNS])
    more = len(schema) - _SHOWN_COLUMNS
    return f"{shown}, and {more} more" if more > 0 else shown


def _choose_rows(
    schema: pa.Schema,
    name: str,
    column: str | None,
    words: str | None,
    index: list[Any],
    attributes: tuple[str, ...],
) -> tuple[tuple[str, ...], bool]:
    found = {field.name: row_type(field) for field in schema}
    numbers = {one: kind for one, kind in found.items() if kind is not None}
    lists = [field.name for field in schema if (numbers.get(field.name) or (None, ()))[1] != ()]
    if column is None:
        column = (schema.metadata or {}).get(ROWS_KEY, b"").decode("utf-8", "replace") or None
        if column not in numbers:
            column = None
    if column is not None:
        if column not in numbers:
            raise SourceError(
                f"{name} has no column {column!r} of lists of numbers; it has: {listing(schema)}"
            )
    elif len(lists) == 1:
        column = lists[0]
    elif not lists:
        return _choose_dimensions(schema, name, words, [*index, *attributes]), True
    else:
        raise SourceError(
            f"{name} has {len(lists)} columns of lists of numbers; name the column of rows "
            f"({option('column')}): {listing(schema)}"
        )
    if has_permuted_axes(schema.field(schema.names.index(column)).type):
        raise SourceError(
            f"{name}: column {column!r} is a tensor with permuted axes; write it with its axes in "
            "order"
        )
    return (column,), False


def _choose_dimensions(
    schema: pa.Schema, name: str, words: str | None, others: list[Any]
) -> tuple[str, ...]:
    """Return the columns of a table that has one for each dimension; ``others`` are not."""
    fields = [
        field
        for field in schema
        if field.name != words and field.name not in others and word_type(field) is None
    ]
    names = [field.name for field in fields]
    kinds = [row_type(field) for field in fields]
    no_numbers = [one for one, kind in zip(names, kinds, strict=True) if kind is None]
    numbered = [_NUMBERED.fullmatch(one) for one in names]
    marks = [(match[1], match[3], int(match[2])) if match else None for match in numbered]
    first = marks[0][2] if marks and marks[0] is not None else 0
    count_up = bool(marks) and all(
        mark is not None and marks[0] is not None and mark == (*marks[0][:2], place)
        for place, mark in enumerate(marks, first)
    )
    about_rows = [one for one in names if _NOT_DIMENSION.fullmatch(one)]
    integers = [one for one, kind in zip(names, kinds, strict=True) if kind and kind[0].kind != "f"]
    if not fields:
        problem = "nor columns of numbers"
    elif no_numbers:
        problem = f"and column {no_numbers[0]!r} is not a dimension: it does not hold numbers"
    elif count_up and first in (0, 1):
        return tuple(names)
    elif count_up:
        problem = f"and its columns count from {first}; expected 0 or 1"
    elif any(marks):
        problem = "and the names of its columns of numbers do not count up one by one"
    elif integers or about_rows:
        problem = f"and column {(integers + about_rows)[0]!r} may not be a dimension"
    elif len(names) == 1:
        problem = f"and column {names[0]!r} may hold numbers or vectors of one number"
    else:
        return tuple(names)
    raise SourceError(
        f"{name} has 0 columns of lists of numbers, {problem}. Name the column of rows "
        f"({option('column')}), or keep one column for each dimension, in order, one for the "
        f"words, and those that {option('attributes')} names; it has: {listing(schema)}"
    )


def _choose_words(
    schema: pa.Schema,
    name: str,
    word_column: str | None,
    index: list[Any],
    attributes: tuple[str, ...],
) -> str | None:
    if word_column == "":
        return None
    kinds = [(field.name, word_type(field)) for field in schema]
    if word_column is None and WORD_COLUMN in schema.names:
        word_column = WORD_COLUMN
        if any(one == WORD_COLUMN and kind is None for one, kind in kinds):
            raise SourceError(
                f"{name}: the column 'word' does not hold strings; name another with "
                f"{option('word_column')}, or none with {option('word_column', '')}; it has: "
                f"{listing(schema)}"
            )
    if word_column is not None:
        if not any(one == word_column and kind is not None for one, kind in kinds):
            raise SourceError(
                f"{name} has no column {word_column!r} of strings, as {option('word_column')} "
                f"names it; it has: {listing(schema)}"
            )
        return word_column
    if len(index) > 1:
        raise SourceError(
            f"{name} has an index of {len(index)} levels; name the column of words with "
            f"{option('word_column')}, or make the index columns"
        )
    kinds = [(one, kind) for one, kind in kinds if one not in attributes]
    found = [one for one, kind in kinds if kind == "text"]
    found = found or [one for one, kind in kinds if kind == "bytes"]
    if len(found) > 1:
        problem = f"{len(found)} columns of strings"
    elif found and pa.types.is_fixed_size_binary(schema.field(found[0]).type):
        problem = f"a column {found[0]!r} of bytes, which may be words or not"
    else:
        return found[0] if found else None
    raise SourceError(
        f"{name} has {problem}; name the column of words with {option('word_column')}, or "
        f"none with {option('word_column', '')}; it has: {listing(schema)}"
    )
