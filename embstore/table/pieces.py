"""Which stretches of the files are read to see the rows of consecutive ids? Pure arithmetic.

Consecutive ids are consecutive rows of each partition, under ``mod`` as under ``div``. A stretch
ends with its chunk, and at a number of rows that is read at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.table.numbering import PhysicalRows


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of one chunk.

    Attributes
    ----------
    ids : range
        Their ids; never empty.
    partition, row : int
        The partition, and the first row in it.
    physical : int
        The first physical row.
    """

    ids: range
    partition: int
    row: int
    physical: int


def pieces(numbering: PhysicalRows, start: int, stop: int, most_rows: int) -> Iterator[Piece]:
    """Cut the ids ``start .. stop - 1`` into pieces, in the order of physical rows.

    Parameters
    ----------
    numbering : PhysicalRows
        The numbering of rows.
    start, stop : int
        Ids in range; this is not checked here.
    most_rows : int
        Rows in a piece, at the most.

    Examples
    --------
    >>> from embstore.table.partitioning import Partitioning
    >>> from embstore.table.numbering import PhysicalRows
    >>> numbering = PhysicalRows(Partitioning(10, 2, "mod"), chunk_rows=4, stride_rows=8)
    >>> [list(piece.ids) for piece in pieces(numbering, 1, 10, most_rows=3)]
    [[2, 4, 6], [8], [1, 3, 5], [7], [9]]
    """
    partitioning = numbering.partitioning
    asked = range(start, stop)
    # Under `mod`, they come in the order of their first ids.
    for partition, part in sorted(partitioning.spread(start, stop), key=itemgetter(0)):
        ids = asked[part]
        _, row = partitioning.locate_one(ids[0])
        done = 0
        while done < len(ids):
            in_chunk = numbering.chunk_rows - row % numbering.chunk_rows
            count = min(most_rows, in_chunk, len(ids) - done)
            physical = numbering.number_one(ids[done])
            yield Piece(ids[done : done + count], partition, row, physical)
            done += count
            row += count
