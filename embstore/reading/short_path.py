"""The short path: lookups of a few ids, or of one, whose rows are expected in RAM.

NumPy gathers 16 rows in 2 to 3 us, so each further step counts. Only four are left: check, number,
gather, note. All that they need is bound to local names. Unless all rows were preloaded, one touch
of the first row, between two looks at the clock, tells whether rows are cold; then the general path
continues.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embstore.reading.gather import GridGather
from embstore.reading.held import HELD_BYTES, held_function
from embstore.reading.joint import JointTable, joint_table
from embstore.reading.results import as_out
from embstore.reading.stats import NOTED_AT_ONCE
from embstore.reading.warmth import READ_SECONDS, READS_SECONDS, have_faulted
from embstore.table.addresses import PAGE_BYTES
from embstore.table.numbering import Numbering
from embstore.table.row_functions import are_negative, checked_rows_function, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.mapped import MappedRecords
    from embstore.reading.stats import StatsCounter
    from embstore.reading.warmth import Warmth

    Warm = Callable[[NDArray[np.int64]], NDArray[Any] | None]
    Few = Callable[[NDArray[np.int64], NDArray[Any] | None], NDArray[Any]]

# Up to this many rows, the steps around the gather take a large part of a lookup's time.
FEW_ROWS = 512
# Larger results are shared by several threads, and their memory is reused.
FEW_BYTES = 512 << 10
# Longer rows are announced when they are cold: their pages would be read one after the other.
MAX_ONE_BYTES = 4 * PAGE_BYTES

# The spots of a table of at most LISTED_ROWS rows are listed after LISTED_CALLS calls. The list
# takes at most 8 MiB.
LISTED_ROWS = 1 << 20
LISTED_CALLS = 1000

# A lookup keeps the GIL if this many others gather, or wait for the GIL afterwards.
CROWD = 2
# One item for each thread that gathers, or waits for the GIL afterwards.
gathering: list[None] = []
os.register_at_fork(after_in_child=gathering.clear)


class ShortPath(NamedTuple):
    """The functions of the short path.

    Attributes
    ----------
    one : callable or None
        Returns the row of one id, an int in range. None if these records have no short path.
    few : callable or None
        Returns the rows of ids, an int64 ndarray of any shape with 1 to ``most`` elements, given
        these and ``out`` or None; as `EmbeddingStore.lookup`.
    most : int
        The most ids for ``few`` and ``warm``.
    warm : callable or None
        As ``few`` without ``out``, but returns None instead of rows that are not expected in RAM.
    joint : JointTable or None
        For gathers from several tables; see `embstore.reading.joint`.
    """

    one: Callable[[int], NDArray[Any]] | None = None
    few: Few | None = None
    most: int = 0
    warm: Warm | None = None
    joint: JointTable | None = None


NO_SHORT_PATH = ShortPath()


def short_path(records: MappedRecords, numbering: Numbering) -> ShortPath:
    """Return the short path to the rows of a table."""
    table, row_bytes = records.table, records.addresses.record_bytes
    if table is None or not isinstance(records.gather, GridGather) or row_bytes > MAX_ONE_BYTES:
        return NO_SHORT_PATH
    most = min(FEW_BYTES // row_bytes, FEW_ROWS)
    of = records, records.gather, table, numbering
    settle = settle_function(records.warmth, records.stats)
    joint = joint_table(records, records.gather, numbering, most, settle)
    return ShortPath(_one(*of), _few(*of), most, _warm(*of), joint)


def _few(
    records: MappedRecords, gather: GridGather, table: NDArray[Any], numbering: Numbering
) -> Few:
    dtype, row_shape, row_bytes = table.dtype, table.shape[1:], records.addresses.record_bytes
    rows, spots_of, scalars = numbering.rows, _spots_of(gather, numbering), not row_shape
    take, take_spots = _take_function(records, gather, table), records.take_spots
    held, held_ids = held_function(gather, table, spots_of), HELD_BYTES // row_bytes
    preloaded = records.preloaded  # Then only a slow gather tells of pages that were dropped.
    warmth, noted = records.warmth, records.stats.short
    settle = settle_function(warmth, records.stats)
    clock, empty, is_warm = perf_counter, np.empty, _is_warm(gather, row_bytes)

    def few(ids: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        try:
            if len(gathering) >= CROWD and ids.size <= held_ids and not warmth.cold:
                start = clock()
                found, seconds = held(ids, out), clock() - start
                noted.append((ids.size, seconds))
                settle(ids.size, seconds)
                return found
            spots = spots_of(ids)
        except IndexError as error:
            refuse(ids, rows, error)
        if out is not None:
            if not (out.dtype is dtype and out.flags.carray):
                as_out(out, ids.shape + row_shape, dtype)
            if spots is ids and (scalars or ids.base is not None or out.base is not None):
                spots = ids.copy()  # `out` may overlap them; asking takes longer.
        probed_bytes = 0
        if not warmth.cold:
            start = clock()
            if preloaded or is_warm(spots.item(0)):
                try:
                    found = take(spots, out)
                except ValueError:  # Only for a wrong shape.
                    as_out(out, ids.shape + row_shape, dtype)
                    raise
                seconds = clock() - start
                noted.append((ids.size, seconds))
                if seconds > READS_SECONDS or len(noted) >= NOTED_AT_ONCE:
                    settle(ids.size, seconds)
                return found
            warmth.chill()
            probed_bytes = PAGE_BYTES
        if out is None:
            out = empty(ids.shape + row_shape, dtype)
        as_out(out, ids.shape + row_shape, dtype)
        take_spots(spots.reshape(-1), out.reshape(-1, *row_shape), probed_bytes)
        return out

    def few_numbers(ids: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        # Given no `out`, NumPy would return a number for an id that is one.
        return few(ids, empty(ids.shape, dtype) if out is None else out)

    return few if row_shape else few_numbers


def _warm(
    records: MappedRecords, gather: GridGather, table: NDArray[Any], numbering: Numbering
) -> Warm:
    dtype, row_shape, row_bytes = table.dtype, table.shape[1:], records.addresses.record_bytes
    rows, spots_of = numbering.rows, _spots_of(gather, numbering)
    take, preloaded = _take_function(records, gather, table), records.preloaded
    warmth, noted = records.warmth, records.stats.short
    settle = settle_function(warmth, records.stats)
    clock, empty, is_warm = perf_counter, np.empty, _is_warm(gather, row_bytes)

    def warm(ids: NDArray[np.int64]) -> NDArray[Any] | None:
        try:
            spots = spots_of(ids)
        except IndexError as error:
            refuse(ids, rows, error)
        if warmth.cold:
            return None
        start = clock()
        if not preloaded and not is_warm(spots.item(0)):
            warmth.chill()
            return None
        out = None if row_shape else empty(ids.shape, dtype)
        found = take(spots, out)
        seconds = clock() - start
        noted.append((ids.size, seconds))
        if seconds > READS_SECONDS or len(noted) >= NOTED_AT_ONCE:
            settle(ids.size, seconds)
        return found

    return warm


def _is_warm(gather: GridGather, row_bytes: int) -> Callable[[int], bool]:
    """Return what touches the row at a spot, and says whether it was in RAM."""
    first_bytes, clock = gather.data.data, perf_counter

    def is_warm(spot: int) -> bool:
        start = clock()
        first_bytes[spot * row_bytes]
        return clock() - start < READ_SECONDS or not have_faulted(1)

    return is_warm


def _spots_of(
    gather: GridGather, numbering: Numbering
) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Return the function that checks ids and returns their spots; these may be the ids."""
    rows_of, spots_of = checked_rows_function(numbering), gather.spots
    by_steps = (lambda ids: spots_of(rows_of(ids))) if gather.has_gaps else rows_of
    is_identity = numbering.partition_count == 1 and not gather.has_gaps
    if is_identity or type(numbering) is not Numbering or numbering.rows > LISTED_ROWS:
        return by_steps
    return _listed(by_steps, numbering.rows)


