"""Gathers of slices of a lookup on the calling thread, and announcements of cold ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.ordering import in_order, is_ascending, put
from embstore.reading.requests import ANNOUNCED_BYTES, requests_for
from embstore.reading.row_cache.cache import RowCache
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.gather import AddressGather, GridGather
    from embstore.reading.mapping import AddressSpace
    from embstore.reading.requests import Requests
    from embstore.reading.resident_limit import ResidentLimit

# Up to this many rows, sorting the pages to announce takes longer than it saves.
UNSORTED_ROWS = 64
# From this many bytes on, touching the first bytes of rows before the gather pays off, unless a row
# is only a few cache lines: then the gather overlaps the misses of several rows by itself.
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
        if record_bytes > 4 * CACHE_LINE_BYTES:
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

    def touch(self, spots: NDArray[np.int64]) -> bool:
        """Touch the first byte of each record; return False under a limit, which counts pages."""
        if self.limit is not None:
            return False
        self.gather.touch(spots)
        return True

    def fill(self, spots: NDArray[np.int64], out: NDArray[Any], *, cold: bool) -> None:
        """Fill ``out`` with records, shape (n, ...); those that may be cold were announced."""
        if self.limit is None:
            self._take(spots, out, touch=not cold)
            return
        if self._long:
            target = out.reshape(len(out), -1).view(np.uint8)
            for at, begin in enumerate(self.gather.offsets(spots).tolist()):
                self.limit.copy(self.space, begin, target[at])
        elif is_ascending(spots):
            self._take_ordered(spots, out, touch=not cold)
        else:
            order, ordered = in_order(spots)
            records = np.empty_like(out)
            self._take_ordered(ordered, records, touch=not cold)
            put(out, order, records)

    def _take_ordered(self, spots: NDArray[np.int64], out: NDArray[Any], *, touch: bool) -> None:
        """Fill ``out`` with the records at ascending spots, within the limit."""
        assert self.limit is not None
        offsets = self.gather.offsets(spots)  # Of those in files, which come last.
        copied = len(spots) - len(offsets)
        if copied:
            self.gather.take(spots[:copied], out[:copied])
            spots, out = spots[copied:], out[copied:]

        def take(start: int, stop: int) -> None:
            self._take(spots[start:stop], out[start:stop], touch=touch)

        self.limit.visit(self.space, offsets, self.record_bytes, take)

    def _take(self, spots: NDArray[np.int64], out: NDArray[Any], *, touch: bool) -> None:
        if touch and len(spots) >= self.touched_rows:
            # The gather then finds their TLB entries and first cache lines: 15-20 % faster.
            self.gather.touch(spots)
        self.gather.take(spots, out)
