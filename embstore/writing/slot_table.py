"""The hash table of a vocabulary in progress, which becomes a file when it is large.

The accesses are random. So the words of a batch are grouped by windows of the table, which are
mapped one after the other: each page of a batch is touched once, and few are mapped at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embstore.vocabulary import hashing
from embstore.writing.scratch import ScratchArray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LEAST_SLOTS = 1 << 12
# Elements copied, or inserted into a new table, at once.
PIECE_LENGTH = 1 << 18


class SlotTable:
    """A hash table to insert words into.

    Parameters
    ----------
    slot_count : int
        Its slots, a power of two.
    memory_bytes : int
        The largest size in memory; a larger table is a file.
    window_bytes : int
        The most bytes of a file that are mapped at a time.
    directory : Path, optional
        Where to create the file. Without one, the table is always in memory.
    most_probes : int, optional
        The most slots to read for a word; by default all.

    Attributes
    ----------
    probe_count : int
        The most slots that are read to find a word.
    """

    def __init__(
        self,
        slot_count: int,
        memory_bytes: int,
        window_bytes: int,
        directory: Path | None,
        most_probes: int | None = None,
    ) -> None:
        self._scratch = ScratchArray(np.uint64, memory_bytes, directory)
        try:
            self._scratch.resize(slot_count)
        except BaseException:
            self._scratch.close()
            raise
        self._window_bytes = window_bytes
        self._most_probes = most_probes
        self.probe_count = 0

    def __len__(self) -> int:
        return len(self._scratch)

    @property
    def scratch(self) -> ScratchArray:
        """The slots."""
        return self._scratch

    @property
    def in_file(self) -> bool:
        """Whether the table is a file."""
        return self._scratch.in_file

    def insert(self, hashes: NDArray[np.uint64], first_id: int) -> None:
        """Insert new words; their ids count up from ``first_id``.

        Raises
        ------
        ValueError
            If a word finds no free slot.
        """
        for part in self.windows(hashes):
            ids = part + first_id
            probes = hashing.insert(self._scratch.array, hashes[part], ids, self._most_probes)
            self.probe_count = max(self.probe_count, probes)
            self._scratch.release()

    def find(
        self, hashes: NDArray[np.uint64], positions: NDArray[np.int64], confirm: hashing.Confirm
    ) -> NDArray[np.int64]:
        """Return the ids of the words at ``positions``; see `embstore.vocabulary.hashing.find`."""
        found = hashing.find(self._scratch.array, hashes[positions], self.probe_count, confirm)
        self._scratch.release()
        return found

    def windows(self, hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
        """Yield the positions of the words in groups, one for each window of a file."""
        window_bytes = self._window_bytes if self.in_file else len(self) * 8
        yield from in_windows(hashes, len(self), window_bytes)

    def pieces(self, start: int, stop: int) -> Iterator[NDArray[np.uint64]]:
        """Yield the slots ``start .. stop - 1``, those of a file piece by piece."""
        step = PIECE_LENGTH if self.in_file else max(stop - start, 1)
        for first in range(start, stop, step):
            yield self._scratch.array[first : min(first + step, stop)]
            self._scratch.release()

    def close(self) -> None:
        """Free the memory and the disk space."""
        self._scratch.close()


def slots_needed(word_count: int) -> int:
    """Return how many slots a new table for some words has."""
    return max(hashing.slot_count_for(word_count), LEAST_SLOTS)


def is_too_full(word_count: int, slot_count: int) -> bool:
    """Say whether a table is too full for some words: a few of them would need very many probes.

    Examples
    --------
    >>> is_too_full(2048, 4096), is_too_full(2049, 4096)
    (False, True)
    """
    return 2 * word_count > slot_count


def in_windows(
    hashes: NDArray[np.uint64], slot_count: int, window_bytes: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of words in groups whose slots are in one window of a table.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,)
        The words' hashes.
    slot_count : int
        Slots of the table, a power of two.
    window_bytes : int
        Bytes of a window.

    Examples
    --------
    >>> hashes = np.array([5, 0, 7, 2], np.uint64)
    >>> [group.tolist() for group in in_windows(hashes, 8, 32)]
    [[1, 3], [0, 2]]
    """
    width = max(window_bytes // 8, 1)
    if width >= slot_count:
        yield np.arange(len(hashes))
        return
    slots = hashes & np.uint64(slot_count - 1)
    order = np.argsort(slots)
    windows = slots[order] // np.uint64(width)
    yield from np.split(order, np.flatnonzero(np.diff(windows)) + 1)
