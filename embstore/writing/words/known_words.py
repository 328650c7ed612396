"""The words of the old version of a table that changes: looked up, and hashed again.

The vocabulary is mapped. A large one is looked at in steps, after which its pages are unmapped, as
`embstore.writing.words.vocabulary_builder` does with its files.

Damage must not make a known word look new. So a chunk of the hash table is compared with its
checksum before it is first searched. And where a slot has the 24 bits of a word's hash, but another
word, which is one chance in 16 million, the chunks with that word are compared with theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore import syscalls
from embstore.formats.own import spec
from embstore.vocabulary import hashing
from embstore.vocabulary.damage import damaged
from embstore.vocabulary.words import PackedWords, hash_words
from embstore.writing.disk.scratch import PIECE_LENGTH
from embstore.writing.words.slot_table import in_windows
from embstore.writing.words.vocabulary_builder import FAULT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.formats.own.vocabulary_manifest import VocabularyManifest
    from embstore.vocabulary import Vocabulary
    from embstore.writing.grown_arrays import NextArrays
    from embstore.writing.words.slot_table import SlotTable


class KnownWords:
    """The words of the old version.

    Parameters
    ----------
    vocabulary : Vocabulary
        The words, mapped.
    manifest : VocabularyManifest
        What the old manifest says of them.
    arrays : NextArrays
        Checks chunks of the old version.
    mapped_bytes : int
        The most mapped pages before a release.

    Raises
    ------
    StoreCorruptError
        If the first or the last offset is wrong.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        manifest: VocabularyManifest,
        arrays: NextArrays,
        mapped_bytes: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._probe_count = manifest.probe_count
        self._arrays = arrays
        self._mapped_bytes = mapped_bytes
        stored = vocabulary.stored
        self._slots = vocabulary.slots
        self._mapped: tuple[NDArray[Any], ...] = (stored.data, stored.offsets, self._slots)
        self._is_large = sum(array.nbytes for array in self._mapped) > mapped_bytes
        self._byte_array = manifest.array(spec.WORD_BYTES)
        self._offset_array = manifest.array(spec.WORD_OFFSETS)
        self._slot_array = manifest.array(spec.WORD_SLOTS)
        self._checked = np.zeros(self._slot_array.chunk_count, np.bool_)
        first, last = int(stored.offsets[0]), int(stored.offsets[-1])
        if (first, last) != (0, len(stored.data)):
            raise damaged(
                f"its words are the bytes {first} to {last}, but {len(stored.data)} are stored"
            )

    def __len__(self) -> int:
        return len(self._vocabulary)

    def ids(self, words: PackedWords, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the id of each word, -1 for one that is missing.

        Raises
        ------
        StoreCorruptError
            If the words are damaged.
        """
        self._check_slots(hashes)
        ids = np.empty(len(words), np.int64)
        window_bytes = self._mapped_bytes if self._is_large else self._slots.nbytes
        for part in in_windows(hashes, len(self._slots), window_bytes):

            def confirm(
                positions: NDArray[np.int64],
                found: NDArray[np.int64],
                part: NDArray[np.int64] = part,
            ) -> NDArray[np.bool_]:
                return self._equal(found, words, part[positions])

            ids[part] = hashing.find(self._slots, hashes[part], self._probe_count, confirm)
            self.release()
        return ids

    def hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the hashes of all words, in the order of their ids, piece by piece.

        Raises
        ------
        StoreCorruptError
            If the offsets are damaged.
        """
        offsets, start = self._vocabulary.stored.offsets, 0
        most_bytes = max(self._mapped_bytes // 4, 1)
        while start < len(self):
            ends = offsets[start + 1 : start + 1 + PIECE_LENGTH // 4]
            # As many words as have together the allowed bytes, but one or more.
            count = max(int(np.searchsorted(ends, offsets[start] + most_bytes)), 1)
            packed = self._vocabulary.packed(start, start + count)
            yield hash_words(packed.encoded())
            start += count
            self.release()

    def copy_slots(self, table: SlotTable) -> None:
        """Copy the hash table into a larger or equal one, which is empty.

        Raises
        ------
        StoreCorruptError
            If it does not have as many entries as there are words.
        """
        entry_count = 0
        for start in range(0, len(self._slots), PIECE_LENGTH):
            piece = self._slots[start : start + PIECE_LENGTH]
            entry_count += int(np.count_nonzero(piece))
            table.scratch.array[start : start + PIECE_LENGTH] = piece
            table.scratch.release()
            self.release()
        if entry_count != len(self):
            raise damaged(f"its hash table has {entry_count} entries for {len(self)} words")
        table.probe_count = self._probe_count

    def changed_chunks(self, table: SlotTable) -> list[int]:
        """Return the chunks of the hash table in which another one of the same length differs."""
        changed = []
        for chunk in range(self._slot_array.chunk_count):
            start = chunk * self._slot_array.chunk_rows
            stop = min(start + self._slot_array.chunk_rows, len(self._slots))
            if not self._is_same(table, start, stop):
                changed.append(chunk)
        return changed

    def release(self) -> None:
        """Unmap the pages of a large vocabulary; they stay in the page cache."""
        if self._is_large:
            for array in self._mapped:
                syscalls.advise(array.ctypes.data, array.nbytes, syscalls.MADV_DONTNEED)

    def _check_slots(self, hashes: NDArray[np.uint64]) -> None:
        """Check the chunks of the hash table that are searched for words with these hashes."""
        if self._checked.all():
            return
        total, chunk_rows = len(self._slots), self._slot_array.chunk_rows
        starts = (hashes & np.uint64(total - 1)).view(np.int64)
        # A chunk has more slots than one search reads, unless it is the only one.
        ends = (starts + self._probe_count) & (total - 1)
        for chunk in np.unique(np.concatenate([starts, ends]) // chunk_rows).tolist():
            if not self._checked[chunk]:
                self._arrays.check_chunk(self._slot_array, chunk)
                self._checked[chunk] = True

    def _equal(
        self, ids: NDArray[np.int64], words: PackedWords, positions: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return where the word of ``ids[k]`` equals ``words`` at ``positions[k]``."""
        same = np.empty(len(ids), np.bool_)
        step = len(ids)
        if self._is_large:
            step = max(self._mapped_bytes // (2 * FAULT_BYTES), 16)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            same[part] = self._vocabulary.equal(ids[part], words, positions[part])
            self.release()
        if not same.all():
            self._check_words(ids[~same])
        return same

    def _check_words(self, ids: NDArray[np.int64]) -> None:
        """Check the chunks that have the words of some ids, which are in range."""
        offsets = self._vocabulary.stored.offsets
        for number in ids.tolist():
            span = (int(offsets[number]), int(offsets[number + 1]))
            for array, first, stop in (
                (self._offset_array, number, number + 2),
                (self._byte_array, *span),
            ):
                for chunk in range(first // array.chunk_rows, -(-stop // array.chunk_rows)):
                    self._arrays.check_chunk(array, chunk)

    def _is_same(self, table: SlotTable, start: int, stop: int) -> bool:
        for first in range(start, stop, PIECE_LENGTH):
            part = slice(first, min(first + PIECE_LENGTH, stop))
            same = np.array_equal(self._slots[part], table.scratch.array[part])
            table.scratch.release()
            self.release()
            if not same:
                return False
        return True
