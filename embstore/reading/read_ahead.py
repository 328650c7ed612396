"""Reads ahead of a lookup: rows announced early, waited for, and gathered later.

1. `KnownPages` tells which rows of a submitted lookup may have to be read. If all are known,
   nothing is announced, and a few rows are gathered by the caller at once.
2. A few unknown rows are announced by the caller: handing them to another thread takes longer.
   Batches announced one or two ahead thus keep the device busy.
3. If many rows are unknown, but not most of them, the thread that gathers announces them first.
   Then it gathers all: one thread is enough for rows that are in RAM or on their way.
4. If most are unknown, the general path of lookups shares them among threads, and finds out what is
   cold. It also gathers large results that are in RAM.
5. To wait for rows, their pages are touched. This also maps them, so that a lookup need not.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embstore.reading.row_cache.cache import RowCache
from embstore.reading.warmth import BLOCK_BYTES, ROWS_PER_READ, blocks_read
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.known_pages import KnownPages
    from embstore.reading.slices import SliceGather
    from embstore.reading.stats import StatsCounter
    from embstore.threads import Pool

# Announcing a cold row takes 1 to 3 us, mostly in the kernel; waking a thread takes 30 to 50.
CALLER_ROWS = 64
# Announcing waits while the queue of the device is full, so more threads would not help.
THREAD_COUNT = 2
# Rows that are announced, and waited for, at a time.
WAIT_ROWS = 4096
# Rows that are gathered at a time: no more are read one by one if known pages have been dropped.
GATHER_ROWS = 512
# Results of known rows that are gathered in less time than a hand-over takes.
QUICK_BYTES = 512 << 10
# Results that several threads fill, if all rows are known.
SHARED_BYTES = 16 << 20


class Later(NamedTuple):
    """What is left of a lookup after its announcement.

    Attributes
    ----------
    take : callable
        Fills an array with the records of all rows: ``take(out)``.
    quick : bool
        Whether this takes less time than handing it to another thread.
    pool : Pool or None
        The threads that do it; None for the one that does the lookups of all stores.
    """

    take: Callable[[NDArray[Any]], None]
    quick: bool
    pool: Pool | None = None


class ReadAhead:
    """Reads ahead of lookups in mapped records.

    Parameters
    ----------
    slices : SliceGather
        Announces and gathers records. Those that a row cache holds are not read ahead.
    pages : KnownPages
        What is thought to be in RAM.
    stats : StatsCounter
        Counts lookups.
    take : callable
        Fills an array with the records of rows, whether cold or warm: ``take(rows, out)``.
    """

    def __init__(
        self,
        slices: SliceGather,
        pages: KnownPages,
        stats: StatsCounter,
        take: Callable[[NDArray[np.int64], NDArray[Any]], None],
    ) -> None:
        self._slices, self.pages, self._stats, self._take = slices, pages, stats, take

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Announce a few rows, and return the rest of the lookup.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            The rows; not changed afterwards.
        """
        unknown = self.unknown(rows)
        size_bytes = len(rows) * self._slices.record_bytes
        shared = not len(unknown) and size_bytes >= SHARED_BYTES
        if shared or (len(unknown) > CALLER_ROWS and 2 * len(unknown) > len(rows)):
            return Later(partial(self._gather_shared, rows, unknown), quick=False)
        if len(unknown) <= CALLER_ROWS:
            quick = not len(unknown) and size_bytes <= QUICK_BYTES
            blocks = self.announce(unknown)
            return Later(partial(self._gather_announced, rows, blocks), quick)
        return Later(partial(self._announce_and_gather, rows, unknown), quick=False)

    def fetch(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Announce rows, if they are few; return functions that announce the rest, and wait."""
        # Known or not: lookups do not tell which known pages have been dropped.
        offsets = self.offsets(rows)
        if not len(offsets):
            return []
        if len(offsets) <= CALLER_ROWS:
            self.announce(offsets)
            return [partial(self._touch, offsets)]
        # Each has a part of its own: neighbours share pages.
        size = -(-len(offsets) // THREAD_COUNT)
        return [
            partial(self._announce_and_touch, offsets[first : first + size])
            for first in range(0, len(offsets), size)
        ]

    def unknown(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the addresses of those records that may have to be read."""
        offsets = self.offsets(rows)
        return offsets[self.pages.unknown(offsets)]

    def offsets(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the addresses of those records that are in files only."""
        gather = self._slices.gather
        if isinstance(gather, RowCache):
            return gather.offsets(gather.cold_spots(rows))
        return gather.offsets(gather.spots(rows))

    def announce(self, offsets: NDArray[np.int64]) -> int:
        """Have the kernel start reading records at addresses; return the blocks to be read."""
        if not len(offsets):
            return 0
        before = blocks_read()
        self._slices.announce_at(offsets)
        self.pages.add(offsets)
        return blocks_read() - before

    def _gather_shared(
        self, rows: NDArray[np.int64], unknown: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        self._take(rows, out)
        self.pages.add(unknown)

    def _announce_and_gather(
        self, rows: NDArray[np.int64], unknown: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        self._gather_announced(rows, self.announce(unknown), out)

    def _gather_announced(self, rows: NDArray[np.int64], blocks: int, out: NDArray[Any]) -> None:
        """Gather records, for the unknown ones of which some blocks were read already."""
        start = time.perf_counter()
        # Only now: until they are used, they hold up a row cache.
        spots = self._slices.gather.spots(rows)
        for first in range(0, len(spots), GATHER_ROWS):
            stop, before = first + GATHER_ROWS, blocks_read()
            some = spots[first:stop]
            self._slices.fill(some, out[first:stop], cold=False)
            more = blocks_read() - before
            blocks += more
            if self.pages.note(len(some), more * BLOCK_BYTES // PAGE_BYTES):
                blocks += self.announce(self._slices.gather.offsets(spots[stop:]))
        seconds = time.perf_counter() - start
        bytes_read = blocks * BLOCK_BYTES
        cold = int(bytes_read * ROWS_PER_READ > len(spots) * PAGE_BYTES)  # As `Warmth.note`.
        self._stats.add(len(spots), bytes_read, cold, 1 - cold, seconds)

    def _announce_and_touch(self, offsets: NDArray[np.int64]) -> None:
        pieces = [offsets[at : at + WAIT_ROWS] for at in range(0, len(offsets), WAIT_ROWS)]
        self.announce(pieces[0])
        for number, piece in enumerate(pieces, 1):
            for following in pieces[number : number + 1]:
                self.announce(following)  # So that the device has work meanwhile.
            self._touch(piece)

    def _touch(self, offsets: NDArray[np.int64]) -> None:
        """Touch every page of the records at addresses, which waits until it is read."""
        data, size = self._slices.space.data, self._slices.record_bytes
        if self._slices.limit is None:
            for place in (*range(0, size, PAGE_BYTES), size - 1):
                data.take(offsets + place)
            return
        offsets = np.sort(offsets)
        for first in range(0, size, HUGE_PAGE_BYTES):
            length = min(HUGE_PAGE_BYTES, size - first)
            places = (*range(first, first + length, PAGE_BYTES), first + length - 1)

            def touch(start: int, stop: int, places: tuple[int, ...] = places) -> None:
                for place in places:
                    data.take(offsets[start:stop] + place)

            self._slices.limit.visit(self._slices.space, offsets + first, length, touch)


class NoReadAhead:
    """The place of `ReadAhead` where a record is read when it is needed.

    Parameters
    ----------
    take : callable
        Fills an array with the records of rows: ``take(rows, out)``.

    Attributes
    ----------
    pool : Pool or None
        The threads that call what `fetch` returns; None for the helpers of all stores.
    """

    pool: Pool | None = None

    def __init__(self, take: Callable[[NDArray[np.int64], NDArray[Any]], None]) -> None:
        self._take = take

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Return the lookup of rows."""
        return Later(partial(self._take, rows), quick=False)

    def of(self, take: Callable[[NDArray[np.int64], NDArray[Any]], None]) -> NoReadAhead:
        """Return the same for rows that are made of these records."""
        return NoReadAhead(take)

    def fetch(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Return no functions: nothing is read ahead."""
        del rows
        return []
