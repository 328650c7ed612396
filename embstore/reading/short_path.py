"""The short path: lookups of a few ids, or of one, whose rows are expected in RAM.

NumPy gathers 16 rows in 2 to 3 us, so each further step counts. Only four are left: check, number,
gather, note. All that they need is bound to local names. Unless all rows were preloaded, one touch
of the first row, between two looks at the clock, tells whether rows are cold; then the general path
continues.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embstore.reading.gather import GridGather
from embstore.reading.results import as_out
from embstore.reading.stats import NOTED_AT_ONCE
from embstore.reading.warmth import READ_SECONDS, READS_SECONDS
from embstore.table.addresses import PAGE_BYTES
from embstore.table.ids import as_ids
from embstore.table.numbering import rows_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.mapped import MappedRecords
    from embstore.table.numbering import Numbering

    Few = Callable[[NDArray[np.int64], NDArray[Any] | None], NDArray[Any]]

# Up to this many rows, the steps around the gather take a large part of a lookup's time.
FEW_ROWS = 512
# Larger results are shared by several threads, and their memory is reused.
FEW_BYTES = 512 << 10
# Longer rows are announced when they are cold: their pages would be read one after the other.
MAX_ONE_BYTES = 4 * PAGE_BYTES

_UINT64 = np.dtype(np.uint64)


class ShortPath(NamedTuple):
    """The two functions of the short path.

    Attributes
    ----------
    one : callable or None
        Returns the row of one id, an int in range. None if these records have no short path.
    few : callable or None
        Returns the rows of ids, an int64 ndarray of any shape with 1 to ``most`` elements, given
        these and ``out`` or None; as `EmbeddingStore.lookup`.
    most : int
        The most ids for ``few``.
    """

    one: Callable[[int], NDArray[Any]] | None = None
    few: Few | None = None
    most: int = 0


NO_SHORT_PATH = ShortPath()


def short_path(records: MappedRecords, numbering: Numbering) -> ShortPath:
    """Return the short path to the rows of a table."""
    table, row_bytes = records.table, records.addresses.record_bytes
    if table is None or not isinstance(records.gather, GridGather) or row_bytes > MAX_ONE_BYTES:
        return NO_SHORT_PATH
    most = min(FEW_BYTES // row_bytes, FEW_ROWS)
    of = records, records.gather, table, numbering
    return ShortPath(_one(*of), _few(*of), most)


def _few(
    records: MappedRecords, gather: GridGather, table: NDArray[Any], numbering: Numbering
) -> Few:
    dtype, row_shape, row_bytes = table.dtype, table.shape[1:], records.addresses.record_bytes
    rows, spots_of, scalars = numbering.rows, _spots_of(gather, numbering), not row_shape
    take, take_spots, first_bytes = table.take, records.take_spots, gather.data.data
    preloaded = records.preloaded  # Then only a slow gather tells of pages that were dropped.
    warmth, noted, sum_up = records.warmth, records.stats.short, records.stats.sum_up
    touch_all, touched_rows = gather.touch, records.slices.touched_rows
    clock, empty, ndarray, unsigned_dtype = perf_counter, np.empty, np.ndarray, _UINT64

    def is_warm(spot: int, start: float) -> bool:
        first_bytes[spot * row_bytes]
        return clock() - start < READ_SECONDS

    def few(ids: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        # As an unsigned number, a negative id is a huge one. argmax takes a quarter of max's time.
        unsigned = ids.view(unsigned_dtype)
        if unsigned.item(unsigned.argmax()) >= rows:
            as_ids(ids, rows)  # Raises.
        if out is None:
            out = empty(ids.shape + row_shape, dtype)
        elif not (type(out) is ndarray and out.dtype is dtype and out.flags.carray):
            as_out(out, ids.shape + row_shape, dtype)
        if spots_of is not None:
            spots = spots_of(ids)
        elif scalars or ids.base is not None or out.base is not None:
            spots = ids.copy()  # `out` may overlap them; asking takes longer.
        else:
            spots = ids
        probed_bytes = 0
        if not warmth.cold:
            start = clock()
            if preloaded or is_warm(spots.item(0), start):
                if ids.size >= touched_rows:
                    touch_all(spots)
                try:
                    take(spots, 0, out, "clip")
                except ValueError:  # Only for a wrong shape.
                    as_out(out, ids.shape + row_shape, dtype)
                    raise
                seconds = clock() - start
                noted.append((ids.size, seconds))
                if seconds > READS_SECONDS:
                    warmth.note_slow(ids.size, seconds)
                if len(noted) >= NOTED_AT_ONCE:
                    sum_up()
                return out
            warmth.chill()
            probed_bytes = PAGE_BYTES
        as_out(out, ids.shape + row_shape, dtype)
        take_spots(spots.reshape(-1), out.reshape(-1, *row_shape), probed_bytes)
        return out

    return few


def _spots_of(
    gather: GridGather, numbering: Numbering
) -> Callable[[NDArray[np.int64]], NDArray[np.int64]] | None:
    """Return the function from ids to new spots; None if they are the same numbers."""
    rows_of = rows_function(numbering) if numbering.partition_count > 1 else None
    spots_of = gather.spots if gather.has_gaps else None
    if rows_of is None or spots_of is None:
        return rows_of or spots_of
    return lambda ids: spots_of(rows_of(ids))


def _one(
    records: MappedRecords, gather: GridGather, table: NDArray[Any], numbering: Numbering
) -> Callable[[int], NDArray[Any]]:
    row_of, spot_of = numbering.row_of, gather.spot
    note, noted = records.stats.add, records.stats.short
    clock, read_bytes = perf_counter, -(-records.addresses.record_bytes // PAGE_BYTES) * PAGE_BYTES

    def one(number: int) -> NDArray[Any]:
        start = clock()
        row: NDArray[Any] = table[spot_of(row_of(number))].copy()
        seconds = clock() - start
        if seconds < READ_SECONDS and len(noted) < NOTED_AT_ONCE:
            noted.append((1, seconds))
        else:
            cold = seconds > READ_SECONDS
            note(1, cold * read_bytes, cold, not cold, seconds)
        return row

    return one
