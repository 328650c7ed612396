"""Blocks of scales: which rows, and which values of a row, share a scale.

The shape of scales for a table of shape ``(rows, width)`` is one of

====================================  ==============================================
``()``, ``(1,)``, ``(1, 1)``          one scale for the table
``(rows,)``, ``(rows, 1)``            one for each row
``(rows, k)``                         one for each of k groups of a row
``(ceil(rows / B), ceil(width / G))``  one for each block of B rows and G values; the
                                      last blocks may be smaller
====================================  ==============================================

Several blocks can have the same shape: 160 values in two blocks are 80 and 80, or 128 and 32. Then
nothing is guessed; ``scale_block`` decides. A count that divides the length evenly means even
blocks, unless a power of two or a multiple of 16 would do as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from embstore.errors import FormatError
from embstore.wording import either, option

_USUAL = 16  # Sizes of blocks are its multiples, or powers of two.
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a table's scales.

    Attributes
    ----------
    rows, values : int
        Rows, and values of a row, that share a scale.
    row_count, value_count : int
        Number of blocks that the rows, and the values of a row, are divided into.
    """

    rows: int
    values: int
    row_count: int
    value_count: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The possible sizes of blocks, given a length and the number of blocks.

    Attributes
    ----------
    low, high : int
        The smallest and the largest.
    even : int or None
        The size that divides the length evenly.
    """

    low: int
    high: int
    even: int | None

    def choose(self) -> int | None:
        """Return the only sensible size; None if there are several."""
        if self.low == self.high:
            return self.low
        if self.even is None:
            return None
        if not self.even & (self.even - 1):
            return self.even
        return None if set(self.usual()) - {self.even} else self.even

    def usual(self) -> list[int]:
        """Return sizes that one would expect: the even one, powers of two, multiples of 16."""
        found = {self.even} if self.even is not None else set()
        found |= {1 << bits for bits in range(self.high.bit_length()) if 1 << bits >= self.low}
        first = -(-self.low // _USUAL) * _USUAL
        found |= set(range(first, min(self.high, first + _USUAL * _SHOWN) + 1, _USUAL))
        return sorted(size for size in found if self.low <= size <= self.high)

    def show(self) -> str:
        """Return the sizes for messages.

        Examples
        --------
        >>> sizes_of(160, 2).show()
        '80, 96, 112, 128, 144 (any from 80 to 159)'
        >>> sizes_of(225, 10).show()
        'any from 23 to 24'
        """
        if (chosen := self.choose()) is not None:
            return str(chosen)
        every = f"any from {self.low} to {self.high}"
        usual = ", ".join(map(str, self.usual()[:_SHOWN]))
        return f"{usual} ({every})" if usual else every


def sizes_of(length: int, count: int) -> Sizes | None:
    """Return the sizes of ``count`` blocks over a length; None if it is too short.

    Examples
    --------
    >>> sizes_of(256, 8)
    Sizes(low=32, high=36, even=32)
    >>> sizes_of(2500012, 19532)
    Sizes(low=128, high=128, even=None)
    >>> sizes_of(10, 11) is None
    True
    """
    if not 1 <= count <= length:
        return None
    if count == 1:
        return Sizes(length, length, length)
    low, high = -(-length // count), (length - 1) // (count - 1)
    if low > high:
        return None
    return Sizes(low, high, low if length % count == 0 else None)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the shape of scales.

    Attributes
    ----------
    rows, values : Sizes
        The possible sizes of blocks.
    row_count, value_count : int
        Number of blocks that the rows, and the values of a row, are divided into.
    usual : bool
        Whether the shape is one of those in the table above.
    is_transposed : bool
        Whether the bytes would be in another order than they are read in.
    """

    rows: Sizes
    values: Sizes
    row_count: int
    value_count: int
    usual: bool = True
    is_transposed: bool = False

    @property
    def chosen(self) -> Blocks | None:
        """The blocks, if there is no doubt about them."""
        rows, values = self.rows.choose(), self.values.choose()
        if not self.usual or rows is None or values is None:
            return None
        return Blocks(rows, values, self.row_count, self.value_count)

    def fits(self, block: tuple[int, int]) -> bool:
        """Say whether blocks may have this size, and can be read."""
        return (
            not self.is_transposed
            and self.rows.low <= block[0] <= self.rows.high
            and self.values.low <= block[1] <= self.values.high
        )

    def show(self) -> str:
        """Return it for messages."""
        return f"rows {self.rows.show()} by values {self.values.show()}"


