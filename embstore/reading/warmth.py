"""Warmth of rows: whether the next lookup is expected to find its rows in RAM.

Announcing rows to the kernel costs ten times the gather of warm rows, so it must stop when rows are
warm. But where warm and cold lookups alternate, a flag that follows the last lookup is wrong every
time.

1. While rows are expected in RAM, the clock watches: touching the first row of a small lookup takes
   longer than `READ_SECONDS` if it is read from the device, and a gather that takes much longer
   than `READS_SECONDS` read several rows, one after the other. Where many threads want the GIL or
   a processor, waiting for it takes as long. So the kernel's count of page faults that read
   (``ru_majflt``) has the last word; asking for it each time would take too long.
2. While rows are expected on the device, lookups are announced, and the kernel's count of blocks
   that the thread caused to be read (``ru_inblock``) tells whether this was needed. Rows are
   expected in RAM again after `WARM_IN_A_ROW` lookups that read next to nothing.

One read takes as long as announcing `ROWS_PER_READ` warm rows. So a lookup with fewer cold rows
than one in that many counts as warm: it is faster to wait for them one by one. Rows that share
pages, or are on neighbouring ones, are announced together, and count as one.
"""

from __future__ import annotations

import resource
from threading import local

from embstore.table.addresses import PAGE_BYTES

READ_SECONDS = 30e-6
READS_SECONDS = 200e-6
WARM_IN_A_ROW = 8
ROWS_PER_READ = 32
ANNOUNCED_ROW_SECONDS = 2e-6

BLOCK_BYTES = 512  # The unit of ru_inblock.
# Blocks are counted for each thread, where supported.
_WHO: int = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class Warmth:
    """Whether rows are expected on the device; shared by all threads, which need no lock.

    Attributes
    ----------
    cold : bool
        Whether the next rows are expected on the device.
    """

    __slots__ = ("_warm_in_a_row", "cold")

    def __init__(self) -> None:
        self.cold = False
        self._warm_in_a_row = 0

    def chill(self) -> None:
        """Expect cold rows: some were found where warm ones were expected."""
        self._warm_in_a_row = 0
        self.cold = True

    def note_slow(self, row_count: int, seconds: float) -> None:
        """Note a lookup that was not announced, and took longer than `READS_SECONDS`."""
        if seconds > READS_SECONDS + row_count * ANNOUNCED_ROW_SECONDS and have_faulted(row_count):
            self.chill()

    @staticmethod
    def are_cold(request_count: int, blocks: int) -> bool:
        """Return whether rows that read some blocks are worth the requests that announce them."""
        return blocks * BLOCK_BYTES * ROWS_PER_READ > request_count * PAGE_BYTES

    def note(self, request_count: int, blocks: int) -> bool:
        """Note how many blocks a lookup, or a slice of one, read; return whether it was cold.

        ``request_count`` requests would announce its rows: one for each row, or fewer.
        """
        cold = self.are_cold(request_count, blocks)
        if cold:
            self.chill()
        elif self.cold:
            self._warm_in_a_row += 1
            self.cold = self._warm_in_a_row < WARM_IN_A_ROW
        return cold


class _Faults(local):
    """The page faults of a thread that were known when it last asked."""

    count = 0


_faults = _Faults()


def have_faulted(row_count: int) -> bool:
    """Say whether page faults of this thread read more than one row in `ROWS_PER_READ`.

    Those since it last asked; asked seldom, this counts some too many, which does no harm.
    """
    count = resource.getrusage(_WHO).ru_majflt
    new, _faults.count = count - _faults.count, count
    return new * ROWS_PER_READ > row_count


def blocks_read() -> int:
    """Return the number of blocks of 512 bytes that this thread caused to be read, or the process.

    A block counts for the thread that announces or touches it first.
    """
    return resource.getrusage(_WHO).ru_inblock
