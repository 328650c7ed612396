"""The short path of encoded tables: a few ids, or one, whose records are expected in RAM.

As `embstore.reading.short_path`, with two more steps: the records of every column are gathered into
new arrays, and decoded into the result. One row is decoded from the mapping itself.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import as_dtype
from embstore.reading.decoded_slices import row_bytes
from embstore.reading.gather import AddressGather, GridGather
from embstore.reading.results import as_out
from embstore.reading.short_path import (
    FEW_BYTES,
    FEW_ROWS,
    MAX_ONE_BYTES,
    NO_SHORT_PATH,
    ShortPath,
    settle_function,
)
from embstore.reading.stats import NOTED_AT_ONCE
from embstore.reading.warmth import READ_SECONDS, READS_SECONDS, have_faulted
from embstore.table.addresses import PAGE_BYTES
from embstore.table.numbering import scalar
from embstore.table.row_functions import checked_rows_function, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.encoded import EncodedRecords
    from embstore.reading.mapped import MappedRecords
    from embstore.reading.short_path import Warm
    from embstore.table.numbering import Numbering


def encoded_short_path(
    records: EncodedRecords, numbering: Numbering, dtype: np.dtype[Any], others: tuple[str, ...]
) -> ShortPath:
    """Return the short path to rows of a table, decoded to a dtype.

    Parameters
    ----------
    records : EncodedRecords
        The rows.
    numbering : Numbering
        The table's numbering.
    dtype : numpy.dtype
        Dtype of a new result.
    others : tuple of str
        Names of further dtypes that a given result may have.
    """
    columns = [column for column in records.columns if column.mapped]
    gathers = [column.gather for column in columns]
    plain = all(isinstance(gather, GridGather | AddressGather) for gather in gathers)
    limited = any(column.slices.limit is not None for column in columns)
    if not columns or not plain or limited or records.encoding.record_bytes > MAX_ONE_BYTES:
        return NO_SHORT_PATH
    most = min(FEW_BYTES // row_bytes(records.encoding), FEW_ROWS)
    return ShortPath(
        _one(records, columns, numbering, dtype),
        _few(records, columns, numbering, dtype, others),
        most,
        _warm(records, columns, numbering, dtype),
    )


def _few(
    records: EncodedRecords,
    columns: list[MappedRecords],
    numbering: Numbering,
    dtype: np.dtype[Any],
    others: tuple[str, ...],
) -> Callable[[NDArray[np.int64], NDArray[Any] | None], NDArray[Any]]:
    row_shape, rows = records.encoding.row_shape, numbering.rows
    # By identity: NumPy takes long to hash or compare dtypes.
    dtypes = {id(one) for one in (dtype, *map(as_dtype, others))}
    rows_of = checked_rows_function(numbering)
    takes = [_take(*pair) for pair in zip(columns, records.shares, strict=True)]
    is_warm, probed = _is_warm(records, columns), len(columns) * PAGE_BYTES
    decode, take_rows, preloaded = records.encoding.decode, records.take, records.preloaded
    warmth, noted = records.warmth, records.stats.short
    settle = settle_function(warmth, records.stats)
    clock, empty, ndarray = perf_counter, np.empty, np.ndarray

    def few(ids: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        try:
            found = rows_of(ids)
        except IndexError as error:
            refuse(ids, rows, error)
        shape = ids.shape + row_shape
        if out is None:
            out = empty(shape, dtype)
        elif not (
            type(out) is ndarray
            and id(out.dtype) in dtypes
            and out.flags.carray
            and out.shape == shape
        ):
            as_out(out, shape, dtype, others)
        flat = out
        if ids.ndim != 1:
            found, flat = found.reshape(-1), out.reshape(-1, *row_shape)
        probed_bytes = 0
        if not warmth.cold:
            start = clock()
            if preloaded or is_warm(found.item(0)):
                decode(tuple([take(found) for take in takes]), flat)
                seconds = clock() - start
                noted.append((ids.size, seconds))
                if seconds > READS_SECONDS or len(noted) >= NOTED_AT_ONCE:
                    settle(ids.size, seconds)
                return out
            warmth.chill()
            probed_bytes = probed
        take_rows(found.copy(), flat, probed_bytes)  # A copy: `out` may overlap the ids.
        return out

    return few


def _warm(
    records: EncodedRecords,
    columns: list[MappedRecords],
    numbering: Numbering,
    dtype: np.dtype[Any],
) -> Warm:
    row_shape, rows = records.encoding.row_shape, numbering.rows
    rows_of = checked_rows_function(numbering)
    takes = [_take(*pair) for pair in zip(columns, records.shares, strict=True)]
    decode, preloaded, is_warm = (
        records.encoding.decode,
        records.preloaded,
        _is_warm(records, columns),
    )
    warmth, noted = records.warmth, records.stats.short
    settle = settle_function(warmth, records.stats)
    clock, empty = perf_counter, np.empty

    def warm(ids: NDArray[np.int64]) -> NDArray[Any] | None:
        try:
            found = rows_of(ids).reshape(-1)
        except IndexError as error:
            refuse(ids, rows, error)
        if warmth.cold:
            return None
        start = clock()
        if not preloaded and not is_warm(found.item(0)):
            warmth.chill()
            return None
        out = empty(ids.shape + row_shape, dtype)
        flat = out if ids.ndim == 1 else out.reshape(-1, *row_shape)
        decode(tuple([take(found) for take in takes]), flat)
        seconds = clock() - start
        noted.append((ids.size, seconds))
        if seconds > READS_SECONDS or len(noted) >= NOTED_AT_ONCE:
            settle(ids.size, seconds)
        return out

    return warm


def _is_warm(records: EncodedRecords, columns: list[MappedRecords]) -> Callable[[int], bool]:
    """Return what touches the records of a row, and says whether they were in RAM."""
    touches = [_touch(*pair) for pair in zip(columns, records.shares, strict=True)]
    clock = perf_counter

    def is_warm(row: int) -> bool:
        start = clock()
        for touch in touches:
            touch(row)
        return clock() - start < READ_SECONDS or not have_faulted(1)

    return is_warm


def _take(column: MappedRecords, share: int) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
    """Return the function from rows to their records in a column, a new array."""
    gather, rows_per_record = column.gather, scalar(share)
    assert isinstance(gather, GridGather | AddressGather)
    spots_of, new = gather.spots, gather.new
    if share > 1:
        return lambda rows: new(spots_of(rows // rows_per_record))
    if isinstance(gather, GridGather) and not gather.has_gaps:
        return new
    return lambda rows: new(spots_of(rows))


def _touch(column: MappedRecords, share: int) -> Callable[[int], int]:
    """Return the function that touches the first byte of a row's record."""
    data, address_of, grid = column.data.data, column.addresses.of_one, column.addresses.grid
    if grid is not None and not grid.gap_rows:
        base, size = grid.base, column.record_bytes
        return lambda row: data[row // share * size + base]
    return lambda row: data[address_of(row // share)]


def _one(
    records: EncodedRecords,
    columns: list[MappedRecords],
    numbering: Numbering,
    dtype: np.dtype[Any],
) -> Callable[[int], NDArray[Any]]:
    row_of, encoding = numbering.row_of, records.encoding
    row_shape, decode = encoding.row_shape, encoding.decode
    several, warmth, take_one = len(columns) > 1, records.warmth, records.take_one
    fields = [
        (column.data, column.addresses.of_one, column.record_bytes, share)
        for column, share in zip(columns, records.shares, strict=True)
    ]
    note, noted = records.stats.add, records.stats.short
    clock, empty = perf_counter, np.empty
    read_bytes = sum(-(-size // PAGE_BYTES) * PAGE_BYTES for _, _, size, _ in fields)

    def one(number: int) -> NDArray[Any]:
        start = clock()
        row, found, out = row_of(number), [], empty(row_shape, dtype)
        if several and warmth.cold:  # To read all columns at once.
            return take_one(row)
        for data, address_of, size, share in fields:
            address = address_of(row // share)
            found.append(data[address : address + size][None])
        decode(tuple(found), out[None])
        seconds = clock() - start
        if seconds < READ_SECONDS and len(noted) < NOTED_AT_ONCE:
            noted.append((1, seconds))
        else:
            cold = seconds > READ_SECONDS
            if several and cold:
                warmth.chill()
            note(1, cold * read_bytes, cold, not cold, seconds)
        return out

    return one
