"""The words of a table that changes: those that it has, and new ones.

1. Each batch of words is looked up in the vocabulary of the old version. The words that it does not
   have are new, and get the next ids; a builder of their own (`embstore.writing.vocabulary_builder`)
   finds repeats among them.
2. At the end, the arrays ``bytes`` and ``offsets`` continue those of the old version: their whole
   chunks are linked, and the rest of the last one is copied.
3. New words are inserted into the old hash table. Its chunks that stay the same are linked. A table
   that would be more than half full is replaced by a larger one, with all words.

Damage must not make a known word look new. So a chunk of the hash table is compared with its
checksum before it is first searched, and every chunk before it is copied or replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from embstore.formats.own.manifest import VocabularyManifest
    from embstore.formats.own.spec import RawArray
    from embstore.reading.mapping import Opener
    from embstore.vocabulary.words import PackedWords
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.new_words import OnDuplicate


class NextArrays(Protocol):
    """The arrays of the next version, made from those of the old one."""

    def check_chunk(self, array: RawArray, chunk: int) -> None:
        """Read a chunk file of the old version, and compare it with its listed checksum.

        A chunk is read once, however often this is called.

        Raises
        ------
        StoreCorruptError
            If it differs.
        """
        ...

    def new_array(
        self, name: str, item_shape: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int
    ) -> ArrayWriter:
        """Return the writer of an array, which is empty."""
        ...

    def grow_array(self, array: RawArray) -> ArrayWriter:
        """Return the writer of an array that continues one of the old version.

        It has the rows of the old one: whole chunks by link, and the rest of the last one copied.
        """
        ...

    def link_chunk(self, writer: ArrayWriter, array: RawArray, chunk: int) -> None:
        """Take over a whole chunk of an old array as the next one of ``writer``.

        The writer has whole chunks so far, of as many rows as those of ``array``.
        """
        ...


@dataclass(frozen=True, slots=True)
class EnteredWords:
    """What became of the words of a batch of rows.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
        The id of each word in the next version.
    is_known : ndarray of bool, shape (n,)
        Whether the old version has the word: its row is to be replaced. False for a repeat.
    is_new : ndarray of bool, shape (n,)
        Whether the word is new: its row is to be appended. New words have consecutive ids, in
        their order. False for a repeat, whose row is to be dropped.
    """

    ids: NDArray[np.int64]
    is_known: NDArray[np.bool_]
    is_new: NDArray[np.bool_]


class GrownVocabulary:
    """The words of the next version of a table that has words.

    Parameters
    ----------
    files : Opener
        The files of the old version.
    manifest : VocabularyManifest
        What its manifest says of its words.
    arrays : NextArrays
        The arrays of the next version.
    memory_bytes : int
        The most memory for the words.
    directory : Path
        Where to create files for the rest: the staging directory.
    on_duplicate : {"error", "first"}
        What to do with a word that the rows of this change have twice: raise, or drop its row.
    replace : bool
        Whether rows may have words that the old version has; otherwise such a word is an error.
    """

    has_words = True

    def __init__(
        self,
        files: Opener,
        manifest: VocabularyManifest,
        arrays: NextArrays,
        *,
        memory_bytes: int,
        directory: Path,
        on_duplicate: OnDuplicate,
        replace: bool,
    ) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        """Number of all words, old and new."""
        raise NotImplementedError

    @property
    def new_count(self) -> int:
        """Number of new words so far."""
        raise NotImplementedError

    def check(self) -> None:
        """Compare the chunks that are going to be copied with their checksums.

        They are the last ones of ``bytes`` and ``offsets``.

        Raises
        ------
        StoreCorruptError
            If one differs.
        """
        raise NotImplementedError

    def enter(self, words: Iterable[str] | PackedWords | None, row_count: int) -> EnteredWords:
        """Add the words of a batch of rows; return which are known, and which are new.

        Parameters
        ----------
        words : iterable of str, or PackedWords
            One word for each row.
        row_count : int
            Rows in the batch.

        Raises
        ------
        DuplicateWordError
            If the old version has a word, without ``replace``; if the rows of this change have one
            twice, under ``on_duplicate="error"``. The position is that of the first such word.
        StoreCorruptError
            If the old version's words are damaged.
        ValueError
            If there are no words, or their number is not ``row_count``.
        """
        raise NotImplementedError

    def write(self) -> tuple[list[ArrayWriter], VocabularyManifest]:
        """Write the arrays, after the last word; call it only if there are new words.

        Returns
        -------
        writers : list of ArrayWriter
            Not finished yet.
        manifest : VocabularyManifest
            The description of the arrays in the manifest of the next version.

        Raises
        ------
        StoreCorruptError
            If the old version's words are damaged.
        """
        raise NotImplementedError

    def hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the hashes of the new words, in the order of their ids, piece by piece.

        The first one has the id ``len(self) - new_count``.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Free the memory and the disk space that only the change needed."""
        raise NotImplementedError
