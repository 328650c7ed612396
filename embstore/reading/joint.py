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
import math
from dataclasses import dataclass
from itertools import accumulate
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

# Larger gathers, of all tables together, are worth threads and pooled memory.
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
    most : int
        The most ids in a call.
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
    factor, modulus, short, extra, move = 1, NO_DIVISOR, NO_DIVISOR, 0, 0
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
        rows, factor, modulus, short, short + 1, extra, move,
        unit_shift, gap_bytes, gather.data.ctypes.data,
    )  # fmt: skip
    return JointTable(
        gather.data,
        table.dtype,
        table.shape[1:],
        most,
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
        """Return the rows of each array of ids; None if some may be cold, or they are not few.

        Also if an id is out of range: then a lookup raises.

        Parameters
        ----------
        tables : list of JointTable
            The plan's.
        batches : sequence of ndarray of int64
            An array of ids for each.
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


class Spread:
    """The numbers of tables for each id of a call; they depend on the shapes alone.

    Parameters
    ----------
    shapes : list of tuple of int
        The shape of each array of ids.
    most : list of int
        The most ids of each.
    numbers : ndarray of int64, shape (n, tables)
        The numbers of the tables; the first ones are their rows.
    record_bytes : int
        The size of a row.
    """

    def __init__(
        self,
        shapes: list[tuple[int, ...]],
        most: list[int],
        numbers: NDArray[np.int64],
        record_bytes: int,
    ) -> None:
        self.shapes = shapes
        self.sizes = [math.prod(shape) for shape in shapes]
        self.is_small = all(0 < size <= top for size, top in zip(self.sizes, most, strict=True))
        self.is_small &= sum(self.sizes) * record_bytes <= JOINT_BYTES
        self.is_flat = all(len(shape) == 1 for shape in shapes)
        self.are_alike = len(set(shapes)) == 1 and shapes[0] != ()
        if self.is_small and shapes:
            rows, *self.numbers = np.repeat(numbers, self.sizes, 1)
            self.rows = rows.view(_UINT64)
            self.firsts = [0, *accumulate(self.sizes[:-1])]


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
        self._record_bytes, self._size = size, np.array(size)
        numbers = np.array([table.numbers for table in tables], np.int64).T
        first = int(numbers[-1].min())
        numbers[-1] -= first
        stop = max(table.numbers[-1] + len(table.data) for table in tables) - first
        self._is_mod = bool((numbers[1] != 1).any())
        self._is_div = bool((numbers[6] != 0).any())
        self._has_gaps = bool((numbers[8] != 0).any())
        self._numbers = numbers
        # An array over memory that it does not own: else it would keep the lowest mapping.
        memory: Any = (ctypes.c_uint8 * stop).from_address(first)
        self._bytes = memoryview(memory).cast("B")
        dtype = np.dtype((np.void, size))
        self._records: NDArray[Any] = np.ndarray((stop - size + 1,), dtype, memory, strides=(1,))
        self._first_bytes: NDArray[np.uint8] = np.ndarray((stop,), np.uint8, memory)
        self._spread = Spread([], [], numbers, size)  # That of the last call, which threads share.

    def take(
        self, tables: Sequence[JointTable], batches: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[Any]] | None:
        """Return the rows of each array of ids; None as `JointPlan.take`."""
        shapes = [ids.shape for ids in batches]
        spread = self._spread
        if spread.shapes != shapes:
            most = [table.most for table in tables]
            self._spread = spread = Spread(shapes, most, self._numbers, self._record_bytes)
        if not spread.is_small:
            return None
        if not spread.is_flat:
            batches = [ids.reshape(-1) for ids in batches]
        ids = np.concatenate(batches)
        if np.count_nonzero(ids.view(_UINT64) >= spread.rows):
            return None
        addresses = self._addresses(ids, spread.numbers)
        start = perf_counter()
        if not self._are_warm(tables, addresses[spread.firsts].tolist(), start):
            return None
        self._first_bytes[addresses]  # So that the cache misses overlap: a third faster.
        rows = self._records[addresses].view(self._dtype)
        seconds = (perf_counter() - start) / len(tables)
        for table, size in zip(tables, spread.sizes, strict=True):
            noted = table.noted
            noted.append((size, seconds))
            if seconds > READS_SECONDS or len(noted) >= NOTED_AT_ONCE:
                table.settle(size, seconds)
        if spread.are_alike:
            return list(rows.reshape(len(shapes), *shapes[0], *self._row_shape))
        rows = rows.reshape(len(ids), *self._row_shape)
        return [
            rows[first : first + size].reshape(shape + self._row_shape)
            for first, size, shape in zip(spread.firsts, spread.sizes, shapes, strict=True)
        ]

    def _addresses(
        self, ids: NDArray[np.int64], numbers: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        factor, modulus, short, long, extra, move, unit_shift, gap_bytes, starts = numbers
        if self._is_mod:
            ids = ids * factor
            ids %= modulus
        if self._is_div:
            partition = ids - extra
            partition //= short
            np.maximum(partition, ids // long, out=partition)
            ids = ids - np.minimum(partition, extra)
            ids += partition * move
        addresses: NDArray[np.int64] = ids * self._size
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
