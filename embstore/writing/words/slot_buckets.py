"""Words in the order of their home slots, also when they are too many to be sorted in memory.

1. The words of each bucket, a range of home slots, are counted.
2. The entry and the home slot of every word are written to the place of its bucket: in memory, or
   in two files without a name.
3. Each bucket is read back, and sorted in memory. Words with one home slot keep their order.

All that is read or written is sequential, or in as many places as there are buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embstore.formats.own import spec
from embstore.vocabulary import hashing
from embstore.writing.disk.scratch import ScratchArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    # Yields the hashes of all words in the order of their ids, each time it is called.
    AllHashes = Callable[[], Iterable[NDArray[np.uint64]]]

# The slots of a bucket, unless the memory is enough for more; a power of two.
LEAST_WIDTH = 1 << 12


class Bucket(NamedTuple):
    """The words whose home slots are in one range.

    Attributes
    ----------
    entries : ndarray of uint64, shape (n,)
        What the table holds for the words, in the order of their home slots and then of their ids.
    homes : ndarray of int64, shape (n,)
        Their home slots, ascending.
    """

    entries: NDArray[np.uint64]
    homes: NDArray[np.int64]


class SlotBuckets:
    """New words of a hash table, by their home slots.

    Parameters
    ----------
    hashes : callable
        Yields the words' hashes; it is called twice.
    first_id : int
        The id of the first word; the ids count up.
    slot_count : int
        Slots of the table, a power of two.
    memory_bytes : int
        The most memory to use for a bucket.
    directory : Path or None
        Where to create files. Without one, everything is in memory.

    Raises
    ------
    ValueError
        If so many words have their home slots in one bucket that no reader would find them all.
    """

    def __init__(
        self,
        hashes: AllHashes,
        first_id: int,
        slot_count: int,
        memory_bytes: int,
        directory: Path | None,
    ) -> None:
        self._width = min(bucket_width(memory_bytes), slot_count)
        self._shift = np.uint64(self._width.bit_length() - 1)
        self._mask = np.uint64(slot_count - 1)
        counts = np.zeros(slot_count // self._width, np.int64)
        for piece in hashes():
            counts += np.bincount(self._buckets(piece), minlength=len(counts))
        if counts.max() > self._width + spec.MAX_PROBE_COUNT:
            raise hashing.too_many_probes(spec.MAX_PROBE_COUNT)
        self._ends = np.cumsum(counts)
        self._entries = ScratchArray(np.uint64, 0, directory)
        self._homes = ScratchArray(np.uint32, 0, directory)
        try:
            self._distribute(hashes, first_id, self._ends - counts)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Bucket]:
        """Yield the buckets that are not empty, by ascending home slots."""
        start = 0
        for number, stop in enumerate(self._ends.tolist()):
            if stop == start:
                continue
            # One number to sort, of the slot above and the place below, takes a third of the time
            # of sorting places by slots.
            keys = self._homes.array[start:stop].astype(np.uint64)
            keys <<= np.uint64(32)
            keys |= np.arange(stop - start, dtype=np.uint64)
            keys.sort()
            order = (keys & np.uint64(0xFFFF_FFFF)).view(np.int64)
            entries = self._entries.array[start:stop].take(order)
            keys >>= np.uint64(32)
            homes = keys.view(np.int64)
            homes += number * self._width
            self._release()
            yield Bucket(entries, homes)
            start = stop

    def close(self) -> None:
        """Free the memory and the disk space."""
        self._entries.close()
        self._homes.close()

    def _buckets(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((hashes & self._mask) >> self._shift).view(np.int64)

    def _distribute(self, hashes: AllHashes, number: int, free: NDArray[np.int64]) -> None:
        """Write all words to their buckets, of which ``free`` are the first free places."""
        total = int(self._ends[-1])
        self._entries.resize(total)
        self._homes.resize(total)
        within = np.uint64(self._width - 1)
        # The narrower the numbers, the faster their stable sort.
        dtype = np.min_scalar_type(len(self._ends) - 1)
        for piece in hashes():
            buckets = self._buckets(piece)
            counts = np.bincount(buckets, minlength=len(free))
            order = np.argsort(buckets.astype(dtype), kind="stable")
            places = np.arange(len(piece)) + np.repeat(free - np.cumsum(counts) + counts, counts)
            ordered = piece.take(order)
            self._entries.array[places] = hashing.entries_of(ordered, order + number)
            self._homes.array[places] = ordered & within
            free += counts
            number += len(piece)
            self._release()

    def _release(self) -> None:
        self._entries.release()
        self._homes.release()


def bucket_width(memory_bytes: int) -> int:
    """Return how many slots a bucket has, a power of two.

    A table is at most half full, and sorting takes some 64 bytes a word.

    Examples
    --------
    >>> bucket_width(128 << 20) == 4 << 20, bucket_width(0) == LEAST_WIDTH
    (True, True)
    """
    return min(max(1 << max((memory_bytes // 32).bit_length() - 1, 0), LEAST_WIDTH), 1 << 31)
