"""Addresses: the places of a column's records in the address space of a mapping.

`lay_out` places the extents of a column side by side. If there is enough address space, the address
of each byte and its offset in the file are equal modulo 2 MiB, so that huge pages can map it.

If possible, all records are on one grid: the address of a record is ``base + place *
record_bytes``, where ``place`` is the row, or the row plus a gap after every ``unit_rows`` rows.
Then one ``take`` serves any lookup. This is always so for embstore's own stores, whose chunks have
one size and start at byte 0 of their files, and for a table in one extent. Otherwise, a record's
address is the start of its extent plus its place in it.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from embstore.table.numbering import scalar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.table.extents import Column

PAGE_BYTES = mmap.PAGESIZE
HUGE_PAGE_BYTES = 2 << 20
# The alignments to try, in this order: a larger one takes more address space.
ALIGNMENTS = (HUGE_PAGE_BYTES, 64 << 10, PAGE_BYTES)
# Address space is plentiful (128 TiB), but many stores may be open at once.
FREE_ADDRESS_BYTES = 64 << 30
MAX_ADDRESS_FACTOR = 8


@dataclass(frozen=True, slots=True)
class Grid:
    """Records at equal distances, except for a gap after each unit.

    Attributes
    ----------
    base : int
        Address of row 0.
    unit_rows, gap_rows : int
        After each ``unit_rows`` rows, a power of two, there is a gap of ``gap_rows`` records, 0 for
        none.

    Examples
    --------
    >>> Grid(0, unit_rows=4, gap_rows=4).places(np.arange(6)).tolist()
    [0, 1, 2, 3, 8, 9]
    """

    base: int
    unit_rows: int = 1
    gap_rows: int = 0

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each row on the grid: ``rows`` itself if there are no gaps."""
        if not self.gap_rows:
            return rows
        places = rows >> scalar(self.unit_rows.bit_length() - 1)
        places *= scalar(self.gap_rows)
        places += rows
        return places

    def place(self, row: int) -> int:
        """Return the place of one row."""
        return row + row // self.unit_rows * self.gap_rows


@dataclass(frozen=True, slots=True)
class Addresses:
    """The layout of a column in an address space.

    Attributes
    ----------
    record_bytes : int
        Size of a record.
    first_rows : ndarray of int64, shape (extents + 1,)
        The first row of each extent, and the number of rows.
    starts : ndarray of int64, shape (extents,)
        Address of the first record of each extent; -1 for a gap.
    size_bytes : int
        Size of the address space.
    grid : Grid or None
        The grid that all records are on; None if there is none.
    """

    record_bytes: int
    first_rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    size_bytes: int
    grid: Grid | None

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the address of the record of each row, shape (n,)."""
        if self.grid is not None:
            return self.grid.places(rows) * self.record_bytes + self.grid.base
        extents = np.searchsorted(self.first_rows, rows, side="right") - 1
        addresses = rows - self.first_rows.take(extents)
        addresses *= self.record_bytes
        addresses += self.starts.take(extents)
        return addresses

    def of_one(self, row: int) -> int:
        """Return the address of the record of one row."""
        if self.grid is not None:
            return self.grid.place(row) * self.record_bytes + self.grid.base
        extent = int(self.first_rows.searchsorted(row, "right")) - 1
        first = self.first_rows.item(extent)
        return (row - first) * self.record_bytes + self.starts.item(extent)


def aligned_rows(rows: int, record_bytes: int, alignment: int) -> int:
    """Return the smallest power of two of rows, ``rows`` or more, that fills whole alignments.

    Parameters
    ----------
    rows, record_bytes : int
        Number of rows, and size of one.
    alignment : int
        A power of two of bytes.

    Examples
    --------
    >>> aligned_rows(100, 1200, 4096)  # 1200 is 75 * 16, so 256 rows fill whole pages.
    256
    """
    least = alignment // gcd(record_bytes, alignment)
    return max(1 << max(rows - 1, 0).bit_length(), least)


def address_limit(stored_bytes: int) -> int:
    """Return how much address space a table of ``stored_bytes`` may take."""
    return max(FREE_ADDRESS_BYTES, MAX_ADDRESS_FACTOR * stored_bytes)


def lay_out(column: Column) -> Addresses:
    """Place the extents of a column in an address space.

    Parameters
    ----------
    column : Column
        Its extents may start at any byte of their files.
    """
    # Python's integers, not arrays: most tables have few extents, and none of this can overflow.
    first_rows = column.first_rows()
    record_bytes, limit = column.record_bytes, address_limit(column.stored_bytes)
    filled = [
        (first, extent.offset, extent.rows)
        for first, extent in zip(first_rows, column.extents, strict=False)
        if extent.file and extent.rows
    ]
    grid = _find_grid(filled, record_bytes, limit) if filled else Grid(0)
    if grid is not None:
        base, unit, gap = grid.base, grid.unit_rows, grid.gap_rows
        found = [base + (first + first // unit * gap) * record_bytes for first, _, _ in filled]
    else:
        found = _side_by_side(filled, record_bytes, limit)
    end = found[-1] + filled[-1][2] * record_bytes if filled else 0
    places = iter(found)
    starts = [next(places) if extent.file and extent.rows else -1 for extent in column.extents]
    return Addresses(
        record_bytes,
        np.array(first_rows, np.int64),
        np.array(starts, np.int64),
        -(-end // PAGE_BYTES) * PAGE_BYTES,
        grid,
    )


# The first row in the column, the offset in the file, and the number of rows of an extent.
_Filled = tuple[int, int, int]


def _find_grid(filled: list[_Filled], record_bytes: int, limit: int) -> Grid | None:
    """Return the grid with the best alignment for the extents; None if there is none."""
    if len(filled) > 1 and any(offset % PAGE_BYTES for _, offset, _ in filled):
        return None  # The last page of an extent would also be the first of the next.
    last_row = filled[-1][0] + filled[-1][2]
    # The largest power of two that divides the first row of every extent.
    bits = 0
    for first, _, _ in filled:
        bits |= first
    unit_rows = bits & -bits
    one_unit_each = all(rows <= unit_rows for _, _, rows in filled)
    for alignment in ALIGNMENTS:
        # Without gaps, if that aligns every extent with its file.
        bases = {(offset - first * record_bytes) % alignment for first, offset, _ in filled}
        if len(bases) == 1 and last_row * record_bytes <= limit:
            return Grid(bases.pop())
        # Otherwise with a gap after each unit.
        bases = {offset % alignment for _, offset, _ in filled}
        if len(bases) > 1 or not one_unit_each:
            continue
        stride_rows = aligned_rows(unit_rows, record_bytes, alignment)
        grid = Grid(bases.pop(), unit_rows, stride_rows - unit_rows)
        if grid.place(last_row) * record_bytes <= limit:
            return grid
    return None


def _side_by_side(filled: list[_Filled], record_bytes: int, limit: int) -> list[int]:
    """Return the address of each extent, one after the other."""
    for alignment in ALIGNMENTS:
        starts, end = [], 0
        for _, offset, rows in filled:
            start = -(-end // alignment) * alignment + offset % alignment
            starts.append(start)
            end = start + rows * record_bytes
        if end <= limit:
            break
    return starts
