"""The hash table of a vocabulary in progress, which becomes a file when it is large.

The accesses are random. So the words of a batch are grouped by windows of the table, which are
mapped one after the other: each page of a batch is touched once, and few are mapped at a time.

Many words are written to a file in the order of their home slots
(`embstore.writing.words.slot_buckets`). In a table that was empty, each gets the first slot that is
free from its home slot on, and those with one home slot come in the order of their ids. So the same
words give the same bytes.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from embstore.formats.own import spec
from embstore.vocabulary import hashing
from embstore.writing.disk.scratch import PIECE_LENGTH, ScratchArray
from embstore.writing.words.slot_buckets import Bucket, SlotBuckets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.writing.words.slot_buckets import AllHashes

LEAST_SLOTS = 1 << 12
# A page fault maps up to this much.
LEAST_WINDOW_BYTES = 64 << 10


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
        self._window_bytes = max(window_bytes, LEAST_WINDOW_BYTES)
        self._directory = directory
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

    def fill(self, hashes: AllHashes, first_id: int) -> None:
        """Insert all words of an empty table; their ids count up from ``first_id``.

        Raises
        ------
        ValueError
            If a word in a file takes more probes than readers make.
        """
        if not self.in_file:
            for piece in hashes():
                self.insert(piece, first_id)
                first_id += len(piece)
            return
        most = spec.MAX_PROBE_COUNT if self._most_probes is None else self._most_probes
        free, rest = 0, []  # The first slot after all words so far, and words beyond the last slot.
        with closing(self._buckets(hashes, first_id)) as buckets:
            for bucket in buckets:
                free, beyond = self._place(bucket, free)
                if len(beyond.homes):
                    rest.append(beyond)
                if self.probe_count > most:
                    raise hashing.too_many_probes(most)
        for bucket in rest:
            self._place_from_start(bucket)
        if self.probe_count > most:
            raise hashing.too_many_probes(most)

    def insert_many(self, hashes: AllHashes, first_id: int) -> None:
        """Insert many new words, as `insert`."""
        if not self.in_file:
            for piece in hashes():
                self.insert(piece, first_id)
                first_id += len(piece)
            return
        with closing(self._buckets(hashes, first_id)) as buckets:
            for bucket in buckets:
                self._insert_at(bucket)

    def find(
        self, hashes: NDArray[np.uint64], positions: NDArray[np.int64], confirm: hashing.Confirm
    ) -> NDArray[np.int64]:
        """Return the ids of the words at ``positions``; see `embstore.vocabulary.hashing.find`."""
        ids = np.empty(len(positions), np.int64)
        chosen = hashes if len(positions) == len(hashes) else hashes[positions]
        for part in self.windows(chosen):
            own = positions[part]

            def confirm_part(
                places: NDArray[np.int64],
                found: NDArray[np.int64],
                own: NDArray[np.int64] = own,
            ) -> NDArray[np.bool_]:
                return confirm(own[places], found)

            array = self._scratch.array
            ids[part] = hashing.find(array, hashes[own], self.probe_count, confirm_part)
            self._scratch.release()
        return ids

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

    def _buckets(self, hashes: AllHashes, first_id: int) -> SlotBuckets:
        return SlotBuckets(hashes, first_id, len(self), self._window_bytes, self._directory)

    def _place(self, bucket: Bucket, free: int) -> tuple[int, Bucket]:
        """Write the words of a bucket from the slot ``free`` on, where all words so far end.

        Returns
        -------
        free : int
            The slot after the last of them.
        beyond : Bucket
            Those that would be beyond the last slot of the table.
        """
        entries, homes = bucket
        # Each is in its home slot, or in the one after the word before it.
        ordinals = np.arange(len(homes))
        places = np.maximum(homes, free)
        places -= ordinals
        np.maximum.accumulate(places, out=places)
        places += ordinals
        count = int(np.searchsorted(places, len(self)))
        probes = int((places[:count] - homes[:count]).max(initial=-1)) + 1
        self.probe_count = max(self.probe_count, probes)
        if count:
            start, stop = int(places[0]), int(places[count - 1]) + 1
            slots = np.zeros(stop - start, np.uint64)
            slots[places[:count] - start] = entries[:count]
            self._scratch.write(start, slots)
        return int(places[-1]) + 1, Bucket(entries[count:], homes[count:])

    def _place_from_start(self, beyond: Bucket) -> None:
        """Write words that would be beyond the last slot to the first free slots."""
        entries, homes = beyond
        looked_at, places = 0, np.empty(0, np.int64)
        while len(places) < len(entries):
            looked_at += PIECE_LENGTH
            places = np.flatnonzero(self._scratch.array[:looked_at] == 0)
        places = places[: len(entries)]
        self._scratch.array[places] = entries
        self._scratch.release()
        probes = int((places - homes).max()) + len(self) + 1
        self.probe_count = max(self.probe_count, probes)

    def _insert_at(self, bucket: Bucket) -> None:
        array = self._scratch.array
        probes = hashing.insert_at(array, bucket.entries, bucket.homes, self._most_probes)
        self.probe_count = max(self.probe_count, probes)
        self._scratch.release()


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
