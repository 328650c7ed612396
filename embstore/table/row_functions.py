"""Functions from ids to rows in the columns, for lookups of a few ids, in few NumPy calls.

1. `rows_function` does what `Numbering.rows_of` does. It does not check ids.
2. `checked_rows_function` also refuses ids that the table does not have, by a bare IndexError;
   `refuse` then raises the error for the caller.

NumPy takes 0.3 to 1 us for any call on a few numbers, so the number of calls decides. Most of its
functions also release the GIL for arrays of any length, and each time another thread may take it.
So a few ids are checked by what keeps the GIL: an index into an array of as many elements as the
table has rows, all of which are one byte in memory, finds ids past the end, and their highest bytes
find negative ones.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from embstore.errors import IdRangeError
from embstore.table.ids import as_ids
from embstore.table.numbering import Numbering, scalar

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    RowsFunction = Callable[[NDArray[np.int64]], NDArray[np.int64]]

# Up to this many ids, the number of NumPy calls decides.
FEW_IDS = 512
# Searching takes some nanoseconds for each id and each halving, arithmetic 2 us.
SEARCH_STEPS = 600
# Up to this many ids, an index and a scan of bytes take no longer than argmax, or little longer.
INDEXED_IDS = 256

_UINT64 = np.dtype(np.uint64)
_HIGHEST_BYTES = slice(7 if sys.byteorder == "little" else 0, None, 8)


def rows_function(numbering: Numbering) -> RowsFunction:
    """Return the fastest function that does what `Numbering.rows_of` does.

    ``div`` moves the ids of a partition up by the same number, which is looked up.

    ``mod`` transposes a matrix: ids fill it row by row, with a column for each partition, and the
    table's columns hold it column by column. So the row of an id is
    ``id * distance % (P * distance - 1)``, for all ids but that of the very last place: two NumPy
    calls instead of four. Source: P. F. Windley, "Transposing matrices in a digital computer", The
    Computer Journal 2 (1959).
    """
    count, distance = numbering.partition_count, numbering.distance
    # Of another class, that of a part of a table, which checks where ids are.
    if count == 1 or type(numbering) is not Numbering:
        return numbering.rows_of
    if numbering.strategy == "div":
        return _rows_by_search(numbering, checked=False)
    is_power = count & (count - 1) == 0
    rows_of = _rows_by_shifts(count, distance) if is_power else numbering.rows_of
    if numbering.rows >= count * distance or numbering.rows * distance >= 1 << 63:
        return rows_of
    factor, modulus = scalar(distance), scalar(count * distance - 1)

    def rows_of_few(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if ids.size > FEW_IDS:
            return rows_of(ids)
        rows = ids * factor
        rows %= modulus
        return rows

    return rows_of_few


def checked_rows_function(numbering: Numbering) -> RowsFunction:
    """Return the fastest function that checks ids and does what `Numbering.rows_of` does.

    Given int64 ids of any shape, it returns their rows, or the ids themselves where these are the
    rows. It raises IndexError if the table does not have one of them.

    Examples
    --------
    >>> checked_rows_function(Numbering(13, 5, "div"))(np.array([3, 12])).tolist()
    [3, 13]
    """
    check = _check_function(numbering.rows)
    if numbering.partition_count == 1:
        return check
    if numbering.strategy == "div" and type(numbering) is Numbering:
        return _rows_by_search(numbering, checked=True)
    rows_of = rows_function(numbering)
    return lambda ids: rows_of(check(ids))


def refuse(ids: NDArray[np.int64], rows: int, error: IndexError) -> NoReturn:
    """Raise the error for ids that a checked function refused with ``error``."""
    try:
        as_ids(ids, rows)
    except IdRangeError as told:
        raise told from None
    raise error  # It has its own words, such as those for a partition that is elsewhere.


def are_negative(ids: NDArray[np.int64]) -> bool:
    """Return whether one of a few ids is below 0, without giving up the GIL.

    Examples
    --------
    >>> are_negative(np.array([[5, 1 << 60]])), are_negative(np.array([5, -1]))
    (False, True)
    """
    return not ids.tobytes()[_HIGHEST_BYTES].isascii()


def _check_function(rows: int) -> RowsFunction:
    """Return the function that returns ids if all are in ``0 .. rows - 1``, else raises."""
    places = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (rows,), (0,), writeable=False)

    def check(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if ids.size <= INDEXED_IDS:
            places[ids]
            if not are_negative(ids):
                return ids
        else:
            # As an unsigned number, a negative id is a huge one. argmax is faster than max.
            unsigned = ids.view(_UINT64)
            if unsigned.item(unsigned.argmax()) < rows:
                return ids
        raise IndexError("an id is out of range")

    return check


def _rows_by_search(numbering: Numbering, *, checked: bool) -> RowsFunction:
    """Return the function for ``div``: for a few ids, three NumPy calls instead of ten.

    As unsigned numbers, ids that the table does not have are behind the end of the last partition;
    so the search finds them, and the index into ``moves`` raises.
    """
    count = numbering.partition_count
    starts = [numbering.ids_of(partition).start for partition in range(count)]
    moves = np.arange(count) * numbering.distance - starts
    search = np.array([*starts[1:], numbering.rows], _UINT64).searchsorted
    most = min(SEARCH_STEPS // (count - 1).bit_length(), FEW_IDS)
    check = _check_function(numbering.rows) if checked else None
    partition_of = _partition_function(numbering)

    def rows_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if ids.size <= most:
            partition = search(ids.view(_UINT64), "right")
        else:
            partition = partition_of(ids if check is None else check(ids))
        rows: NDArray[np.int64] = moves[partition]
        rows += ids
        return rows

    return rows_of


def _partition_function(numbering: Numbering) -> RowsFunction:
    """Return the first half of `Numbering.locate` for ``div``, with the constants at hand."""
    base, extra = divmod(numbering.rows, numbering.partition_count)
    long, skipped, short = scalar(base + 1), scalar(extra), scalar(max(base, 1))

    def partition_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if extra == 0:
            return ids // short
        partition = ids - skipped
        partition //= short
        np.maximum(partition, ids // long, out=partition)
        return partition

    return partition_of


def _rows_by_shifts(count: int, distance: int) -> RowsFunction:
    """Return `Numbering.rows_of` for a power of two of partitions, with the constants at hand."""
    mask, shift, factor = scalar(count - 1), scalar(count.bit_length() - 1), scalar(distance)

    def rows_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = ids & mask
        rows *= factor
        rows += ids >> shift
        return rows

    return rows_of
