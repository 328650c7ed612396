"""Words of a remote store: read by blocks until their files are in the cache, then mapped.

Files of words that are mapped stay so while the store is open, whatever happens to the cache: their
space is freed when it is closed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import StoreCorruptError, StoreMappingError
from embstore.reading.file_cache import REQUEST_BYTES
from embstore.vocabulary.mapped import map_vocabulary
from embstore.vocabulary.ranged import RangedVocabulary
from embstore.vocabulary.vocabulary import PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.formats.own.vocabulary_manifest import VocabularyManifest
    from embstore.remote.cache.store_cache import StoreCache
    from embstore.table.protocols import Files

# Words that have at most this many bytes come whole when the first of them is looked up: a program
# that looks up one mostly looks up others.
FETCHED_AT_ONCE_BYTES = 64 << 20


class CachedWordFiles:
    """The files of a store's words, whose reads by range are counted by a cache.

    Parameters
    ----------
    files : Files
        The files of the store.
    cache : StoreCache
        Its cache.
    manifest : VocabularyManifest
        What the manifest says of the words.

    Attributes
    ----------
    numbers : list of int
        The numbers in the cache of all files of the words.
    """

    def __init__(self, files: Files, cache: StoreCache, manifest: VocabularyManifest) -> None:
        self._files, self._cache = files, cache
        self.remedy = files.remedy
        arrays = [manifest.array(part) for part in PARTS]
        names = [array.chunk_name(chunk) for array in arrays for chunk in range(array.chunk_count)]
        self.numbers = [cache.numbers[name] for name in names]
        total = sum(cache.chunks[number].size for number in self.numbers)
        self._at_once = total <= FETCHED_AT_ONCE_BYTES

    def are_on_disk(self) -> bool:
        """Say whether all files are in the directory of the cache, checked or not."""
        return all(self._cache.is_on_disk(number) for number in self.numbers)

    def are_here(self) -> bool:
        """Say whether all files are in the cache and were checked."""
        return all(self._cache.is_here(number) for number in self.numbers)

    def where(self, name: str) -> str:
        """Return the URL of a file."""
        return self._files.where(name)

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each range and its bytes, as they arrive."""
        numbers = np.array([self._cache.numbers[name] for name, _, _ in ranges], np.int64)
        costs = np.array([count + REQUEST_BYTES for _, _, count in ranges], np.float64)
        paid = np.bincount(numbers, costs, len(self._cache.chunks)).astype(np.float64)
        if self._at_once:
            for number in self.numbers:
                paid[number] += self._cache.chunks[number].size
        due = np.flatnonzero(paid)
        self._cache.missed(due, paid[due])
        yield from self._files.read_many(ranges)


class CachedVocabulary(RangedVocabulary):
    """The words of a store, read block by block until all their files are in the cache.

    Parameters
    ----------
    files : CachedWordFiles
        Their files.
    cache : StoreCache
        The cache.
    manifest : VocabularyManifest
        What the manifest says of them.
    """

    def __init__(
        self, files: CachedWordFiles, cache: StoreCache, manifest: VocabularyManifest
    ) -> None:
        proxy: Any = files
        super().__init__(proxy, manifest)
        self._word_files, self._cache = files, cache
        self._is_mapped = False

    def id_of(self, word: str) -> int:
        """Return the id of one word, -1 if it is missing; errors as `Vocabulary.id_of`."""
        return self.id_of(word) if self._map() else super().id_of(word)

    def ids(self, words: Any) -> NDArray[np.int64]:
        """Return the id of each word, -1 for a missing one; errors as `Vocabulary.ids`."""
        return self.ids(words) if self._map() else super().ids(words)

    def words(self, ids: NDArray[np.int64]) -> Any:
        """Return the word of each id; errors as `Vocabulary.words`."""
        return self.words(ids) if self._map() else super().words(ids)

    def _map(self) -> bool:
        """Use the mapped words from now on, if they have come; return whether this was done.

        Their functions become those of this object, because the functions of a class would take
        longer to call them than they take. Calls that have started go on with blocks.
        """
        if self._is_mapped or not self._word_files.are_here():
            return False
        with suppress(StoreCorruptError, StoreMappingError):  # Such as when they were evicted.
            mapped = map_vocabulary(self._cache, self._manifest)
            for name in ("id_of", "ids", "words", "word_of", "listed", "numbered", "packed"):
                setattr(self, name, getattr(mapped, name))
            self.is_near = True
            self._is_mapped = True
            return True
        return False
