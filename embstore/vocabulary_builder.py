"""Which words of a build are new, and how do they become the vocabulary of a store?

1. A batch of words is packed and hashed, and looked up in the hash table so far, exactly as a
   reader does. What is found has come before.
2. What is left is new, but for repeats within the batch.
3. New words go to the end of the words, the offsets and the hashes, and into the table. The table
   doubles when two thirds of it are full; it is filled again from the hashes then.

No object is kept for a word. Each of the four arrays has its share of the memory, and is a file
beyond it (`embstore.scratch`): 100 million words are 5 GB of disk, and no more memory than ten
million. The table, which is touched all over, has a third; the other three have a third together;
the last third is for what is mapped of files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore import hashing, layout
from embstore.scratch import ScratchArray
from embstore.vocabulary import Vocabulary
from embstore.words import PackedWords, hash_words, pack_encoded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

DEFAULT_MEMORY_BYTES = 384 << 20
# Words looked up at once; few enough for the processor's cache.
WORDS_AT_ONCE = 1 << 14
# Elements copied at once.
PIECE_LENGTH = 1 << 18
# A page fault maps up to so much around it. A word touches the table, and if it has come before,
# its offsets and its bytes.
FAULT_BYTES = 64 << 10
FAULTS_PER_WORD = 3


class VocabularyBuilder:
    """Collects words for a new store, and finds repeats among them.

    Parameters
    ----------
    memory_bytes : int
        How much of it may be in memory.
    directory : Path, optional
        Where the rest goes; without one, everything is in memory.

    Examples
    --------
    >>> from embstore.words import pack
    >>> builder = VocabularyBuilder()
    >>> builder.add(pack(["the", "like", "the"])).tolist()
    [0, 1, 0]
    >>> len(builder)
    2
    """

    def __init__(
        self, memory_bytes: int = DEFAULT_MEMORY_BYTES, directory: Path | None = None
    ) -> None:
        self._memory_bytes = memory_bytes
        self._directory = directory
        self._data = ScratchArray(np.uint8, memory_bytes // 12, directory)
        self._offsets = ScratchArray(np.int64, memory_bytes // 12, directory)
        self._hashes = ScratchArray(np.uint64, memory_bytes // 12, directory)
        self._slots = ScratchArray(np.uint64, memory_bytes // 3, directory)
        self._words_at_most = max(memory_bytes // 3 // (FAULT_BYTES * FAULTS_PER_WORD), 64)
        self._offsets.resize(1)
        self._slots.resize(1 << 12)
        self._probe_count = 0

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def probe_count(self) -> int:
        """The most slots that finding a word takes."""
        return self._probe_count

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
        begin = 0
        while begin < len(words):
            count = self._words_at_most if self._in_files() else WORDS_AT_ONCE
            part = PackedWords(words.data, words.offsets[begin : begin + count + 1])
            ids[begin : begin + count] = self._add(part)
            self._release()
            begin += count
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
        if len(np.unique(hashes[places])) == len(places):
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
        stored = PackedWords(self._data.array, self._offsets.array)
        vocabulary = Vocabulary(stored, self._slots.array, self._probe_count)
        return vocabulary.ids_of_packed(words, hashes)

    def _append(self, words: PackedWords, hashes: NDArray[np.uint64]) -> None:
        begin, end = len(self), len(self) + len(words)
        first = int(words.offsets[0])
        self._offsets.append(words.offsets[1:] + (len(self._data) - first))
        self._data.append(words.data[first : int(words.offsets[-1])])
        self._hashes.append(hashes)
        if 3 * end > 2 * len(self._slots):
            self._rebuild(hashing.slot_count_for(end))
        else:
            self._insert(hashes, begin)

    def _rebuild(self, slot_count: int) -> None:
        """Fill a larger table with all words."""
        self._slots.close()
        self._slots = ScratchArray(np.uint64, self._memory_bytes // 3, self._directory)
        self._slots.resize(slot_count)
        self._probe_count = 0
        step = self._words_at_most if self._in_files() else PIECE_LENGTH
        for begin in range(0, len(self), step):
            self._insert(self._hashes.array[begin : begin + step], begin)
            self._release()

    def _insert(self, hashes: NDArray[np.uint64], first_id: int) -> None:
        probes = hashing.insert(self._slots.array, hashes, first_id)
        self._probe_count = max(self._probe_count, probes)

    def _stored(self) -> dict[str, ScratchArray]:
        return {
            layout.WORD_BYTES: self._data,
            layout.WORD_OFFSETS: self._offsets,
            layout.WORD_SLOTS: self._slots,
        }

    def _in_files(self) -> bool:
        return self._slots.in_file or self._data.in_file or self._offsets.in_file

    def _release(self) -> None:
        for scratch in (self._data, self._offsets, self._hashes, self._slots):
            scratch.release()
