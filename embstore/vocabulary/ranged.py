"""Words on another machine: the blocks of the hash table, offsets and bytes that are needed.

1. The slots that may hold a word are known from its hash. Their blocks are read for all words of a
   call at once; then the offsets of the candidates, then their bytes.
2. Blocks are kept, so words that are asked for again, or that are near them, cost no request.
3. Blocks have no checksums of their own. A damaged slot, offset or word is noticed as in files: by
   the bounds, and because a word must have the bytes that were asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.vocabulary.blocks import BlockArray, read_blocks
from embstore.vocabulary.vocabulary import PARTS, Vocabulary
from embstore.vocabulary.words import PackedWords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.formats.own.vocabulary_manifest import VocabularyManifest
    from embstore.table.protocols import Files
    from embstore.vocabulary.hashing import Confirm, Finish


class RangedVocabulary(Vocabulary):
    """The words of a store, read block by block.

    Parameters
    ----------
    files : Files
        The files of the store.
    manifest : VocabularyManifest
        What the manifest says of its words.
    """

    is_near = False

    def __init__(self, files: Files, manifest: VocabularyManifest) -> None:
        self._files, self._manifest = files, manifest
        arrays = [BlockArray(files, manifest.array(part)) for part in PARTS]
        self._byte_blocks, self._offset_blocks, self._slot_blocks = arrays
        data, offsets, slots = (array.data for array in arrays)
        super().__init__(PackedWords(data, offsets), slots, manifest.probe_count)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._files, self._manifest)

    def id_of(self, word: str) -> int:
        """Return the id of one word, -1 if it is missing; errors as `Vocabulary.id_of`."""
        return int(self._ids([word])[0])

    def _ids(self, words: Sequence[str]) -> NDArray[np.int64]:
        return self._ids_at_once(words) if words else np.empty(0, np.int64)

    def word_of(self, number: int) -> str:
        """Return the word of one id, which is in range; errors as `words`."""
        found: str = self.words(np.array(number))
        return found

    def _find(
        self, hashes: NDArray[np.uint64], confirm: Confirm, finish: Finish | None
    ) -> NDArray[np.int64]:
        self._read_slots(hashes)
        return super()._find(hashes, confirm, None)

    def _read_slots(self, hashes: NDArray[np.uint64]) -> None:
        """Read all slots that may hold words with these hashes."""
        total = len(self._slots)
        starts = (hashes & np.uint64(total - 1)).view(np.int64)
        left = np.full(len(starts), self._probe_count)
        first = np.minimum(left, total - starts)
        # A search that reaches the last slot goes on at the first one.
        rest = left - first
        places = np.concatenate([starts, np.zeros_like(starts)])
        read_blocks(self._files, [(self._slot_blocks, places, np.concatenate([first, rest]))])

    def _spans(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        inside = ids[(ids >= 0) & (ids < self._count)]  # Others are an error.
        twos = np.full(len(inside), 2)
        read_blocks(self._files, [(self._offset_blocks, inside, twos)])
        starts, lengths = super()._spans(ids)
        read_blocks(self._files, [(self._byte_blocks, starts, lengths)])
        return starts, lengths
