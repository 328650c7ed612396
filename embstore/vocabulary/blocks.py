"""Arrays that are read block by block, when they are needed, and kept.

1. An array has its full size in reserved memory, which costs nothing until it is written to. So the
   code for arrays in files works on it.
2. Before a part is looked at, its blocks of 64 KiB that have not been read are requested, all at
   once, neighbours in one request.
3. Several threads may read a block at the same time; they write the same bytes. It counts as read
   only after it was written.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import StoreCorruptError, StoreMappingError
from embstore.reading.files import LocalFiles
from embstore.table.plan import runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.formats.own.spec import RawArray
    from embstore.table.protocols import Files

# A divisor of the bytes of a chunk, where an array has several.
BLOCK_BYTES = 64 << 10
# Neighbours are requested together, up to this.
MAX_RUN_BYTES = 4 << 20


class BlockArray:
    """A one-dimensional array of a store, of which some blocks have been read.

    Parameters
    ----------
    files : Files
        The files of the store.
    array : RawArray
        The array; its chunks fit together without gaps.

    Attributes
    ----------
    data : ndarray, shape (length,)
        The array; zeros where it has not been read.

    Raises
    ------
    StoreMappingError
        If the system refuses to reserve the memory.
    """

    def __init__(self, files: Files, array: RawArray) -> None:
        self._files, self._array = files, array
        # A version at a URL never changes; files on a disk may be replaced by another store's.
        self._identity = files.identity if isinstance(files, LocalFiles) else None
        size_bytes = array.chunk_count * array.chunk_bytes
        try:
            self._memory = mmap.mmap(-1, max(size_bytes, 1), flags=_FLAGS)
            self._has = np.zeros(-(-size_bytes // BLOCK_BYTES), np.bool_)
        except (OSError, OverflowError, MemoryError) as error:
            raise StoreMappingError(
                f"the system refuses to reserve {size_bytes} bytes of memory for "
                f"{files.where(array.name)} ({error})"
            ) from error
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._size_bytes = size_bytes
        self.data: NDArray[Any] = self._bytes[:size_bytes].view(array.dtype)[: array.shape[0]]

    def missing(
        self, starts: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> list[tuple[int, int]]:
        """Return the ranges of bytes to read before some items can be looked at.

        Parameters
        ----------
        starts, counts : ndarray of int64, shape (n,)
            The first items, and how many they are; all in range.
        """
        size = self._array.dtype.itemsize
        chosen = counts > 0
        firsts = starts[chosen] * size // BLOCK_BYTES
        lasts = ((starts[chosen] + counts[chosen]) * size - 1) // BLOCK_BYTES
        longest = int((lasts - firsts).max(initial=0))
        # Most items are in one block or two.
        every = [firsts, lasts]
        if longest > 1:
            long = np.flatnonzero(lasts - firsts > 1).tolist()
            every += [np.arange(firsts[at] + 1, lasts[at]) for at in long]
        blocks = np.unique(np.concatenate(every))
        blocks = blocks[~self._has[blocks]]
        found = runs(blocks, 1, max_run=MAX_RUN_BYTES // BLOCK_BYTES)
        return [
            (first * BLOCK_BYTES, min((first + count) * BLOCK_BYTES, self._size_bytes))
            for first, count in zip(found.firsts.tolist(), found.counts.tolist(), strict=True)
        ]

    def pieces(self, start: int, stop: int) -> Iterator[tuple[str, int, int, int]]:
        """Yield the file of each piece of a range of bytes, its first byte there, count, place."""
        while start < stop:
            chunk, first = divmod(start, self._array.chunk_bytes)
            count = min(stop - start, self._array.chunk_bytes - first)
            yield self._array.chunk_name(chunk), first, count, start
            start += count

    def put(self, name: str, place: int, count: int, data: bytes) -> None:
        """Keep some blocks that were read.

        Raises
        ------
        StoreNotFoundError
            If the store was replaced since it was opened.
        StoreCorruptError
            If there are too few bytes.
        """
        if self._identity is not None:
            self._files.check_identity(self._identity)
        if len(data) != count:
            raise StoreCorruptError(
                f"{self._files.where(name)} ends {count - len(data)} bytes early; "
                f"{self._files.remedy}"
            )
        self._bytes[place : place + count] = np.frombuffer(data, np.uint8)
        self._has[place // BLOCK_BYTES : -(-(place + count) // BLOCK_BYTES)] = True


def read_blocks(
    files: Files,
    wanted: Sequence[tuple[BlockArray, NDArray[np.int64], NDArray[np.int64]]],
) -> None:
    """Read the blocks of some items of arrays that have not been read, all at once.

    Parameters
    ----------
    files : Files
        The files of the store.
    wanted : sequence of (BlockArray, ndarray of int64, ndarray of int64)
        The arrays, the first items, and how many they are; all in range.
    """
    pieces = [
        (array, *piece)
        for array, starts, counts in wanted
        for start, stop in array.missing(starts, counts)
        for piece in array.pieces(start, stop)
    ]
    if pieces:
        ranges = [(name, first, count) for _, name, first, count, _ in pieces]
        for at, data in files.read_many(ranges):
            array, name, _, count, place = pieces[at]
            array.put(name, place, count, data)


_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
