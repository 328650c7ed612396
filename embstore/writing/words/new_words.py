"""The words of a store in progress: which are new, and which is the unk word.

A store has each word once. A repeated word is an error, or its row is dropped. At the end the words
become Zarr arrays like the rows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import DuplicateWordError, SourceError
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize
from embstore.formats.own.vocabulary_manifest import VocabularyManifest
from embstore.vocabulary.words import PackedWords, pack
from embstore.wording import parameter
from embstore.writing.words.vocabulary_builder import VocabularyBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.writing.arrays import ArrayWriter

    # Returns the writer of a new array, given its name, item shape, dtype and chunk_rows.
    MakeArray = Callable[[str, tuple[int, ...], np.dtype[Any], int], ArrayWriter]

OnDuplicate = Literal["error", "first"]

# Common unk words in published files; the first one found is used.
UNK_WORDS = ("<unk>", "[UNK]", "<UNK>", "UNK")


class NewWords:
    """The words of a store in progress; none if its rows have no words.

    Parameters
    ----------
    memory_bytes : int
        The most memory for the words.
    directory : Path
        Where to create files for the rest.
    estimated_words : int
        An estimate of the number of words, 0 if unknown.
    on_duplicate : {"error", "first"}
        What to do with a repeated word: raise, or drop its row.
    """

    def __init__(
        self,
        memory_bytes: int,
        directory: Path,
        *,
        estimated_words: int,
        on_duplicate: OnDuplicate,
    ) -> None:
        self._make_builder = partial(
            VocabularyBuilder, memory_bytes, directory, estimated_words=estimated_words
        )
        self._on_duplicate = on_duplicate
        self._builder: VocabularyBuilder | None = None  # Created for the first words.

    @property
    def has_words(self) -> bool:
        """Whether rows have words."""
        return self._builder is not None

    def enter(
        self, words: Iterable[str] | PackedWords | None, row_count: int, *, is_first: bool
    ) -> NDArray[np.bool_]:
        """Add the words of a batch of rows; return which of the rows are new.

        Parameters
        ----------
        words : iterable of str, or PackedWords, or None
            One word for each row, or None if the rows have no words.
        row_count : int
            Rows in the batch.
        is_first : bool
            Whether no row was written before.

        Returns
        -------
        new : ndarray of bool, shape (row_count,)
            All True if the rows have no words.

        Raises
        ------
        DuplicateWordError
            If a word is repeated, under ``on_duplicate="error"``.
        ValueError
            If the number of words is not ``row_count``, or only some rows of the store have words.
        """
        if not is_first and (words is None) == self.has_words:
            raise ValueError("some rows have words and some have not; give words for all or none")
        if words is None:
            return np.ones(row_count, np.bool_)
        packed = words if isinstance(words, PackedWords) else pack(words)
        if len(packed) != row_count:
            raise ValueError(f"{len(packed)} words for {row_count} rows; give one for each row")
        if self._builder is None:
            self._builder = self._make_builder()
        count = len(self._builder)
        ids = self._builder.add(packed)
        # A word is new if its id is higher than all ids before it.
        highest = np.maximum.accumulate(np.concatenate([[count - 1], ids[:-1]]))
        new: NDArray[np.bool_] = ids > highest[: len(ids)]
        if self._on_duplicate == "error" and not new.all():
            position = int(np.flatnonzero(~new)[0])
            word = packed.encoded()[position].decode()
            raise DuplicateWordError(word, position, int(ids[position]))
        return new

    def find_unk(self, wanted: str | None) -> str | None:
        """Return the unk word: ``wanted``, or the first of the common ones that is a word.

        Raises
        ------
        SourceError
            If ``wanted`` is missing, or the rows have no words.
        """
        if self._builder is None:
            if wanted is not None:
                raise SourceError(
                    f"{parameter('unk')} is {wanted!r}, but the rows have no words; leave it out"
                )
            return None
        candidates = UNK_WORDS if wanted is None else (wanted,)
        found = self._builder.ids(pack(candidates, "surrogatepass"))
        for word, known in zip(candidates, found.tolist(), strict=True):
            if known >= 0:
                return word
        if wanted is not None:
            raise SourceError(
                f"the unk word {wanted!r} is not among the {len(self._builder)} words; name "
                f"another, or leave it out to use the first of {', '.join(UNK_WORDS)}"
            )
        return None

    def write(self, make_array: MakeArray) -> tuple[list[ArrayWriter], VocabularyManifest]:
        """Write the vocabulary's arrays, after the last word.

        Returns
        -------
        writers : list of ArrayWriter
        manifest : VocabularyManifest
            The description of the arrays in the store's manifest.
        """
        builder = self._builder
        assert builder is not None
        builder.finish()
        writers, sizes = [], {}
        for part, length in builder.lengths().items():
            dtype = np.dtype(spec.VOCABULARY_DTYPES[part])
            chunk_rows = spec.choose_chunk_rows(length, dtype.itemsize)
            writer = make_array(spec.vocabulary_name(part), (), dtype, chunk_rows)
            for piece in builder.pieces(part):
                writer.append(piece)
            writers.append(writer)
            sizes[part] = ArraySize(length, chunk_rows)
        return writers, VocabularyManifest(builder.probe_count, sizes)

    def hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the hashes of all words, in the order of their ids, piece by piece."""
        if self._builder is not None:
            yield from self._builder.hashes()

    def close(self) -> None:
        """Free the memory and the disk space that only the build needed."""
        if self._builder is not None:
            self._builder.close()
