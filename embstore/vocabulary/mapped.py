"""Words in mapped files, of which the pages that a batch needs are read together.

A word on the device costs three reads, each of which tells where the next one is: its slot, its
offset and its bytes. So a batch goes in three steps, each for all words at once: the pages are
announced, and then looked at.

1. Candidates are found by the slots alone. The 24 bits of the hash in a slot tell nearly all words
   apart.
2. The offsets of the candidates tell where their bytes are.
3. Then the ordinary search runs, on pages that are in RAM.

Announcing takes longer than looking up words that are in RAM. So it is done only while words are
expected on the device (`embstore.reading.warmth`).
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore import syscalls
from embstore.reading.mapping import AddressSpace, MappedFile
from embstore.reading.warmth import READ_SECONDS, READS_SECONDS, Warmth, blocks_read
from embstore.table.addresses import PAGE_BYTES
from embstore.vocabulary import hashing
from embstore.vocabulary.vocabulary import FEW_WORDS, PARTS, READ_AHEAD_BYTES, Vocabulary
from embstore.vocabulary.words import PackedWords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.formats.own.spec import RawArray
    from embstore.formats.own.vocabulary_manifest import VocabularyManifest
    from embstore.reading.mapping import Opener
    from embstore.vocabulary.hashing import Confirm, Finish

# Words whose pages are announced together: up to 64 MiB for each step.
WORDS_AT_ONCE = 1 << 14
# From this number of words on that are looked up one by one, the first tells whether they are in
# RAM.
TIMED_WORDS = 8
# Slots that are looked at before a batch, to see whether they are in RAM.
SAMPLED_SLOTS = 4
# Most searches read no more slots than these, so further pages are not announced.
NEAR_SLOTS = 8


class MappedVocabulary(Vocabulary):
    """The words of a store in mapped files that are read page by page; otherwise a `Vocabulary`."""

    def __init__(self, stored: PackedWords, slots: NDArray[np.uint64], probe_count: int) -> None:
        super().__init__(stored, slots, probe_count)
        self._warmth = Warmth()

    def __reduce__(self) -> tuple[Any, ...]:
        return Vocabulary, (self._stored, self._slots, self._probe_count)

    def words(self, ids: NDArray[np.int64]) -> Any:
        """Return the word of each id; errors as `Vocabulary.words`."""
        if ids.size > 1 and (self._warmth.cold or self._is_slow(self._offsets, int(ids.flat[0]))):
            before = blocks_read()
            self._announce_words(ids.ravel())
            self._warmth.note(ids.size, blocks_read() - before)
        return super().words(ids)

    def _ids(self, words: Sequence[str]) -> NDArray[np.int64]:
        count = len(words)
        if count > FEW_WORDS or (self._warmth.cold and count > 1):
            return self._ids_at_once(words)
        start = perf_counter()
        if count < TIMED_WORDS:
            ids = list(map(self.id_of, words))
        else:
            waiting = iter(words)
            ids = [self.id_of(next(waiting))]
            if perf_counter() - start > READ_SECONDS:
                self._warmth.chill()
                return self._ids_at_once(words)
            ids.extend(map(self.id_of, waiting))
        if perf_counter() - start > READS_SECONDS:
            self._warmth.chill()
        return np.array(ids, np.int64)

    def _find(
        self, hashes: NDArray[np.uint64], confirm: Confirm, finish: Finish | None
    ) -> NDArray[np.int64]:
        if not self._warmth.cold:
            homes = self._homes(hashes[:: len(hashes) // SAMPLED_SLOTS + 1])
            start = perf_counter()
            self._slots.take(homes)
            if perf_counter() - start < READ_SECONDS:
                found = super()._find(hashes, confirm, finish)
                self._warmth.note_slow(len(hashes), perf_counter() - start)
                return found
            self._warmth.chill()
        return self._find_cold(hashes, confirm, finish)

    def _find_cold(
        self, hashes: NDArray[np.uint64], confirm: Confirm, finish: Finish | None
    ) -> NDArray[np.int64]:
        """Find words as `_find`, with their pages announced as long as this is of use."""
        ids = np.empty(len(hashes), np.int64)
        start = 0
        while start < len(hashes):
            stop = min(start + WORDS_AT_ONCE, len(hashes)) if self._warmth.cold else len(hashes)
            before = blocks_read()
            if self._warmth.cold:
                self._announce(hashes[start:stop])

            def confirm_part(
                positions: NDArray[np.int64], found: NDArray[np.int64], start: int = start
            ) -> NDArray[np.bool_]:
                return confirm(positions + start, found)

            def finish_part(positions: NDArray[np.int64], start: int = start) -> list[int]:
                assert finish is not None
                return finish(positions + start)

            chosen = None if finish is None else finish_part
            ids[start:stop] = super()._find(hashes[start:stop], confirm_part, chosen)
            self._warmth.note(stop - start, blocks_read() - before)
            start = stop
        return ids

    def _announce(self, hashes: NDArray[np.uint64]) -> None:
        """Have the pages of words with these hashes read."""
        homes = self._homes(hashes)
        _announce(self._slots, homes, np.minimum(homes + NEAR_SLOTS, self._slot_mask))

        def accept(positions: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
            del ids
            return np.ones(len(positions), np.bool_)

        self._announce_words(hashing.find(self._slots, hashes, self._probe_count, accept))

    def _announce_words(self, ids: NDArray[np.int64]) -> None:
        """Have the offsets and the bytes of words read; ids out of range are left out."""
        ids = ids[(ids >= 0) & (ids < self._count)]
        _announce(self._offsets, ids, ids + 1)
        starts, stops = self._offsets.take(ids), self._offsets[1:].take(ids)
        # Damaged offsets, and words of many pages, are left to those who look at them.
        near = (starts >= 0) & (stops > starts) & (stops <= self._size_bytes)
        near &= stops - starts <= PAGE_BYTES
        _announce(self._stored.data, starts[near], stops[near] - 1)

    def _homes(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes & np.uint64(self._slot_mask)).view(np.int64)

    def _is_slow(self, array: NDArray[Any], place: int) -> bool:
        """Look at an item; return whether it was read from the device, and expect more then."""
        start = perf_counter()
        array.item(place)
        if perf_counter() - start < READ_SECONDS:
            return False
        self._warmth.chill()
        return True


def map_vocabulary(files: Opener, manifest: VocabularyManifest) -> Vocabulary:
    """Map the vocabulary of a store."""
    data, offsets, slots = (map_array(files, manifest.array(part)) for part in PARTS)
    # The kernel reads smaller ones with a few reads.
    kind = MappedVocabulary if slots.nbytes > READ_AHEAD_BYTES else Vocabulary
    return kind(PackedWords(data, offsets), slots, manifest.probe_count)


def map_array(files: Opener, array: RawArray) -> NDArray[Any]:
    """Map a one-dimensional array; its chunks must fit together without gaps."""
    pieces = [
        MappedFile(array.chunk_name(chunk), 0, chunk * array.chunk_bytes, array.chunk_bytes)
        for chunk in range(array.chunk_count)
    ]
    size_bytes = array.chunk_count * array.chunk_bytes
    # The kernel's read-ahead reads a small array with a few reads. Of a large one, a word needs
    # only single pages.
    space = AddressSpace(size_bytes, pieces, files, random=size_bytes > READ_AHEAD_BYTES)
    return space.data.view(array.dtype)[: array.shape[0]]


def _announce(array: NDArray[Any], firsts: NDArray[np.int64], lasts: NDArray[np.int64]) -> None:
    """Have the pages read that have the first or the last of some items of an array."""
    places = np.concatenate([firsts, lasts]) * array.itemsize + array.ctypes.data
    pages = np.unique(places // PAGE_BYTES) * PAGE_BYTES
    syscalls.advise_many(pages, np.full(len(pages), PAGE_BYTES), syscalls.MADV_WILLNEED)