def _listed(
    by_steps: Callable[[NDArray[np.int64]], NDArray[np.int64]], rows: int
) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Return a function that takes spots from a list of all, once it was called often.

    Each step of the arithmetic is a NumPy call: some 0.3 us, and where ids are some hundred, it
    gives up the GIL.
    """
    calls = 0
    spots: NDArray[np.int64] | None = None

    def spots_of(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        nonlocal calls, spots
        if spots is None:
            calls += 1
            if calls < LISTED_CALLS:
                return by_steps(ids)
            spots = by_steps(np.arange(rows))
        if are_negative(ids):
            raise IndexError("an id is negative")
        found: NDArray[np.int64] = spots[ids]
        return found

    return spots_of


def _take_function(records: MappedRecords, gather: GridGather, table: NDArray[Any]) -> Few:
    """Return the gather, which touches long rows first.

    Not while another thread gathers: the cache misses of two gathers overlap anyway, and with each
    NumPy call more, threads wait more often for the GIL.
    """
    touch, touched_rows, take_rows = gather.touch, records.slices.touched_rows, table.take
    enter, leave = gathering.append, gathering.pop

    def take(spots: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        if spots.size >= touched_rows and not gathering:
            touch(spots)
        enter(None)
        try:
            return take_rows(spots, 0, out, "clip")
        finally:
            leave()

    return take


def settle_function(warmth: Warmth, stats: StatsCounter) -> Callable[[int, float], None]:
    """Return what follows a lookup of some rows that was slow, or whose notes are many."""
    noted, sum_up = stats.short, stats.sum_up

    def settle(row_count: int, seconds: float) -> None:
        if seconds > READS_SECONDS:
            warmth.note_slow(row_count, seconds)
        if len(noted) >= NOTED_AT_ONCE:
            sum_up()

    return settle


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
