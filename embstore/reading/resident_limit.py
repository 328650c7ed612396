"""A limit on what is resident of mappings.

A fault maps more than the row that caused it: its neighbours in 64 KiB, or all of a large folio, up
to 2 MiB. So after enough lookups the resident size of the process grows by the whole table.
`ResidentLimit` unmaps pages before the limit is reached. Unmapped pages stay in the page cache;
touching maps them again.

1. Mappings are cut into *regions* of 2 MiB, the most that a fault maps. A reader that touches pages
   reserves their regions first. A region counts in full, and once. While what was counted is within
   the limit, nothing else is done, so the kernel is not asked at all.
2. When it is not, the kernel tells how much is resident, which is far less where it maps small
   pages. From there on, counting starts again.
3. If too little is left, the regions that were touched are unmapped, and no others. Those that
   another thread has reserved stay counted, because it may map their pages again.
4. A lookup touches its rows in the order of their addresses, so that each region is mapped once,
   however many of its rows are wanted.

Threads reserve a part of what is left, so that several have room. Only if more than a dozen touch
rows at once may the smallest limit be exceeded, by 4 MiB for each of the others.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from embstore import syscalls
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embstore.reading.mapping import AddressSpace

# A lower limit would allow only a few faults, each of which may map a huge page.
MIN_RESIDENT_BYTES = 32 * HUGE_PAGE_BYTES
# What a thread reserves at most, as a part of the limit, and what it does not go below: less, and
# it would reserve, and look, too often.
MOST_SHARE, LEAST_SHARE = 4, 16
# A row may start in one region and end in the next.
_ROW_REGIONS = 2
# One lock for all limits. A forked child gets a new one, because a thread that it does not have may
# hold the inherited one.
_lock = Lock()
_limits: weakref.WeakSet[ResidentLimit] = weakref.WeakSet()


class ResidentLimit:
    """A limit on the resident size of one mapping, or of several together.

    Parameters
    ----------
    limit_bytes : int
        The limit; at least `MIN_RESIDENT_BYTES`.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._limit_regions = limit_bytes // HUGE_PAGE_BYTES
        self._spaces: dict[int, tuple[AddressSpace, _Regions]] = {}
        self._others_bytes = self._seen_bytes = resident_file_bytes()
        self._is_unsure = False  # Whether the mappings of others have become smaller.
        self._bound_bytes = 0  # The most that may be resident, with what is reserved.
        self._held_count = 0  # Regions that threads have reserved now.
        _limits.add(self)

    def add(self, space: AddressSpace) -> None:
        """Count a mapping, of which nothing has been touched."""
        self._spaces[id(space)] = space, _Regions(len(space.data))

    def blocks_at_once(self, block_bytes: int) -> int:
        """Return the number of threads that may touch a block each at a time."""
        # Together they take a quarter of the limit. A block may start and end inside regions.
        return max(self._limit_bytes // (4 * (block_bytes + 2 * HUGE_PAGE_BYTES)), 1)

    def visit(
        self,
        space: AddressSpace,
        offsets: NDArray[np.int64],
        size_bytes: int,
        touch: Callable[[int, int], None],
    ) -> None:
        """Call ``touch`` for parts of some records, while their regions are reserved.

        Parameters
        ----------
        space : AddressSpace
            The mapping.
        offsets : ndarray of int64, shape (n,)
            The addresses of the records, ascending.
        size_bytes : int
            What is touched of each, up to a region.
        touch : callable
            Called with the number of the first record of a part, and of the one after its last.
        """
        firsts = offsets // HUGE_PAGE_BYTES
        lasts = (offsets + (size_bytes - 1)) // HUGE_PAGE_BYTES
        regions = distinct_regions(firsts, lasts)
        start = 0
        while start < len(offsets):
            held = self._reserve(space, regions, _ROW_REGIONS)
            try:
                stop = len(offsets)
                if len(held) < len(regions):
                    stop = int(lasts.searchsorted(held[-1], "right"))
                touch(start, stop)
            finally:
                self._release(space, held)
            if stop < len(offsets):
                regions = regions[regions.searchsorted(firsts[stop]) :]
            start = stop

    @contextmanager
    def holding(self, space: AddressSpace, begin: int, size_bytes: int) -> Iterator[None]:
        """Reserve the regions of some bytes, from address ``begin`` on, in the ``with`` block."""
        stop = (begin + size_bytes - 1) // HUGE_PAGE_BYTES + 1
        regions = np.arange(begin // HUGE_PAGE_BYTES, stop)
        held = self._reserve(space, regions, len(regions))
        try:
            yield
        finally:
            self._release(space, held)

    def copy(self, space: AddressSpace, begin: int, out: NDArray[np.uint8]) -> None:
        """Copy bytes of a mapping, from address ``begin`` on, piece by piece.

        For rows so long that touching all of one would exceed the limit.
        """
        for start in range(0, len(out), HUGE_PAGE_BYTES):
            piece = out[start : start + HUGE_PAGE_BYTES]
            with self.holding(space, begin + start, len(piece)):
                piece[:] = space.data[begin + start : begin + start + len(piece)]

    def forget_threads(self) -> None:
        """Drop what threads have reserved, in a forked child, which does not have them."""
        self._held_count = 0
        for _, known in self._spaces.values():
            known.held.clear()

    def _reserve(
        self, space: AddressSpace, regions: NDArray[np.int64], least: int
    ) -> NDArray[np.int64]:
        """Reserve the first of some regions, ``least`` or more, and return them."""
        known = self._spaces[id(space)][1]
        with _lock:
            left = max(self._limit_regions - self._held_count, 0)
            most = max(min(self._limit_regions // MOST_SHARE, left // 2), least)
            wanted = regions[:most]
            enough = min(max(self._limit_regions // LEAST_SHARE, least), len(wanted))
            count = self._room(known, wanted)
            if count < enough:
                self._look()
                count = self._room(known, wanted)
            if count < enough:
                self._unmap()
                count = self._room(known, wanted)
            held = wanted[: max(count, least)]
            self._bound_bytes += known.hold(held) * HUGE_PAGE_BYTES
            self._held_count += len(held)
        return held

    def _release(self, space: AddressSpace, held: NDArray[np.int64]) -> None:
        known = self._spaces[id(space)][1]
        with _lock:
            known.release(held)
            self._held_count -= len(held)

    def _room(self, known: _Regions, regions: NDArray[np.int64]) -> int:
        """Return how many of some regions may be touched within the limit."""
        left = (self._limit_bytes - self._bound_bytes) // HUGE_PAGE_BYTES
        return int(known.uncounted(regions).cumsum().searchsorted(left, "right"))

    def _look(self) -> None:
        """Ask the kernel how much is resident, and count from there on."""
        seen = resident_file_bytes()
        # Other mappings have become smaller, as when a store is closed; or the kernel took pages.
        self._is_unsure |= seen < self._seen_bytes
        self._seen_bytes = seen
        if self._is_unsure:
            return
        # What threads have reserved may not be mapped yet.
        held_bytes = self._held_count * HUGE_PAGE_BYTES
        resident = max(seen - self._others_bytes, 0) + held_bytes
        if resident < self._bound_bytes:
            self._bound_bytes = resident
            for _, known in self._spaces.values():
                known.forget_counts()

    def _unmap(self) -> None:
        """Unmap everything that was touched."""
        for space, known in self._spaces.values():
            known.unmap(space)
        self._bound_bytes = self._held_count * HUGE_PAGE_BYTES
        self._seen_bytes = resident_file_bytes()
        # The rest belongs to other mappings of this process, unless another thread is mapping pages
        # of these.
        if not self._held_count:
            self._others_bytes, self._is_unsure = self._seen_bytes, False


class _Regions:
    """The regions of one mapping: which were touched, counted, and are reserved.

    Parameters
    ----------
    size_bytes : int
        Size of the mapping.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        count = -(-size_bytes // HUGE_PAGE_BYTES)
        # Memory of zeros takes no space where it was not written to.
        self._counted = np.zeros(count, np.bool_)
        self._touched = np.zeros(count, np.bool_)
        # The same as lists, to clear only what was set.
        self._counted_lists: list[NDArray[np.int64]] = []
        self._touched_lists: list[NDArray[np.int64]] = []
        self.held: dict[int, NDArray[np.int64]] = {}

    def uncounted(self, regions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some regions are not counted."""
        return ~self._counted[regions]

    def hold(self, regions: NDArray[np.int64]) -> int:
        """Note that regions will be touched; return how many were not counted before."""
        self.held[id(regions)] = regions
        fresh = regions[self.uncounted(regions)]
        if len(fresh):
            self._counted[fresh] = True
            self._counted_lists.append(fresh)
        new = regions[~self._touched[regions]]
        if len(new):
            self._touched[new] = True
            self._touched_lists.append(new)
        return len(fresh)

    def release(self, regions: NDArray[np.int64]) -> None:
        """Note that regions, as they were given to `hold`, are no longer touched."""
        del self.held[id(regions)]

    def forget_counts(self) -> None:
        """Count no region: what is resident of them is known."""
        for regions in self._counted_lists:
            self._counted[regions] = False
        self._counted_lists = []

    def unmap(self, space: AddressSpace) -> None:
        """Unmap the regions that were touched; those that are reserved count as touched."""
        if not self._touched_lists:
            return
        touched = np.sort(np.concatenate(self._touched_lists))
        firsts, stops = joined_regions(touched)
        begins = firsts * HUGE_PAGE_BYTES
        ends = np.minimum(stops * HUGE_PAGE_BYTES, self._size_bytes)
        syscalls.unmap_pages(begins + space.address, ends - begins)
        self.forget_counts()
        self._touched[touched] = False
        held = list(self.held.values())
        self._touched_lists = []
        for regions in held:
            new = regions[~self._touched[regions]]
            self._touched[new] = True
            self._touched_lists.append(new)


def distinct_regions(firsts: NDArray[np.int64], lasts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the regions that records are in, ascending, given each one's first and last.

    Examples
    --------
    >>> distinct_regions(np.array([0, 0, 1, 5]), np.array([0, 1, 1, 6])).tolist()
    [0, 1, 5, 6]
    """
    both = np.empty(2 * len(firsts), np.int64)
    both[::2], both[1::2] = firsts, lasts
    # The same record twice: its last region comes before its first.
    both = np.maximum.accumulate(both)
    is_new = np.empty(len(both), np.bool_)
    is_new[:1] = True
    np.not_equal(both[1:], both[:-1], out=is_new[1:])
    return both[is_new]


def joined_regions(regions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the runs of ascending regions: the first of each, and the one after its last.

    Examples
    --------
    >>> [part.tolist() for part in joined_regions(np.array([1, 2, 3, 7]))]
    [[1, 7], [4, 8]]
    """
    cuts = np.flatnonzero(regions[1:] > regions[:-1] + 1)
    firsts = regions[np.concatenate([[0], cuts + 1])]
    return firsts, regions[np.concatenate([cuts, [-1]])] + 1


def resident_file_bytes() -> int:
    """Return the resident bytes of all file mappings of this process; 0 where unknown."""
    try:
        # Not by a file object, which takes three times as long.
        descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return int(os.read(descriptor, 200).split()[2]) * PAGE_BYTES
    finally:
        os.close(descriptor)


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = Lock()
    for limit in list(_limits):
        limit.forget_threads()


os.register_at_fork(after_in_child=_forget)
