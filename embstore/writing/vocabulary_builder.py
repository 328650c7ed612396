"""Which words of a build are new, and how do they become the vocabulary of a store?

1. A batch of words is packed and hashed, and looked up in the hash table so far, exactly as a
   reader does. What is found has come before.
2. What is left is new, but for repeats within the batch.
3. New words go to the end of the words, the offsets and the hashes, and into the table. The table
   doubles when half of it is full; it is filled again from the hashes then. Where an estimate of
   the number of words is given, it begins with the size that they need.

No object is kept for a word. Each of the four arrays has its share of the memory, and is a file
beyond it (`embstore.writing.scratch`): 100 million words are 5 GB of disk, and no more memory than
ten million. The table, which is touched all over, has a third; the other three have a third
together; the last third is for what is mapped of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.formats.own import spec
from embstore.vocabulary import hashing
from embstore.vocabulary.words import PackedWords, hash_words, pack_encoded
from embstore.writing.scratch import ScratchArray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

DEFAULT_MEMORY_BYTES = 384 << 20
LEAST_SLOTS = 1 << 12
# Words looked up at once while all is in memory; few enough for the processor's cache.
WORDS_AT_ONCE = 1 << 14
# Elements copied, or put into a new table, at once.
PIECE_LENGTH = 1 << 18
# A page fault maps up to so much around the page. To compare a word costs two.
FAULT_BYTES = 64 << 10
# What a word under way takes: its bytes as an object, its hash, places, ids.
WORD_UNDER_WAY_BYTES = 256


class VocabularyBuilder:
    """Collects words for a new store, and finds repeats among them.

    Parameters
    ----------
    memory_bytes : int
        How much of it may be in memory.
    directory : Path, optional
        Where the rest goes; without one, everything is in memory.
    estimated_words : int
        About how many words will come, 0 if nobody knows: a table that is large enough for them
        need not be filled again and again.

    Examples
    --------
    >>> from embstore.vocabulary.words import pack
    >>> builder = VocabularyBuilder()
    >>> builder.add(pack(["the", "like", "the"])).tolist()
    [0, 1, 0]
    >>> len(builder)
    2
    """

    def __init__(
        self,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        directory: Path | None = None,
        *,
        estimated_words: int = 0,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._directory = directory
        self._data = ScratchArray(np.uint8, memory_bytes // 12, directory)
        self._offsets = ScratchArray(np.int64, memory_bytes // 12, directory)
        self._hashes = ScratchArray(np.uint64, memory_bytes // 12, directory)
        self._slots = ScratchArray(np.uint64, memory_bytes // 3, directory)
        self._mapped_bytes = memory_bytes // 3  # At most, before they are given back.
        self._offsets.resize(1)
        # An estimate may be wrong: it takes no more than may be in memory.
        most = 1 << max((memory_bytes // 3 // 8).bit_length() - 1, 0)
        slot_count = min(hashing.slot_count_for(estimated_words), most)
        self._slots.resize(max(slot_count, LEAST_SLOTS))
        self._probe_count = 0

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def probe_count(self) -> int:
        """The most slots that finding a word takes."""
        return self._probe_count

    def finish(self) -> None:
        """Make a table that an estimate made too large smaller; no words come any more."""
        slot_count = max(hashing.slot_count_for(len(self)), LEAST_SLOTS)
        if slot_count < len(self._slots):
            self._rebuild(slot_count)

    def lengths(self) -> dict[str, int]:
        """Return the lengths of the arrays to store, by the format's names."""
        return {name: len(scratch) for name, scratch in self._stored().items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store, by the format's names."""
        return {name: scratch.array for name, scratch in self._stored().items()}

    def pieces(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield one of the arrays to store, piece by piece."""
        scratch = self._stored()[name]
        for begin in range(0, len(scratch), PIECE_LENGTH):
            yield scratch.array[begin : begin + PIECE_LENGTH]
            scratch.release()

    def ids(self, words: PackedWords) -> NDArray[np.int64]:
        """Return the id of each word, -1 where it is new."""
        return self._find(words, hash_words(words.encoded()))

    def add(self, words: PackedWords) -> NDArray[np.int64]:
        """Give ids to new words, in order; return the id of every word.

        Returns
        -------
        ids : ndarray of int64, shape (n,)
            The ids so far end where ``len(self)`` stood before the call: a larger or equal id is
            new, and counts up from there; a repeated one marks a repeat.
        """
        ids = np.empty(len(words), np.int64)
        count = WORDS_AT_ONCE
        if self._slots.in_file:  # More at once lie closer together in the table.
            count = max(count, min(8 * count, self._mapped_bytes // WORD_UNDER_WAY_BYTES))
        for begin in range(0, len(words), count):
            part = words.part(begin, begin + count)
            ids[begin : begin + count] = self._add(part)
        return ids

    def close(self) -> None:
        """Free the memory and the disk."""
        for scratch in (self._data, self._offsets, self._hashes, self._slots):
            scratch.close()

    def _add(self, words: PackedWords) -> NDArray[np.int64]:
        encoded = words.encoded()
        hashes = hash_words(encoded)
        ids = self._find(words, hashes)
        places = np.flatnonzero(ids < 0)
        if not places.size:
            return ids
        first = len(self)
        ordered = np.sort(hashes[places])
        if (ordered[1:] != ordered[:-1]).all():
            ids[places] = np.arange(first, first + len(places))
        else:
            # Repeats within the batch: each word's first place gives it its id.
            fresh: dict[bytes, int] = {}
            for place in places.tolist():
                ids[place] = fresh.setdefault(encoded[place], first + len(fresh))
            highest = np.maximum.accumulate(np.concatenate([[first - 1], ids[places][:-1]]))
            places = places[ids[places] > highest]
        if len(places) < len(words):
            words = pack_encoded([encoded[place] for place in places.tolist()])
        self._append(words, hashes[places])
        return ids

    def _find(self, words: PackedWords, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        ids = np.empty(len(words), np.int64)
        for part in self._windows(hashes):

            def confirm(
                positions: NDArray[np.int64],
                found: NDArray[np.int64],
                part: NDArray[np.int64] = part,
            ) -> NDArray[np.bool_]:
                return self._equal(found, words, part[positions])

            ids[part] = hashing.find(self._slots.array, hashes[part], self._probe_count, confirm)
            self._slots.release()
        return ids

    def _equal(
        self, ids: NDArray[np.int64], words: PackedWords, places: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Say where the word of an id is the word at a place."""
        stored = PackedWords(self._data.array, self._offsets.array)
        same = np.empty(len(ids), np.bool_)
        step = max(self._mapped_bytes // (2 * FAULT_BYTES), 16)
        for begin in range(0, len(ids), step):
            part = slice(begin, begin + step)
            same[part] = stored.equal(ids[part], words, places[part])
            self._data.release()
            self._offsets.release()
        return same

    def _append(self, words: PackedWords, hashes: NDArray[np.uint64]) -> None:
        begin, end = len(self), len(self) + len(words)
        first = int(words.offsets[0])
        self._offsets.append(words.offsets[1:] + (len(self._data) - first))
        self._data.append(words.data[first : int(words.offsets[-1])])
        self._hashes.append(hashes)
        # In a table that is fuller, a few words have to look at very many slots.
        if 2 * end > len(self._slots):
            self._rebuild(hashing.slot_count_for(end))
        else:
            self._insert(hashes, begin)

    def _rebuild(self, slot_count: int) -> None:
        """Fill a larger table with all words."""
        self._slots.close()
        self._slots = ScratchArray(np.uint64, self._memory_bytes // 3, self._directory)
        self._slots.resize(slot_count)
        self._probe_count = 0
        for begin in range(0, len(self), PIECE_LENGTH):
            self._insert(self._hashes.array[begin : begin + PIECE_LENGTH], begin)
            self._hashes.release()

    def _insert(self, hashes: NDArray[np.uint64], first_id: int) -> None:
        for part in self._windows(hashes):
            probes = hashing.insert(self._slots.array, hashes[part], part + first_id)
            self._probe_count = max(self._probe_count, probes)
            self._slots.release()

    def _windows(self, hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
        """Yield the words' positions, those together whose slots lie close together.

        So not more than a window of the table is mapped at a time, and each page of it once.
        """
        if not self._slots.in_file:
            yield np.arange(len(hashes))
            return
        places = hashes & np.uint64(len(self._slots) - 1)
        order = np.argsort(places)
        windows = places[order] // np.uint64(max(self._mapped_bytes // 8, 1))
        yield from np.split(order, np.flatnonzero(np.diff(windows)) + 1)

    def _stored(self) -> dict[str, ScratchArray]:
        return {
            spec.WORD_BYTES: self._data,
            spec.WORD_OFFSETS: self._offsets,
            spec.WORD_SLOTS: self._slots,
        }
