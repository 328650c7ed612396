"""The builder of a vocabulary: gives ids to new words and finds repeated ones.

1. A batch of words is packed and hashed, and looked up in the index
   (`embstore.writing.words.word_index`). Words that are found are repeats.
2. The others are new, except for repeats within the batch.
3. New words are appended to the bytes, offsets and hashes, and inserted into the index. After the
   last word, it makes one hash table of them all.

No object is kept for a word. The bytes, offsets and hashes have a twelfth of the memory each, and
become files beyond it (`embstore.writing.disk.scratch`). A third is for the index's table in
memory, and a quarter for mapped pages of files. With the first table in a file, the index adds a
filter of a third: by then, the other arrays are files, too. 100 million words need some 7 GB of
disk besides those of the store, and no more memory than ten million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.formats.own import spec
from embstore.vocabulary.words import PackedWords, hash_words, pack_encoded
from embstore.writing.disk.scratch import ScratchArray, pieces_of
from embstore.writing.words.word_index import WordIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

DEFAULT_MEMORY_BYTES = 384 << 20
# Words looked up at once; their data fits the processor's cache.
WORDS_AT_ONCE = 1 << 14
# The most that a page fault maps around the page. Comparing a word costs two faults.
FAULT_BYTES = 64 << 10


class VocabularyBuilder:
    """Collects the words of a new store and finds repeated ones.

    Parameters
    ----------
    memory_bytes : int
        The most memory to use.
    directory : Path, optional
        Where to create files for the rest; without one, everything is in memory.
    estimated_words : int
        An estimate of the number of words, 0 if unknown. A table that is large enough for them is
        never filled again.

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
        self._data = ScratchArray(np.uint8, memory_bytes // 12, directory)
        self._offsets = ScratchArray(np.int64, memory_bytes // 12, directory)
        self._hashes = ScratchArray(np.uint64, memory_bytes // 12, directory)
        self._mapped_bytes = memory_bytes // 4  # The most mapped pages before a release.
        self._offsets.resize(1)
        self._index = WordIndex(
            self._hashes, memory_bytes // 3, self._mapped_bytes, directory, estimated_words
        )

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def byte_count(self) -> int:
        """The bytes of all words."""
        return len(self._data)

    @property
    def probe_count(self) -> int:
        """The most slots that are read to find a word, after `finish`."""
        return self._index.table.probe_count

    def finish(self) -> None:
        """Make one hash table of all words, after the last one.

        Raises
        ------
        ValueError
            If so many hashes collide that no reader would find every word.
        """
        self._index.finish()

    def lengths(self) -> dict[str, int]:
        """Return the lengths of the arrays to store, by their names in the format."""
        return {name: len(scratch) for name, scratch in self._stored().items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store, by their names in the format."""
        return {name: scratch.array for name, scratch in self._stored().items()}

    def pieces(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield an array to store, piece by piece."""
        yield from pieces_of(self._stored()[name])

    def hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the hashes of all words, in the order of their ids, piece by piece."""
        yield from pieces_of(self._hashes)

    def ids(self, words: PackedWords) -> NDArray[np.int64]:
        """Return the id of each word, -1 for a new one."""
        return self._find(words, hash_words(words.encoded()))

    def add(self, words: PackedWords) -> NDArray[np.int64]:
        """Give consecutive ids to new words; return the id of every word.

        Returns
        -------
        ids : ndarray of int64, shape (n,)
            An id that is ``len(self)`` before the call, or higher, is new. The first occurrence of
            such an id is the new word, further ones are repeats.
        """
        ids = np.empty(len(words), np.int64)
        for start in range(0, len(words), WORDS_AT_ONCE):
            stop = start + WORDS_AT_ONCE
            ids[start:stop] = self._add(words.part(start, stop))
        return ids

    def drop_index(self) -> None:
        """Free the index, after the last word."""
        self._index.close()

    def close(self) -> None:
        """Free the memory and the disk space."""
        for part in (self._data, self._offsets, self._hashes, self._index):
            part.close()

    def _add(self, words: PackedWords) -> NDArray[np.int64]:
        encoded = words.encoded()
        hashes = hash_words(encoded)
        ids = self._find(words, hashes)
        positions = np.flatnonzero(ids < 0)
        if not positions.size:
            return ids
        first = len(self)
        ordered = np.sort(hashes[positions])
        if (ordered[1:] != ordered[:-1]).all():
            ids[positions] = np.arange(first, first + len(positions))
        else:
            # There may be repeats within the batch: the first occurrence determines the id.
            fresh: dict[bytes, int] = {}
            for position in positions.tolist():
                ids[position] = fresh.setdefault(encoded[position], first + len(fresh))
            highest = np.maximum.accumulate(np.concatenate([[first - 1], ids[positions][:-1]]))
            positions = positions[ids[positions] > highest]
        if len(positions) < len(words):
            words = pack_encoded([encoded[position] for position in positions.tolist()])
        self._append(words, hashes[positions])
        return ids

    def _find(self, words: PackedWords, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        def confirm(positions: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.bool_]:
            return self._equal(found, words, positions)

        return self._index.find(hashes, confirm)

    def _equal(
        self, ids: NDArray[np.int64], words: PackedWords, positions: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return where the stored word of ``ids[k]`` equals ``words`` at ``positions[k]``."""
        stored = PackedWords(self._data.array, self._offsets.array)
        same = np.empty(len(ids), np.bool_)
        step = max(self._mapped_bytes // (2 * FAULT_BYTES), 16)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            same[part] = stored.equal(ids[part], words, positions[part])
            self._data.release()
            self._offsets.release()
        return same

    def _append(self, words: PackedWords, hashes: NDArray[np.uint64]) -> None:
        first_id, first_byte = len(self), int(words.offsets[0])
        self._offsets.append(words.offsets[1:] + (len(self._data) - first_byte))
        self._data.append(words.data[first_byte : int(words.offsets[-1])])
        self._hashes.append(hashes)
        self._index.insert(hashes, first_id)

    def _stored(self) -> dict[str, ScratchArray]:
        return {
            spec.WORD_BYTES: self._data,
            spec.WORD_OFFSETS: self._offsets,
            spec.WORD_SLOTS: self._index.table.scratch,
        }
