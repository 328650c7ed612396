"""The ids of rows in tables: the index of a pandas frame, or a column called ``id`` or the like.

Rows get ids in order. Where a table has other ids, and no words, they would be lost, so it is
refused.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embstore.errors import SourceError
from embstore.wording import either, option

if TYPE_CHECKING:
    from collections.abc import Callable

# Names of columns that hold the ids of rows, such as ``id``, ``item_id`` or ``itemId``.
_ID = re.compile(r"_*(?:ids?|idx|index)_*", re.IGNORECASE)
_SOME_ID = re.compile(r"(?:.*[-_. ])?(?i:ids?|idx|index)_*|.*[a-z](?:Ids?|IDs?|Idx|Index)")


def pandas_index(schema: pa.Schema) -> list[Any]:
    """Return the levels of the index of a pandas frame: names of columns, or dicts of ranges."""
    try:
        levels = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(levels, list):
        return []
    return [
        level
        for level in levels
        if (isinstance(level, str) and level in schema.names)
        or (isinstance(level, dict) and level.get("kind") == "range")
    ]


def id_column(
    schema: pa.Schema, rows: str | None, index: list[Any], attributes: tuple[str, ...]
) -> str | None:
    """Return the column of integers whose name says that it has the ids of rows.

    One that is kept as an attribute may have other ids: they are not lost.
    """
    found = [
        field.name
        for field in schema
        if pa.types.is_integer(field.type)
        and _SOME_ID.fullmatch(field.name)
        and field.name != rows
        and field.name not in (*index, *attributes)
    ]
    found = [name for name in found if _ID.fullmatch(name)] or found
    return found[0] if len(found) == 1 else None


def numbering(
    index: list[Any], ids: str | None, words: str | None, word_column: str | None
) -> tuple[Any, str | None]:
    """Return the index and the column of ids that must number the rows."""
    if words is not None or word_column is not None:
        return None, None
    return index[0] if index else None, ids


def check_index(
    index: str | dict[str, Any],
    batch: pa.RecordBatch,
    first: int,
    first_of_part: int,
    place: Callable[[int], str],
) -> None:
    """Check that the index of a pandas frame numbers its rows: from 0, or through all parts.

    Rows have their position as id, so another index would be lost.

    Parameters
    ----------
    index : str or dict
        The index, as in `Columns`.
    batch : pyarrow.RecordBatch
        Some rows.
    first, first_of_part : int
        The number of the first row of the batch, and of its part, in the whole table.
    place : callable
        Returns how messages refer to the row at a position.

    Raises
    ------
    SourceError
        If it is another index; the error names the row.
    """
    position = first - first_of_part
    if isinstance(index, dict):
        start, step = index.get("start"), index.get("step")
        found: Any = f"a range from {start} in steps of {step}"
        if start in (0, first_of_part) and step == 1:
            return
        row = 0
    else:
        column = batch.column(index)
        numbers: Any = column.to_pylist()
        for origin in (0, first_of_part):
            start = origin + position
            wrong = [row for row, number in enumerate(numbers, start) if row != number]
            if not wrong:
                return
            row = wrong[0] - start
        found = repr(numbers[row])
    raise SourceError(
        f"{place(row)}: the index of the pandas frame is {found}; expected the row's position, "
        f"because rows get ids in order. {either('Call reset_index(drop=True)', 'Drop it')} first, "
        f"or give {option('word_column', '')} to leave the index out"
    )


def check_ids(ids: str, batch: pa.RecordBatch, first: int, place: Callable[[int], str]) -> None:
    """Check that a column of ids numbers the rows from 0, through all parts.

    Parameters
    ----------
    ids : str
        The column.
    batch, first, place
        As in `check_index`.

    Raises
    ------
    SourceError
        If an id is another one; the error names the row.
    """
    column = batch.column(ids)
    expected = np.arange(first, first + len(column))
    wrong = np.flatnonzero(column.to_numpy(zero_copy_only=False) != expected)  # Nulls are nan.
    if wrong.size:
        row = int(wrong[0])
        raise SourceError(
            f"{place(row)}: the column {ids!r} has {column[row].as_py()}; expected {first + row}, "
            "because rows get ids in order. Sort the rows by it if its ids are 0 to n - 1, or "
            f"give {option('word_column', '')} to leave it out"
        )
