"""Reads of a table in order, block after block, which announce the blocks that follow.

A caller works on a block while the device reads the next ones. This goes on while blocks come from
the device: the kernel's count of blocks that the thread caused to be read tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from embstore.reading.warmth import blocks_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")

# What is announced ahead of the caller.
AHEAD_BYTES = 8 << 20


def read_in_order(
    starts: Sequence[int],
    read: Callable[[int], Item],
    announce: Callable[[int], None],
    block_bytes: int,
) -> Iterator[Item]:
    """Yield blocks, while those that follow are being read.

    Parameters
    ----------
    starts : sequence of int
        The first id of each block, in the order in which they are read.
    read, announce : callable
        Reads a block, or starts to, given its first id.
    block_bytes : int
        Bytes of a block.
    """
    ahead = max(AHEAD_BYTES // max(block_bytes, 1), 1)
    announced, cold = 0, False
    for at, start in enumerate(starts, 1):
        before = blocks_read()
        block = read(start)
        cold = cold or blocks_read() > before
        if cold:
            announced, first = min(at + ahead, len(starts)), max(announced, at)
            before = blocks_read()
            for following in starts[first:announced]:
                announce(following)
            cold = announced == first or blocks_read() > before
        yield block
        del block  # Not kept while the next one is read.
