"""How is a whole mapped table read? In blocks, where they are, ahead of their use if they are cold.

1. The rows of consecutive ids are cut into pieces, and runs of neighbouring pieces are shared by
   threads. A block is a view of the mapping, so nothing is copied.
2. Before a block that is expected in RAM is shown, a few of its bytes are touched: the kernel's
   count of blocks read tells whether it was there.
3. A cold block is announced together with those that follow it, in ranges as large as the kernel
   reads at once: the mapping is advised for random access, so that touching it would bring in page
   after page.
"""

from __future__ import annotations

import resource
from collections import deque
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading import workers
from embstore.reading.mapping import PAGE_BYTES
from embstore.reading.residence import HUGE_PAGE_BYTES
from embstore.table.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.reading import Visit
    from embstore.reading.mapping import AddressSpace
    from embstore.reading.residence import ResidentLimit
    from embstore.table.numbering import PhysicalRows
    from embstore.table.pieces import Piece

# What a block costs besides its arithmetic is tens of microseconds, in which a thread sees some
# hundred KiB.
BLOCK_BYTES = 8 << 20
RUN_BLOCKS = 8
BLOCKS_AHEAD = 2
# Of an announced range, the kernel reads no more than the device's read-ahead.
ANNOUNCED_BYTES = 128 << 10
PROBED_BYTES = 512 << 10

_WHO: int = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class MappedScan:
    """Shows rows of a mapping to a function.

    Parameters
    ----------
    space : AddressSpace
        The mapping.
    rows : ndarray, shape (physical rows, *row_shape)
        The mapping as rows.
    numbering : PhysicalRows
        The numbering of these rows.
    limit : ResidentLimit, optional
        What must be told of bytes that are touched.
    """

    def __init__(
        self,
        space: AddressSpace,
        rows: NDArray[Any],
        numbering: PhysicalRows,
        limit: ResidentLimit | None,
    ) -> None:
        self._space = space
        self._rows = rows
        self._row_bytes = rows[:1].nbytes
        self._numbering = numbering
        self._limit = limit

    def run(self, start: int, stop: int, visit: Visit) -> None:
        """Show the rows of the ids ``start .. stop - 1``; see `embstore.EmbeddingStore.scan`."""
        if start == stop:
            return
        most_rows = max(BLOCK_BYTES // self._row_bytes, 1)
        todo = list(pieces(self._numbering, start, stop, most_rows))
        thread_count = min(workers.processor_count(), len(todo))
        if self._limit is not None:
            thread_count = min(thread_count, self._limit.blocks_at_once(BLOCK_BYTES))
        length = min(RUN_BLOCKS, -(-len(todo) // thread_count))
        runs = deque(todo[first : first + length] for first in range(0, len(todo), length))
        work = partial(self._show_runs, runs, visit)
        workers.together([work] * thread_count, runs.clear)

    def _show_runs(self, runs: deque[list[Piece]], visit: Visit) -> None:
        cold = True  # It is not known; announcing a block that is in RAM costs little.
        while runs:
            try:
                run = runs.popleft()
            except IndexError:  # Another thread took the last one.
                return
            announced = 0
            for at, piece in enumerate(run):
                # The limit counts in faults, of which each may map a huge page.
                count = len(piece.ids) * self._row_bytes // HUGE_PAGE_BYTES + 2
                with nullcontext() if self._limit is None else self._limit.touching(count):
                    before = _blocks_read()
                    if cold or self._is_cold(piece, before):
                        ahead = at + 1 + BLOCKS_AHEAD
                        self._announce(run[max(announced, at) : ahead])
                        announced = ahead
                    visit(piece.ids, self._rows[piece.physical : piece.physical + len(piece.ids)])
                    cold = _blocks_read() != before

    def _is_cold(self, piece: Piece, blocks_before: int) -> bool:
        begin, end = self._extent(piece)
        self._space.data[begin:end:PROBED_BYTES].max()
        return _blocks_read() != blocks_before

    def _announce(self, some: Sequence[Piece]) -> None:
        """Have the kernel start reading pieces that it does not have."""
        for piece in some:
            begin, end = self._extent(piece)
            offsets = np.arange(begin // PAGE_BYTES * PAGE_BYTES, end, ANNOUNCED_BYTES)
            self._space.announce(offsets, np.minimum(end - offsets, ANNOUNCED_BYTES))

    def _extent(self, piece: Piece) -> tuple[int, int]:
        last = piece.physical + len(piece.ids)
        return piece.physical * self._row_bytes, last * self._row_bytes


def _blocks_read() -> int:
    """Return how many blocks this thread (where the system counts threads) caused to be read."""
    return resource.getrusage(_WHO).ru_inblock
