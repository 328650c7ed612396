"""Row caches: copies of the most wanted rows in front of a mapping, gathered together with it.

The page cache keeps 4 KiB or more for each row that is read. Where memory is smaller than the
table, copies of single records hold many more of the rows that are wanted again and again.

1. The copies lie in anonymous memory in front of the files, in the same address space and on the
   same grid of records. One gather serves both, and a lookup only has to find the *spot* of each
   row: the slot of its copy, or its place in the files (`embstore.reading.row_cache.row_map`).
2. What to copy is decided from the lookups (`embstore.reading.row_cache.admission`), on a thread of
   its own, after every some thousand rows; where no thread can be started, in a lookup.
3. Readers take no lock. They take the current map by one reference, and each array of spots holds a
   *lease* on it. A slot is written to only while the current map does not use it and no lease on an
   earlier map is left; the map that uses it is published afterwards. So the record in a slot never
   changes under a reader, however long it takes.
4. A forked child has the slots and the map as they were. If other threads were looking rows up at
   that moment, their leases are never returned in the child: it keeps its rows, and learns no more.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import deque
from contextlib import suppress
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore import syscalls
from embstore.reading.gather import AddressGather, GridGather, as_records
from embstore.reading.requests import requests_for
from embstore.reading.row_cache.admission import Admission
from embstore.reading.row_cache.row_map import MAX_SLOTS, RowMap
from embstore.reading.row_cache.sketch import CountSketch
from embstore.settle import size_text, size_up_text
from embstore.table.addresses import ALIGNMENTS, HUGE_PAGE_BYTES, address_limit
from embstore.threads import LazyPool
from embstore.wording import either, parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.reading.mapping import AddressSpace
    from embstore.reading.resident_limit import ResidentLimit
    from embstore.table.addresses import Addresses

# Rows looked up before the cache learns from them, and those that may wait for it.
LEARNED_ROWS = 1 << 14
MAX_WAITING_ROWS = 8 * LEARNED_ROWS
# Rows copied at a time: enough reads in flight, and little memory.
COPIED_ROWS = 1024
COPIED_BYTES = 1 << 20
CHOSEN_ROWS = 1 << 15  # By `RowCache.warm`, at a time.
# What a row given to `RowCache.warm` without a count counts for: more than most rows ever reach.
WARM_COUNT = 16
# How long `RowCache.warm` waits for lookups that are under way.
MAX_WAIT_SECONDS = 10.0

# One lock for the changes of all caches, and one for their statistics, which a signal handler may
# ask for while its thread holds it. A forked child gets new ones, because a thread that it does not
# have may hold the inherited ones.
_lock, _stats_lock = Lock(), RLock()
# One thread learns for all caches: on several, malloc would keep freed memory for each of them.
_learner = LazyPool(1, "embstore_row_cache")


def slots_within(
    budget_bytes: int, row_count: int, record_bytes: int, *, gap_count: int = 0
) -> int:
    """Return how many rows a cache of some bytes holds, with its maps and counts.

    Learning takes some more for moments, and rows that wait for a slot 4 bytes for each slot.

    Parameters
    ----------
    budget_bytes : int
        Bytes of the cache.
    row_count, record_bytes : int
        Number of rows in the table, gaps between them included, and the size of a record.
    gap_count : int
        The number of rows that would fit into the gaps.

    Raises
    ------
    ValueError
        If not even one row fits.
    """
    most = min(row_count, MAX_SLOTS, budget_bytes // record_bytes)
    least_bytes = cache_bytes(1, row_count, record_bytes)
    if row_count and budget_bytes < least_bytes:
        gaps = ""
        if gap_count > row_count // 2:
            gaps = (
                ", most of them gaps between partitions, of which fewer need less "
                f"({either('embstore.build(store, path, partitions=...)', 'embstore repartition')})"
            )
        raise ValueError(
            f"{parameter('row_cache')} must be {size_up_text(least_bytes)} or more for this table, "
            f"which one row and the map of {row_count} rows take{gaps}; found "
            f"{size_text(budget_bytes)}"
        )
    low = min(most, 1)
    while low < most:
        middle = (low + most + 1) // 2
        if cache_bytes(middle, row_count, record_bytes) <= budget_bytes:
            low = middle
        else:
            most = middle - 1
    return low


def cache_bytes(slot_count: int, row_count: int, record_bytes: int) -> int:
    """Return the bytes of a cache: the copies, the counts, and two maps, one of them to be."""
    return (
        slot_count * record_bytes
        + 2 * RowMap.size_bytes(row_count, slot_count)
        + CountSketch.size_bytes(row_count, slot_count)
    )


def front_bytes(slot_count: int, addresses: Addresses) -> int:
    """Return the length of the part in front of the files that has room for the slots.

    It is a multiple of the size of a record, so that all records stay on one grid, and of the best
    alignment for which there is enough address space, so that the files stay aligned.
    """
    used = _first_byte(addresses) + slot_count * addresses.record_bytes
    limit = address_limit(addresses.size_bytes)
    for alignment in ALIGNMENTS:
        unit = math.lcm(addresses.record_bytes, alignment)
        size = -(-used // unit) * unit
        if size <= limit:
            break
    return size


def _first_byte(addresses: Addresses) -> int:
    """Return the place of slot 0 in front of the files."""
    return 0 if addresses.grid is None else addresses.grid.base


class _Lease:
    """What holds a map: while one is left, the slots of the map are not written to."""

    __slots__ = ("__weakref__",)


class _Leased(np.ndarray[Any, Any]):
    """An array that owns its memory and holds a lease; its views keep it, and so the lease."""

    lease: _Lease


class RowCache:
    """A gather of records, some of them from copies in memory; safe to use from many threads.

    Parameters
    ----------
    space : AddressSpace
        The mapping, with a part of `front_bytes` in front.
    addresses : Addresses
        Its layout.
    slot_count : int
        Most rows to hold, 1 or more.
    limit : ResidentLimit, optional
        The limit of the mapping.
    """

    def __init__(
        self,
        space: AddressSpace,
        addresses: Addresses,
        slot_count: int,
        limit: ResidentLimit | None = None,
    ) -> None:
        self.slot_count = slot_count
        self._row_count = row_count = int(addresses.first_rows[-1])
        self._record_bytes = record_bytes = addresses.record_bytes
        self._space, self._limit = space, limit
        self._front_bytes = len(space.front)
        self._inner: GridGather | AddressGather
        if addresses.grid is not None:
            self._inner = GridGather(space.whole, addresses.grid, record_bytes)
            self._step, self._shift = 1, np.int64(self._front_bytes // record_bytes)
        else:
            self._inner = AddressGather(space.whole, addresses)
            self._step, self._shift = record_bytes, np.int64(self._front_bytes)
        self.take, self.touch = self._inner.take, self._inner.touch
        first = _first_byte(addresses)
        size = slot_count * record_bytes
        self._slots = space.front[first : first + size].view(np.dtype((np.void, record_bytes)))
        # A huge page for the last slots could exceed the budget.
        huge_bytes = (first + size) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
        if huge_bytes:
            space.advise(-self._front_bytes, huge_bytes, syscalls.MADV_HUGEPAGE)
        self._admission = Admission(row_count, slot_count)
        self._published = RowMap(row_count), _Lease()
        self._earlier: list[weakref.ref[_Lease]] = []
        self._waiting: deque[tuple[NDArray[np.int64], NDArray[np.bool_]]] = deque()
        self._waiting_rows = 0
        self._noted: list[tuple[int, int]] = []
        self._counts = [0, 0]

    def spots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the spot of each row, shape (n,), and count the lookup."""
        cached, lease = self._published
        present, slots = cached.find(rows)
        leased = np.ndarray.__new__(_Leased, len(rows), np.int64)
        leased.lease = lease
        spots = leased.view(np.ndarray)
        np.add(self._inner.spots(rows), self._shift, out=spots)
        if self._step != 1:
            slots = slots.astype(np.int64)
            slots *= self._step
        np.copyto(spots, slots, where=present)
        self._note(rows, present)
        return spots

    def cold_spots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the spots of those rows, shape (n,), that have no copy; this counts nothing."""
        present, _ = self._published[0].find(rows)
        return self._file_spots(rows[~present])

    def offsets(self, spots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the addresses of those spots that are in the files, a new array."""
        return self._inner.offsets(spots[spots >= self._shift]) - self._front_bytes

    def file_count(self, spots: NDArray[np.int64]) -> int:
        """Return how many spots are in the files."""
        return int(np.count_nonzero(spots >= self._shift))

    def table(self, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        """Return None: a row is at its place on the grid, or at a slot."""

    def learn(self) -> None:
        """Change what is cached, as the lookups since the last call suggest.

        If another thread is changing a cache, those lookups are forgotten.
        """
        waiting = self._take_waiting()
        if not waiting or not _lock.acquire(blocking=False):
            return
        try:
            rows, present = map(np.concatenate, zip(*waiting, strict=True))
            self._admission.observe(rows, present)
            while self._improve():
                pass
        except MemoryError:  # The rows that are cached stay, and lookups go on.
            pass
        finally:
            _lock.release()

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Copy rows, shape (n,), the most wanted ones; return how many of them are cached.

        The other slots keep those of their rows that were looked up most.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            The rows; repeats allowed.
        counts : ndarray of float64, shape (n,), optional
            How often each was looked up, 0 or more; by default, the first rows are wanted most.
        """
        firsts = _first_places(rows, counts, self._row_count, self.slot_count)
        wanted = rows[firsts]
        with _lock:
            sketch = self._admission.sketch
            if counts is None or not len(counts):
                sketch.raise_to(wanted, np.full(len(wanted), WARM_COUNT, np.uint8))
            else:
                shares = counts / (counts.max() or 1.0)  # The sum of the counts may be infinite.
                sketch.raise_to(wanted, sketch.scaled(shares[firsts], shares.sum()))
            wanted.sort()
            self._make_room(wanted)
            missing = self._published[0].missing(wanted)
            deadline = time.monotonic() + MAX_WAIT_SECONDS
            while len(missing) and not self._add(missing) and time.monotonic() < deadline:
                time.sleep(0.001)
            syscalls.trim_memory()  # The page cache needs it more.
            return len(wanted) - len(self._published[0].missing(wanted))

    def lookups(self) -> tuple[int, int]:
        """Return the number of rows looked up so far, and of those that had a copy."""
        with _stats_lock, suppress(IndexError):  # A signal handler may remove the rest.
            for _ in range(len(self._noted)):
                rows, hits = self._noted.pop()
                self._counts[0] += rows
                self._counts[1] += hits
        return self._counts[0], self._counts[1]

    def held(self) -> tuple[int, int]:
        """Return the number of rows cached, and the bytes that this takes now."""
        cached = self._published[0]
        bookkeeping = RowMap.size_bytes(self._row_count, len(cached))
        bookkeeping += CountSketch.size_bytes(self._row_count, self.slot_count)
        return len(cached), len(cached) * self._record_bytes + bookkeeping

    def _file_spots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        spots: NDArray[np.int64] = self._inner.spots(rows) + self._shift
        return spots

    def _note(self, rows: NDArray[np.int64], present: NDArray[np.bool_]) -> None:
        """Count a lookup, and have a thread learn from it and earlier ones if they are many."""
        if not len(rows):
            return  # What waits is bounded by its rows.
        self._noted.append((len(rows), int(np.count_nonzero(present))))
        if len(self._noted) >= LEARNED_ROWS:
            self.lookups()
        # A copy: rows may be the caller's own array.
        self._waiting.append((rows.copy(), present))
        before = self._waiting_rows
        self._waiting_rows = after = before + len(rows)
        if before < LEARNED_ROWS <= after:
            pool = _learner.get()
            if pool.thread_count:
                pool.submit(self.learn)
            else:
                self.learn()  # Not by the pool, which would keep a Ctrl-C to itself.
        elif after > MAX_WAITING_ROWS:  # The learner is late, or was not inherited at a fork.
            self._take_waiting()

    def _take_waiting(self) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Return the lookups that the cache has not learned from, and forget them."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.popleft())
        self._waiting_rows = 0
        return taken

    def _improve(self) -> bool:
        """Make one change if there is a good one; return whether there may be another."""
        cached = self._published[0]
        free_count = self.slot_count - len(cached)
        if free_count and not self._is_quiet():
            return False
        change = self._admission.plan(cached, free_count)
        if change is None:
            return False
        if len(change.remove):
            self._publish(cached.changed(remove=change.remove))
            return True
        self._add(change.add)
        return False

    def _make_room(self, wanted: NDArray[np.int64]) -> None:
        """Remove rows that are not wanted, so that all wanted rows have room."""
        cached = self._published[0]
        kept = RowMap(self._row_count).changed(add=wanted, slots=np.zeros_like(wanted))
        others = np.concatenate([wanted[:0], *map(kept.missing, cached.rows())])
        surplus = len(others) + len(wanted) - self.slot_count
        if surplus > 0:
            order = np.argsort(self._admission.sketch.counts(others), kind="stable")
            self._publish(cached.changed(remove=np.sort(others[order[:surplus]])))

    def _add(self, rows: NDArray[np.int64]) -> bool:
        """Copy distinct rows without copies to free slots; return False if slots are still read."""
        if not self._is_quiet():
            return False
        cached = self._published[0]
        is_free = np.ones(self.slot_count, np.bool_)
        is_free[cached.slots] = False
        slots = np.flatnonzero(is_free)[: len(rows)]
        step = max(min(COPIED_BYTES // self._record_bytes, COPIED_ROWS), 1)
        for start in range(0, len(rows), step):
            self._copy(rows[start : start + step], slots[start : start + step])
        if len(rows):
            self._publish(cached.changed(add=rows, slots=slots))
        return True

    def _copy(self, rows: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
        spots = self._file_spots(rows)
        offsets = self.offsets(spots)
        requests_for(self._space, offsets, self._record_bytes).announce()
        records = np.empty((len(rows), self._record_bytes), np.uint8)
        if self._limit is None:
            self._inner.take(spots, records)
        else:
            order = np.argsort(offsets)
            ordered, slots = spots[order], slots[order]

            def take(start: int, stop: int) -> None:
                self._inner.take(ordered[start:stop], records[start:stop])

            self._limit.visit(self._space, offsets[order], self._record_bytes, take)
        self._slots[slots] = as_records(records, self._record_bytes)

    def _publish(self, cached: RowMap) -> None:
        """Let lookups that start from now on use a map."""
        # The lease first: a child may be forked in between.
        self._earlier.append(weakref.ref(self._published[1]))
        self._published = cached, _Lease()

    def _is_quiet(self) -> bool:
        """Return whether no lookup uses an earlier map, so that free slots may be written to."""
        current = self._published[1]
        alive = [one for one in self._earlier if one() not in (None, current)]
        self._earlier = alive
        return not alive


def _first_places(
    rows: NDArray[np.int64], counts: NDArray[np.float64] | None, row_count: int, most: int
) -> NDArray[np.int64]:
    """Return where the most wanted rows first occur: those with the highest counts, or the first.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        The rows.
    counts : ndarray of float64, shape (n,), optional
        Their counts.
    row_count : int
        Number of rows in the table.
    most : int
        How many of them to return.
    """
    order = None if counts is None else np.argsort(-counts, kind="stable")
    seen = np.zeros(row_count, np.bool_)
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(rows), CHOSEN_ROWS):
        stop = min(start + CHOSEN_ROWS, len(rows))
        places = np.arange(start, stop) if order is None else order[start:stop]
        places = places[~seen[rows[places]]]
        _, firsts = np.unique(rows[places], return_index=True)
        firsts.sort()
        places = places[firsts][:most]
        seen[rows[places]] = True
        found.append(places)
        most -= len(places)
        if not most:
            break
    return np.concatenate([np.zeros(0, np.int64), *found])


def _forget() -> None:
    global _lock, _stats_lock
    _lock, _stats_lock = Lock(), RLock()


os.register_at_fork(after_in_child=_forget)
