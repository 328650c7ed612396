"""Tables of files whose rows have no numbers: the count of rows is all that such a file tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.errors import FormatError
from embstore.formats.own import spec
from embstore.table.numbering import Numbering
from embstore.table.tables import Table

if TYPE_CHECKING:
    from embstore.encodings.plain import Plain


def empty_table(where: str, rows: int, encoding: Plain) -> Table:
    """Return a table of rows without numbers.

    Raises
    ------
    FormatError
        If there are more than a table can have: no bytes in the file bound their number.
    """
    if rows > spec.MAX_ROWS:
        raise FormatError(f"{where}: {rows} rows are more than the {spec.MAX_ROWS} of a table")
    return Table((), encoding, Numbering(rows))
