"""A cache of decoded inner chunks: the ones used last, within a bound of bytes.

It takes no lock: its steps are atomic, and each bears with what other threads do in between. So
signal handlers and forked children may use it, too.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_CACHE_BYTES = 64 << 20


class DecodedCache:
    """The decoded inner chunks that were used last.

    Parameters
    ----------
    limit_bytes : int
        Most bytes of their rows.
    block_bytes, block_rows : int
        Bytes and rows of an inner chunk.
    """

    def __init__(self, limit_bytes: int, block_bytes: int, block_rows: int) -> None:
        self.most = limit_bytes // block_bytes
        self._block_bytes, self._block_rows = block_bytes, block_rows
        self._blocks: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._noted: list[tuple[int, int]] = []
        self._sums = [0, 0]

    def get(self, chunk: int) -> NDArray[Any] | None:
        """Return a decoded inner chunk by its number in the column, or None."""
        block = self._blocks.get(chunk)
        if block is not None:
            with suppress(KeyError):  # Another thread dropped it.
                self._blocks.move_to_end(chunk)
        return block

    def put(self, chunk: int, block: NDArray[Any]) -> None:
        """Keep a decoded inner chunk, in place of the one that was not used for longest."""
        if not self.most:
            return
        self._blocks[chunk] = block
        while len(self._blocks) > self.most:
            with suppress(KeyError):
                self._blocks.popitem(last=False)

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._blocks

    def note(self, rows: int, hits: int) -> None:
        """Count the rows of a lookup, and those of them that were decoded already."""
        self._noted.append((rows, hits))
        if len(self._noted) >= 1024:
            self.lookups()

    def lookups(self) -> tuple[int, int]:
        """Return how many rows were looked up, and how many of them were decoded already."""
        with suppress(IndexError):
            while True:
                rows, hits = self._noted.pop()
                self._sums[0] += rows
                self._sums[1] += hits
        return self._sums[0], self._sums[1]

    def held(self) -> tuple[int, int]:
        """Return how many rows are kept, and their bytes."""
        count = len(self._blocks)
        return count * self._block_rows, count * self._block_bytes
