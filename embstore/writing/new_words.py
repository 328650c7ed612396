"""Which rows of a store that is written have new words, and which word stands for unknown ones?

A word that comes again is an error, or its row is dropped: a store has each word once. In the end
the words become Zarr arrays like the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import DuplicateWordError, SourceError
from embstore.formats.own import spec
from embstore.formats.own.manifest import ArraySize, VocabularyManifest
from embstore.vocabulary.words import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.vocabulary.words import PackedWords
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.vocabulary_builder import VocabularyBuilder

    # Makes the writer of an array: its name, shape of an item, dtype and chunk_rows.
    MakeArray = Callable[[str, tuple[int, ...], np.dtype[Any], int], ArrayWriter]

OnDuplicate = Literal["error", "first"]

# What stands for unknown words in the files that people have; the first one found is taken.
UNK_WORDS = ("<unk>", "[UNK]", "<UNK>", "UNK")


class NewWords:
    """The words of a store that is written.

    Parameters
    ----------
    builder : VocabularyBuilder
        Empty; it keeps them.
    on_duplicate : {"error", "first"}
        What to do when a word comes again: raise, or drop its row.
    """

    def __init__(self, builder: VocabularyBuilder, on_duplicate: OnDuplicate) -> None:
        self._builder = builder
        self._on_duplicate = on_duplicate

    def enter(self, words: PackedWords) -> NDArray[np.bool_]:
        """Take in words; return which of them are new, shape (n,).

        Raises
        ------
        DuplicateWordError
            If one has come before, under ``on_duplicate="error"``.
        """
        before = len(self._builder)
        ids = self._builder.add(words)
        # A word is new where its id is above all ids before it.
        highest = np.maximum.accumulate(np.concatenate([[before - 1], ids[:-1]]))
        new: NDArray[np.bool_] = ids > highest[: len(ids)]
        if self._on_duplicate == "error" and not new.all():
            position = int(np.flatnonzero(~new)[0])
            word = words.encoded()[position].decode()
            raise DuplicateWordError(word, position, int(ids[position]))
        return new

    def find_unk(self, wanted: str | None) -> str | None:
        """Return the word that stands for unknown ones: ``wanted``, or the first usual one there.

        Raises
        ------
        SourceError
            If ``wanted`` is not there.
        """
        candidates = UNK_WORDS if wanted is None else (wanted,)
        found = self._builder.ids(pack(candidates, "surrogatepass"))
        for word, known in zip(candidates, found.tolist(), strict=True):
            if known >= 0:
                return word
        if wanted is not None:
            raise SourceError(
                f"the unk word {wanted!r} is not among the {len(self._builder)} words; "
                "name another, or leave it out to look for the usual ones"
            )
        return None

    def write(self, make_array: MakeArray) -> tuple[list[ArrayWriter], VocabularyManifest]:
        """Write the vocabulary's arrays; return their writers, and what the manifest says of them.

        No words come any more.
        """
        self._builder.finish()
        writers, sizes = [], {}
        for part, length in self._builder.lengths().items():
            dtype = np.dtype(spec.VOCABULARY_DTYPES[part])
            chunk_rows = spec.choose_chunk_rows(length, dtype.itemsize)
            writer = make_array(spec.vocabulary_name(part), (), dtype, chunk_rows)
            for piece in self._builder.pieces(part):
                writer.append(piece)
            writers.append(writer)
            sizes[part] = ArraySize(length, chunk_rows)
        return writers, VocabularyManifest(self._builder.probe_count, sizes)

    def close(self) -> None:
        """Free memory, and disk that only the build needed."""
        self._builder.close()
