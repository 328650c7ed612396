"""Gathers of slices of a lookup on the calling thread, and announcements of cold ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.requests import ANNOUNCED_BYTES, requests_for
from embstore.reading.row_cache.cache import RowCache
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.gather import AddressGather, GridGather
    from embstore.reading.mapping import AddressSpace
    from embstore.reading.requests import Requests
    from embstore.reading.residence import ResidentLimit

# Up to this many rows, sorting the pages to announce takes longer than it saves.
UNSORTED_ROWS = 64
# From this many bytes on, touching the first bytes of rows before the gather pays off, unless a row
# is only a cache line or two.
TOUCHED_BYTES = 64 << 10
CACHE_LINE_BYTES = 64


class SliceGather:
    """Gathers of slices from a mapping.

    Parameters
    ----------
    space : AddressSpace
        The mapping.
    gather : GridGather, AddressGather or RowCache
        Finds the records in it.
    record_bytes : int
        Size of a record.
    limit : ResidentLimit, optional
        The limit on what is resident.

    Attributes
    ----------
    file_count : callable or None
        Returns how many spots are in files, if there is a row cache.
    touched_rows : int
        From this many warm rows on, their first bytes are touched before the gather.
    is_decoded : bool
        False: records are as they are stored.
    """

    is_decoded = False

    def __init__(
        self,
        space: AddressSpace,
        gather: GridGather | AddressGather | RowCache,
        record_bytes: int,
        limit: ResidentLimit | None,
    ) -> None:
        self.space, self.gather, self.record_bytes, self.limit = space, gather, record_bytes, limit
        self.file_count: Callable[[NDArray[np.int64]], int] | None = None
        if isinstance(gather, RowCache):
            self.file_count = gather.file_count
        # Under a limit, a row of more than a huge page is copied piece by piece.
        self._long = limit is not None and record_bytes > HUGE_PAGE_BYTES
        self.touched_rows = 1 << 62
        if record_bytes > 2 * CACHE_LINE_BYTES:
            self.touched_rows = max(TOUCHED_BYTES // record_bytes, 16)

    def announce(self, spots: NDArray[np.int64]) -> None:
        """Have the kernel start reading the records at spots, shape (n,), that are in files."""
        self.announce_at(self.gather.offsets(spots))

    def announce_at(self, offsets: NDArray[np.int64]) -> None:
        """Have the kernel start reading the records at addresses, shape (n,)."""
        if not len(offsets):
            return
        if len(offsets) <= UNSORTED_ROWS and self.record_bytes < ANNOUNCED_BYTES:
            inside = offsets & (PAGE_BYTES - 1)
            self.space.announce(offsets - inside, inside + self.record_bytes)
        else:
            self.requests_at(offsets).announce()

    def requests(self, spots: NDArray[np.int64]) -> Requests:
        """Return the requests for the records at spots, shape (n,), that are in files."""
        return self.requests_at(self.gather.offsets(spots))

    def requests_at(self, offsets: NDArray[np.int64]) -> Requests:
        """Return the requests for the records at addresses, shape (n,)."""
        return requests_for(self.space, offsets, self.record_bytes)

    def fill(self, spots: NDArray[np.int64], out: NDArray[Any], *, cold: bool) -> None:
        """Fill ``out`` with records, shape (n, ...); those that may be cold were announced."""
        if self.limit is None:
            self._take(spots, out, touch=not cold)
            return
        if self._long:
            target = out.reshape(len(out), -1).view(np.uint8)
            for at, begin in enumerate(self.gather.offsets(spots).tolist()):
                self.limit.copy(self.space.data, begin, target[at])
            return
        order = np.argsort(spots, kind="stable")
        offsets = self.gather.offsets(spots[order])  # Of those in files, which come last.
        for start, stop, count in self.limit.steps(offsets, len(order)):
            places = order[start:stop]
            some = np.empty((len(places), *out.shape[1:]), out.dtype)
            with self.limit.touching(count):
                self._take(spots[places], some, touch=not cold)
            out[places] = some

    def _take(self, spots: NDArray[np.int64], out: NDArray[Any], *, touch: bool) -> None:
        if touch and len(spots) >= self.touched_rows:
            # The gather then finds their TLB entries and first cache lines: 15-20 % faster.
            self.gather.touch(spots)
        self.gather.take(spots, out)
