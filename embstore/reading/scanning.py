"""Scans of a mapped column: blocks of rows without copies, read ahead if cold.

1. Ranges of rows are cut into blocks, and runs of neighbouring blocks are shared by threads. A
   block is a view of the mapping, so nothing is copied.
2. Before a block that is expected in RAM is passed on, a few of its bytes are touched: the kernel's
   count of disk blocks read tells whether it was in RAM.
3. A cold block is announced together with those that follow it, in runs as large as the kernel
   reads at once. Touching it would read page after page, because the mapping is advised for random
   access.
"""

from __future__ import annotations

import resource
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embstore.reading import workers
from embstore.reading.requests import Requests, requests_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from embstore.reading.mapping import AddressSpace
    from embstore.reading.resident_limit import ResidentLimit
    from embstore.table.addresses import Addresses
    from embstore.table.protocols import VisitRecords

# A block has a fixed cost of tens of microseconds, in which a thread scans some 100 KiB.
SCANNED_BYTES = 8 << 20
# Of a thread that is alone, whose visitor shares each block among threads of its own.
SCANNED_ALONE_BYTES, SCANNED_ALONE_ROWS = 64 << 20, 1 << 18
RUN_BLOCKS = 8
BLOCKS_AHEAD = 2
PROBED_BYTES = 512 << 10

_WHO: int = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of one extent.

    Attributes
    ----------
    rows : range
        The rows; never empty.
    extent, first : int
        The extent, and the first row counted from the first of the extent.
    """

    rows: range
    extent: int
    first: int


def blocks(
    ranges: Sequence[range], first_rows: NDArray[np.int64], most_rows: int
) -> Iterator[Block]:
    """Cut ranges of rows into blocks that end with their extent.

    Parameters
    ----------
    ranges : sequence of range
        Rows in range; this is not checked here.
    first_rows : ndarray of int64, shape (extents + 1,)
        The first row of each extent, and the number of rows.
    most_rows : int
        Most rows of a block.

    Examples
    --------
    >>> [block.rows for block in blocks([range(1, 6)], np.array([0, 4, 8]), most_rows=2)]
    [range(1, 3), range(3, 4), range(4, 6)]
    """
    for rows in ranges:
        start = rows.start
        extent = int(np.searchsorted(first_rows, start, side="right")) - 1
        while start < rows.stop:
            begin, end = int(first_rows[extent]), int(first_rows[extent + 1])
            while start < min(end, rows.stop):
                stop = min(start + most_rows, end, rows.stop)
                yield Block(range(start, stop), extent, start - begin)
                start = stop
            extent += 1


class MappedScan:
    """Scans of the records of a mapping.

    Parameters
    ----------
    space : AddressSpace
        The mapping.
    addresses : Addresses
        Its layout.
    limit : ResidentLimit, optional
        The resident limit to keep.
    preloaded : bool
        Whether all was preloaded. Then no block is probed before it is passed on: if it has left
        RAM, the first one is read page by page.
    """

    def __init__(
        self,
        space: AddressSpace,
        addresses: Addresses,
        limit: ResidentLimit | None,
        *,
        preloaded: bool = False,
    ) -> None:
        self._probes = not preloaded
        self._space = space
        self._addresses = addresses
        self._record_bytes = addresses.record_bytes
        self._limit = limit

    def run(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of ranges of rows to ``visit``, in blocks, in any order."""
        most_rows = max(SCANNED_BYTES // self._record_bytes, 1)
        if workers.is_alone() and self._limit is None:
            larger = min(SCANNED_ALONE_BYTES // self._record_bytes, SCANNED_ALONE_ROWS)
            most_rows = max(most_rows, larger)
        todo = list(blocks(ranges, self._addresses.first_rows, most_rows))
        if not todo:
            return
        thread_count = min(workers.processor_count(), len(todo))
        if self._limit is not None:
            thread_count = min(thread_count, self._limit.blocks_at_once(SCANNED_BYTES))
        length = min(RUN_BLOCKS, -(-len(todo) // thread_count))
        queue = deque(todo[first : first + length] for first in range(0, len(todo), length))
        work = partial(self._show_runs, queue, visit)
        workers.together([work] * thread_count, queue.clear)

    def announce(self, ranges: Sequence[range]) -> None:
        """Have the kernel start reading the records of ranges of rows."""
        self._announce(list(blocks(ranges, self._addresses.first_rows, 1 << 62)))

    def _show_runs(self, queue: deque[list[Block]], visit: VisitRecords) -> None:
        cold, before = False, _blocks_read()
        while queue:
            try:
                run = queue.popleft()
            except IndexError:  # Another thread took the last one.
                return
            announced = 0
            for at, block in enumerate(run):
                begin, end = self._span(block)
                if self._limit is not None and end - begin > SCANNED_BYTES:  # One long row.
                    self._announce([block])
                    record = np.empty(end - begin, np.uint8)
                    self._limit.copy(self._space, begin, record)
                    visit(block.rows, record.reshape(1, -1))
                    before = _blocks_read()
                    continue
                with self._holding(begin, end - begin):
                    if cold or (self._probes and self._is_cold(begin, end, before)):
                        ahead = at + 1 + BLOCKS_AHEAD
                        self._announce(run[max(announced, at) : ahead])
                        announced = ahead
                    data = self._space.data[begin:end]
                    visit(block.rows, data.reshape(len(block.rows), self._record_bytes))
                    after = _blocks_read()
                    cold, before = after != before, after

    def _holding(self, begin: int, size_bytes: int) -> AbstractContextManager[None]:
        """Return what keeps the limit while bytes of the mapping are touched."""
        if self._limit is None:
            return nullcontext()
        return self._limit.holding(self._space, begin, size_bytes)

    def _is_cold(self, begin: int, end: int, blocks_before: int) -> bool:
        self._space.data[begin].max()  # Alone, because cold bytes are read one after the other.
        if _blocks_read() != blocks_before:
            return True
        self._space.data[begin:end:PROBED_BYTES].max()
        return _blocks_read() != blocks_before

    def _announce(self, some: Sequence[Block]) -> None:
        """Have the kernel start reading blocks that are not cached."""
        spans = [self._span(block) for block in some]
        parts = [requests_for(self._space, np.array([begin]), end - begin) for begin, end in spans]
        Requests(tuple(part for one in parts for part in one.parts)).announce()

    def _span(self, block: Block) -> tuple[int, int]:
        """Return the first address of a block, and the one after its last."""
        start = int(self._addresses.starts[block.extent]) + block.first * self._record_bytes
        return start, start + len(block.rows) * self._record_bytes


def _blocks_read() -> int:
    """Return the number of disk blocks that this thread caused to be read, or the process."""
    return resource.getrusage(_WHO).ru_inblock
