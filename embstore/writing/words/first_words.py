"""The first words of a table: those of rows that come to a store that has no rows yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embstore.writing.words.grown_vocabulary import EnteredWords
from embstore.writing.words.new_words import NewWords

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.vocabulary_manifest import VocabularyManifest
    from embstore.vocabulary.words import PackedWords
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.grown_arrays import NextArrays
    from embstore.writing.words.new_words import OnDuplicate


class FirstWords:
    """The words of a table that had neither rows nor words, used as a `GrownVocabulary` is.

    Parameters
    ----------
    arrays : NextArrays
        The arrays of the next version.
    memory_bytes, directory, on_duplicate
        As for `GrownVocabulary`.
    """

    def __init__(
        self,
        arrays: NextArrays,
        *,
        memory_bytes: int,
        directory: Path,
        on_duplicate: OnDuplicate,
    ) -> None:
        self._arrays = arrays
        self._words = NewWords(
            memory_bytes, directory, estimated_words=0, on_duplicate=on_duplicate
        )
        self.new_count = 0

    def enter(self, words: Iterable[str] | PackedWords | None, row_count: int) -> EnteredWords:
        """Add the words of a batch of rows; return which are new. Errors as `NewWords.enter`."""
        is_new = self._words.enter(words, row_count, is_first=not self._words.has_words)
        if words is None:
            raise ValueError("some rows have words and some have not; give words for all or none")
        first = self.new_count
        self.new_count += int(is_new.sum())
        ids = first - 1 + np.cumsum(is_new)
        return EnteredWords(ids, np.zeros(row_count, np.bool_), is_new)

    def find_unk(self) -> str | None:
        """Return the unk word, chosen as by a build that is not told one."""
        return self._words.find_unk(None)

    def write(self) -> tuple[list[ArrayWriter], VocabularyManifest]:
        """Write the arrays, after the last word."""
        return self._words.write(self._arrays.new_array)

    def hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the hashes of the words, in the order of their ids, piece by piece."""
        yield from self._words.hashes()

    def close(self) -> None:
        """Free the memory and the disk space that only the change needed."""
        self._words.close()
