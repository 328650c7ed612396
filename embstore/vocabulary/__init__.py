"""Which id has this word, and which word this id? Answered from disk.

The words' bytes, their offsets and a hash table over them are three arrays of the store, mapped
like its rows. Opening costs the same for ten words as for a hundred million.

1. Words are packed and hashed.
2. `embstore.vocabulary.hashing.find` looks all of them up in the table at once.
3. Each candidate is compared with the stored bytes, because a hash is not a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.reading.files import StoreFiles
from embstore.reading.mapping import AddressSpace, MappedFile
from embstore.vocabulary import hashing
from embstore.vocabulary.words import PackedWords, encode, hash_words, pack_encoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.manifest import VocabularyManifest
    from embstore.formats.own.spec import RawArray

READ_AHEAD_BYTES = 64 << 20


class Vocabulary:
    """The words of a store.

    Parameters
    ----------
    stored : PackedWords
        The words in the order of their ids.
    slots : ndarray of uint64, shape (power of two,)
        The hash table.
    probe_count : int
        How many slots to look at for a word, at the most.
    """

    def __init__(self, stored: PackedWords, slots: NDArray[np.uint64], probe_count: int) -> None:
        self._stored = stored
        self._slots = slots
        self._probe_count = probe_count

    def __len__(self) -> int:
        return len(self._stored)

    def ids(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Return the id of each word, -1 where there is no such word.

        Parameters
        ----------
        words : sequence of str, n of them

        Returns
        -------
        ids : ndarray of int64, shape (n,)
        """
        encoded = encode(words, "surrogatepass")
        packed = pack_encoded(encoded)

        def confirm(positions: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
            self._check(ids)
            return self._stored.equal(ids, packed, positions)

        return hashing.find(self._slots, hash_words(encoded), self._probe_count, confirm)

    def words(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the word of each id.

        Parameters
        ----------
        ids : ndarray of int64, shape (n,)
            In range; this is not checked here.
        """
        self._check(ids)
        data, offsets = self._stored.data, self._stored.offsets
        distinct = np.unique(ids)
        # Words that overlap could amount to more bytes than there are, without any limit.
        if (offsets[distinct + 1] - offsets[distinct]).sum(dtype=np.float64) > len(data):
            raise StoreCorruptError("the word offsets make words overlap")
        begins, ends = offsets[ids].tolist(), offsets[ids + 1].tolist()
        pieces = (data[begin:end].tobytes() for begin, end in zip(begins, ends, strict=True))
        try:
            return [piece.decode() for piece in pieces]
        except UnicodeDecodeError as error:
            raise StoreCorruptError(f"a stored word is not UTF-8: {error}") from error

    def packed(self, start: int, stop: int) -> PackedWords:
        """Return the words of the ids ``start .. stop - 1``, which are in range."""
        self._check(np.arange(start, stop))
        offsets = np.array(self._stored.offsets[start : stop + 1])
        data = np.array(self._stored.data[offsets[0] : offsets[-1]])
        return PackedWords(data, offsets - offsets[0])

    def _check(self, ids: NDArray[np.int64]) -> None:
        """Refuse ids and offsets that point nowhere: they come from disk."""
        if not ids.size:
            return
        if int(ids.min()) < 0 or int(ids.max()) >= len(self._stored):
            raise StoreCorruptError("the word index names an id that the table does not have")
        begins, ends = self._stored.offsets[ids], self._stored.offsets[ids + 1]
        if begins.min() < 0 or (ends < begins).any() or ends.max() > len(self._stored.data):
            raise StoreCorruptError("the word offsets point outside of the stored words")


def open_vocabulary(path: Path, manifest: VocabularyManifest) -> Vocabulary:
    """Map the vocabulary of the store at ``path``."""
    data, offsets, slots = (
        _map_array(path, manifest.array(part))
        for part in (spec.WORD_BYTES, spec.WORD_OFFSETS, spec.WORD_SLOTS)
    )
    return Vocabulary(PackedWords(data, offsets), slots, manifest.probe_count)


def _map_array(path: Path, array: RawArray) -> NDArray[Any]:
    """Map a one-dimensional array; its chunks must fit together without gaps."""
    pieces = [
        MappedFile(array.chunk_name(chunk), 0, chunk * array.chunk_bytes, array.chunk_bytes)
        for chunk in range(array.chunk_count)
    ]
    size_bytes = array.chunk_count * array.chunk_bytes
    # The kernel's read-ahead brings a small array in with a few reads; of a large one, a word
    # needs a page here and there.
    space = AddressSpace(size_bytes, pieces, StoreFiles(path), random=size_bytes > READ_AHEAD_BYTES)
    return space.data.view(array.dtype)[: array.shape[0]]
