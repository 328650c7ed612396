"""Joint gathers: a few rows of each of several tables that are in RAM, by one NumPy call for all.

A lookup of 16 rows is ten NumPy calls, of which each takes longer than the copying. Of 26
tables, these would be 260. Here the ids of all tables are one array, and so are the numbers that
tell how to find a row: the arithmetic of numberings and grids is done once.

1. `JointTable` holds what is to be known of one table. A store has one, if all its rows are on a
   grid in a mapping that stays as it is.
2. `JointPlan` is made for a sequence of tables and used again. It refers to them weakly: the caller
   holds them while it gathers, so their mappings stay.
3. The gather indexes an array that starts at the lowest mapping and ends after the highest, and has
   an item at every byte. Addresses come from ids that were checked, so those between the mappings
   are never read.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from embstore.reading.stats import NOTED_AT_ONCE
from embstore.reading.warmth import READ_SECONDS, READS_SECONDS, have_faulted
from embstore.table.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.reading.gather import GridGather
    from embstore.reading.mapped import MappedRecords
    from embstore.reading.warmth import Warmth

# Larger gathers are worth threads, and pooled memory.
JOINT_BYTES = 1 << 20
NO_DIVISOR = 1 << 62  # Larger than any row: what is divided by it is 0, or stays as it is.

_UINT64 = np.dtype(np.uint64)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class JointTable:
    """What a joint gather has to know of one table.

    Attributes
    ----------
    data : ndarray of uint8
        The mapping; kept, so that it stays.
    dtype, row_shape : numpy.dtype, tuple of int
        Those of its rows.
    most, record_bytes : int
        The most ids in a call, and the size of a row.
    numbers : tuple of int
        What finds the address of a row: see `JointGroup`.
    warmth, preloaded
        Of the records.
    noted, settle
        Counts lookups; see `embstore.reading.short_path.settle_function`.
    """

    data: NDArray[np.uint8]
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    most: int
    record_bytes: int
    numbers: tuple[int, ...]
    warmth: Warmth
    preloaded: bool
    noted: list[tuple[int, float]]
    settle: Callable[[int, float], None]


def joint_table(
    records: MappedRecords,
    gather: GridGather,
    numbering: Numbering,
    most: int,
    settle: Callable[[int, float], None],
) -> JointTable | None:
    """Return what a joint gather has to know of a table; None if it cannot be part of one."""
    table, count, distance = records.table, numbering.partition_count, numbering.distance
    rows, grid = numbering.rows, records.addresses.grid
    if table is None or grid is None or type(numbering) is not Numbering:
        return None
    factor, modulus, short, extra, move = 1, NO_DIVISOR, NO_DIVISOR - 1, 0, 0
    if count > 1 and numbering.strategy == "mod":
        # See `embstore.table.row_functions.rows_function`.
        factor, modulus = distance, count * distance - 1
        if rows > modulus or rows * distance >= NO_DIVISOR:
            return None
    elif count > 1:
        short, extra = divmod(rows, count)
        move = distance - short
        if short == 0:
            return None
    unit_shift, gap_bytes = grid.unit_rows.bit_length() - 1, grid.gap_rows * records.record_bytes
    numbers = (
        rows, factor, modulus, short, extra, move, unit_shift, gap_bytes, gather.data.ctypes.data,
    )  # fmt: skip
    return JointTable(
        gather.data,
        table.dtype,
        table.shape[1:],
        most,
        records.record_bytes,
        numbers,
        records.warmth,
        records.preloaded,
        records.stats.short,
        settle,
    )


class JointPlan:
    """A joint gather from a sequence of tables.

    Parameters
    ----------
    tables : sequence of JointTable
        Its tables, one for each array of ids; repeats allowed.
    """

    def __init__(self, tables: Sequence[JointTable]) -> None:
        self._refs = [ref(table) for table in tables]
        alike: dict[Any, list[int]] = {}
        for at, table in enumerate(tables):
            alike.setdefault((table.dtype, table.row_shape), []).append(at)
        self._groups = [
            JointGroup([tables[at] for at in places], places) for places in alike.values()
        ]

    def is_for(self, tables: list[JointTable]) -> bool:
        """Say whether it was made for these tables."""
        return [made() for made in self._refs] == tables

    def take(
        self, tables: list[JointTable], batches: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[Any]] | None:
        """Return the rows of each array of ids; None if some may be cold, or an id is out of range.

        Parameters
        ----------
        tables : list of JointTable
            The plan's.
        batches : sequence of ndarray of int64
            An array of ids for each, with one id or more.
        """
        if len(self._groups) == 1:
            return self._groups[0].take(tables, batches)
        found: list[Any] = [None] * len(tables)
        for group in self._groups:
            places = group.places
            some = group.take([tables[at] for at in places], [batches[at] for at in places])
            if some is None:
                return None
            for at, rows in zip(places, some, strict=True):
                found[at] = rows
        return found


class JointGroup:
    """A joint gather from tables whose rows have one dtype and one shape.

    An id has the row ``id * factor % modulus`` under ``mod``. Under ``div`` its partition is the
    larger one of ``id // (short + 1)`` and ``(id - extra) // short``, and its row
    ``id + partition * move - min(partition, extra)``. What a table does not need leaves its ids
    as they are. Row ``r`` is at the address ``r * record_bytes + (r >> unit_shift) * gap_bytes``,
    counted from ``start``.

    Parameters
    ----------
    tables : sequence of JointTable
        The tables.
    places : list of int
        Their places in the plan.
    """

    def __init__(self, tables: Sequence[JointTable], places: list[int]) -> None:
        self.places = places
        self._dtype, self._row_shape = tables[0].dtype, tables[0].row_shape
        size = self._dtype.itemsize * int(np.prod(self._row_shape, dtype=np.int64))
        self._record_bytes = np.array(size)
        numbers = np.array([table.numbers for table in tables], np.int64).T
        first = int(numbers[-1].min())
        numbers[-1] -= first
        stop = max(table.numbers[-1] + len(table.data) for table in tables) - first
        self._is_mod = bool((numbers[1] != 1).any())
        self._is_div = bool((numbers[5] != 0).any())
        self._has_gaps = bool((numbers[7] != 0).any())
        self._numbers = numbers
        # An array over memory that it does not own: else it would keep the lowest mapping.
        memory = (ctypes.c_uint8 * stop).from_address(first)
        self._bytes = memoryview(memory).cast("B")
        dtype = np.dtype((np.void, size))
        self._records: NDArray[Any] = np.ndarray((stop - size + 1,), dtype, memory, strides=(1,))
        # For the sizes of the last call; bound together, because threads share the plan.
        self._spread: tuple[list[int], tuple[Any, ...]] = ([], ())

    def take(
        self, tables: Sequence[JointTable], batches: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[Any]] | None:
        """Return the rows of each array of ids; None as `JointPlan.take`."""
        sizes = [ids.size for ids in batches]
        numbers = self._numbers_of(sizes)
        shapes = {ids.shape for ids in batches}
        if len(shapes) > 1 or batches[0].ndim != 1:
            flat = np.concatenate([ids.reshape(-1) for ids in batches])
        else:
            flat = np.concatenate(batches)
        if np.count_nonzero(flat.view(_UINT64) >= numbers[0]):
            return None
        addresses = self._addresses(flat, numbers)
        start = perf_counter()
        if not self._are_warm(tables, addresses[numbers[-1]].tolist(), start):
            return None
        rows = self._records[addresses].view(self._dtype)
        seconds = (perf_counter() - start) / len(tables)
        for table, size in zip(tables, sizes, strict=True):
            table.noted.append((size, seconds))
            if seconds > READS_SECONDS or len(table.noted) >= NOTED_AT_ONCE:
                table.settle(size, seconds)
        if len(shapes) == 1:
            return list(rows.reshape(len(batches), *batches[0].shape, *self._row_shape))
        rows = rows.reshape(len(flat), *self._row_shape)
        firsts = numbers[-1].tolist()
        return [
            rows[first : first + size].reshape(ids.shape + self._row_shape)
            for ids, first, size in zip(batches, firsts, sizes, strict=True)
        ]

    def _numbers_of(self, sizes: list[int]) -> tuple[Any, ...]:
        """Return the numbers for each id, and the places of the tables' first ids."""
        known, numbers = self._spread
        if known != sizes:
            rows, *others = np.repeat(self._numbers, sizes, 1)
            firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
            numbers = rows.view(_UINT64), *others, firsts
            self._spread = sizes, numbers
        return numbers

    def _addresses(self, ids: NDArray[np.int64], numbers: tuple[Any, ...]) -> NDArray[np.int64]:
        _, factor, modulus, short, extra, move, unit_shift, gap_bytes, starts, _ = numbers
        if self._is_mod:
            ids = ids * factor
            ids %= modulus
        if self._is_div:
            partition = np.maximum(ids // (short + 1), (ids - extra) // short)
            ids = ids + partition * move
            ids -= np.minimum(partition, extra)
        addresses = ids * self._record_bytes
        addresses += starts
        if self._has_gaps:
            units = ids >> unit_shift
            units *= gap_bytes
            addresses += units
        return addresses

    def _are_warm(self, tables: Sequence[JointTable], addresses: list[int], start: float) -> bool:
        """Say whether the first row of each table is expected in RAM, and is."""
        first_byte = self._bytes
        for table, address in zip(tables, addresses, strict=True):
            if table.warmth.cold:
                return False
            if not table.preloaded:
                first_byte[address]
                now = perf_counter()
                if now - start > READ_SECONDS and have_faulted(1):
                    table.warmth.chill()
                    return False
                start = now
        return True
