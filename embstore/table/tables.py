"""Tables: columns, an encoding and a numbering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embstore.table.extents import Column
    from embstore.table.numbering import Numbering
    from embstore.table.protocols import Encoding


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a value; making one does no I/O.

    Parameters
    ----------
    columns : tuple of Column
        The records: first those of the numbers, then others that the encoding needs. There are none
        of rows without numbers.
    encoding : Encoding
        Converts the records of a row to numbers.
    numbering : Numbering
        Gives the row in the columns of each id.
    source : tuple of (str, str)
        Facts about where the table comes from, such as the name of its tensor; each a name and a
        text.
    files : tuple of str
        Files that were read to describe it, besides those of its columns.

    Raises
    ------
    ValueError
        If a column has fewer rows than the numbering needs, or there is none for the numbers.
    """

    columns: tuple[Column, ...]
    encoding: Encoding
    numbering: Numbering
    source: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.columns and self.encoding.record_bytes:
            raise ValueError("a table of numbers has at least one column")
        needed = self.numbering.column_rows
        for column in self.columns:
            found = column.rows * column.rows_per_record
            if found < needed:
                raise ValueError(f"a column has {found} rows, but the ids need {needed}")