def find_blocks(
    what: str, rows: int, width: int, shape: tuple[int, ...], block: tuple[int, int] | None
) -> Blocks:
    """Return the blocks of scales.

    Parameters
    ----------
    what : str
        The scales and the table with their shapes, for messages.
    rows, width : int
        Rows of the table, and values of a row.
    shape : tuple of int
        Shape of the scales.
    block : tuple of two int, optional
        What ``scale_block`` says: the rows and the values of a block.

    Raises
    ------
    FormatError
        If the shape fits no blocks, not those of ``scale_block``, or several.
    """
    readings = readings_of(rows, width, shape)
    if not readings:
        raise FormatError(
            f"{what}: it fits neither the whole table, nor its rows, nor groups of a row, nor "
            "blocks of rows"
        )
    if block is not None:
        block = min(block[0], max(rows, 1)), min(block[1], width)
        for reading in readings:
            if reading.fits(block):
                return Blocks(*block, reading.row_count, reading.value_count)
        expected = [-(-rows // block[0]), -(-width // block[1])]
        raise FormatError(
            f"{what}: with {option('scale_block', block)}, its shape would be {expected}"
        )
    chosen = readings[0].chosen
    if chosen is not None and len(readings) == 1:
        return chosen
    possible = "; or ".join(reading.show() for reading in readings)
    raise FormatError(
        f"{what}: it is in doubt which numbers share a scale. Blocks may have {possible}. Give "
        f"{either('scale_block=(rows, values)', '--scale-block ROWS VALUES')}, or "
        f"{option('scale', None)} for none"
    )


def readings_of(rows: int, width: int, shape: tuple[int, ...]) -> list[Reading]:
    """Return all ways to read the shape of scales.

    Examples
    --------
    >>> [reading.show() for reading in readings_of(1000, 256, (1000, 8))]
    ['rows 1 by values 32']
    >>> [reading.show() for reading in readings_of(64, 64, (64,))]
    ['rows 1 by values 64', 'rows 64 by values 1']
    """
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    whole, whole_row, one = _only(max(rows, 1)), _only(width), _only(1)
    if len(shape) > 2 or (rows and 0 in shape):
        return []
    if all(length == 1 for length in shape):
        return [Reading(whole, whole_row, 1, 1)]
    if len(shape) == 1:
        (count,) = shape
        if count == rows:
            found = [Reading(one, whole_row, count, 1)]
        else:
            found = [
                *_blocks(sizes_of(rows, count), whole_row, count, 1),
                *_blocks(whole, sizes_of(width, count), 1, count, usual=False),
            ]
        # A scale for each column.
        if count == width == rows:
            found.append(Reading(whole, one, 1, count))
        return found
    row_count, value_count = shape
    row_sizes = one if row_count == rows else sizes_of(rows, row_count)
    found = _blocks(row_sizes, sizes_of(width, value_count), row_count, value_count)
    # The scales of rows, but transposed.
    if value_count == rows != row_count and (groups := sizes_of(width, row_count)) is not None:
        swapped = row_count > 1
        found.append(Reading(one, groups, rows, row_count, usual=False, is_transposed=swapped))
    if value_count == 1 and row_count == width != rows:  # Those of columns, but transposed.
        found.append(Reading(whole, one, 1, width, usual=False))
    return found


def _only(size: int) -> Sizes:
    return Sizes(size, size, size)


def _blocks(
    rows: Sizes | None,
    values: Sizes | None,
    row_count: int,
    value_count: int,
    *,
    usual: bool = True,
) -> list[Reading]:
    if rows is None or values is None:
        return []
    return [Reading(rows, values, row_count, value_count, usual)]
