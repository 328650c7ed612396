"""The words of a table that changes: those that it has, and new ones.

1. Each batch of words is looked up in the vocabulary of the old version
   (`embstore.writing.words.known_words`). Words that it does not have are new, and get the next
   ids. A builder of their own (`embstore.writing.words.vocabulary_builder`) finds repeats among
   them.
2. At the end, the arrays ``bytes`` and ``offsets`` go on where those of the old version end
   (`embstore.writing.grown_arrays`).
3. New words are inserted into the old hash table. Its chunks that stay the same are linked. A table
   that would be more than half full is replaced by a larger one, with all words.

All chunks that are read are compared with their checksums before anything is written.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from embstore.errors import DuplicateWordError
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize
from embstore.formats.own.vocabulary_manifest import VocabularyManifest
from embstore.vocabulary.words import PackedWords, hash_words, pack
from embstore.writing.disk.scratch import ScratchArray, pieces_of
from embstore.writing.grown_arrays import check_rewritten, grow, grown_chunk_rows
from embstore.writing.words.known_words import KnownWords
from embstore.writing.words.slot_table import SlotTable, is_too_full, slots_needed
from embstore.writing.words.vocabulary_builder import VocabularyBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.spec import RawArray
    from embstore.vocabulary import Vocabulary
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.grown_arrays import NextArrays
    from embstore.writing.words.new_words import OnDuplicate


@dataclass(frozen=True, slots=True)
class EnteredWords:
    """What became of the words of a batch of rows.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
        The id of each word in the next version.
    is_known : ndarray of bool, shape (n,)
        Whether the old version has the word, so its row is to be replaced. False for a repeat.
    is_new : ndarray of bool, shape (n,)
        Whether the word is new, so its row is to be appended. New words have consecutive ids, in
        their order. False for a repeat, whose row is to be dropped.
    """

    ids: NDArray[np.int64]
    is_known: NDArray[np.bool_]
    is_new: NDArray[np.bool_]


class GrownVocabulary:
    """The words of the next version of a table that has words.

    Parameters
    ----------
    vocabulary : Vocabulary
        The words of the old version, mapped.
    manifest : VocabularyManifest
        What the old manifest says of them.
    arrays : NextArrays
        The arrays of the next version.
    memory_bytes : int
        The most memory for the words, old and new.
    directory : Path
        Where to create files for the rest.
    on_duplicate : {"error", "first"}
        What to do with a word that the rows of this change have twice: raise, or drop its row.
    replace : bool
        Whether rows may have words that the old version has; otherwise such a word is an error.

    Raises
    ------
    StoreCorruptError
        If the old version's words are damaged.
    """

    has_words = True

    def __init__(
        self,
        vocabulary: Vocabulary,
        manifest: VocabularyManifest,
        arrays: NextArrays,
        *,
        memory_bytes: int,
        directory: Path,
        on_duplicate: OnDuplicate,
        replace: bool,
    ) -> None:
        self._manifest = manifest
        self._arrays = arrays
        self._memory_bytes = memory_bytes
        self._directory = directory
        self._on_duplicate = on_duplicate
        self._replace = replace
        self._known = KnownWords(vocabulary, manifest, arrays, memory_bytes // 3)
        for part in (spec.WORD_BYTES, spec.WORD_OFFSETS):
            array = manifest.array(part)
            # How much they will grow is not known, but what one more needs is needed anyway.
            check_rewritten(arrays, array, array.shape[0] + 1)
        # One bit for each old word whose row was replaced.
        self._replaced = ScratchArray(np.uint8, memory_bytes // 12, directory)
        self._table: SlotTable | None = None
        self._builder = VocabularyBuilder(memory_bytes, directory)

    def __len__(self) -> int:
        """Return the number of all words, old and new."""
        return len(self._known) + len(self._builder)

    @property
    def new_count(self) -> int:
        """Number of new words so far."""
        return len(self._builder)

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
        if words is None:
            raise ValueError("the rows of the store have words; give one for each row")
        packed = words if isinstance(words, PackedWords) else pack(words)
        if len(packed) != row_count:
            raise ValueError(f"{len(packed)} words for {row_count} rows; give one for each row")
        ids = self._known.ids(packed, hash_words(packed.encoded()))
        is_old = ids >= 0
        refused = is_old if not self._replace else np.zeros(len(ids), np.bool_)
        is_known = self._first_of_known(ids, is_old)
        is_new = self._add(packed, ids, is_old)
        is_repeated = ~(is_known | is_new)
        if self._on_duplicate == "error":
            refused = refused | is_repeated
        if refused.any():
            position = int(refused.argmax())
            word = packed.encoded()[position].decode()
            number = int(ids[position])
            is_stored = bool(is_old[position]) and not self._replace
            raise DuplicateWordError(word, position, number, is_stored=is_stored)
        return EnteredWords(ids, is_known, is_new)

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
        ValueError
            If a word takes too many probes, because hashes collide.
        """
        data, offsets, slots = (
            self._manifest.array(part)
            for part in (spec.WORD_BYTES, spec.WORD_OFFSETS, spec.WORD_SLOTS)
        )
        byte_count = data.shape[0] + self._builder.byte_count
        offset_count = offsets.shape[0] + len(self._builder)
        check_rewritten(self._arrays, data, byte_count)
        check_rewritten(self._arrays, offsets, offset_count)
        self._builder.drop_index()
        is_larger = is_too_full(len(self), slots.shape[0])
        table = self._larger_table() if is_larger else self._same_table(slots)
        changed = [] if is_larger else self._known.changed_chunks(table)
        for chunk in changed:
            self._arrays.check_chunk(slots, chunk)
        writers = [
            self._write_bytes(data, byte_count),
            self._write_offsets(offsets, offset_count, data.shape[0]),
            self._write_all(slots, table) if is_larger else self._patch(slots, table, changed),
        ]
        slot_chunk = _slot_chunk_rows(len(table)) if is_larger else slots.chunk_rows
        sizes = {
            spec.WORD_BYTES: ArraySize(byte_count, grown_chunk_rows(data, byte_count)),
            spec.WORD_OFFSETS: ArraySize(offset_count, grown_chunk_rows(offsets, offset_count)),
            spec.WORD_SLOTS: ArraySize(len(table), slot_chunk),
        }
        return writers, VocabularyManifest(table.probe_count, sizes)

    def hashes(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the hashes of the new words, in the order of their ids, piece by piece.

        The first one has the id ``len(self) - new_count``.
        """
        yield from self._builder.hashes()

    def close(self) -> None:
        """Free the memory and the disk space that only the change needed."""
        self._builder.close()
        self._replaced.close()
        if self._table is not None:
            self._table.close()

    def _first_of_known(
        self, ids: NDArray[np.int64], is_old: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return where an old word comes for the first time, and note that it did."""
        is_first = np.zeros(len(ids), np.bool_)
        positions = np.flatnonzero(is_old)
        if not positions.size:
            return is_first
        if not len(self._replaced):
            self._replaced.resize(-(-len(self._known) // 8))
        found, first = np.unique(ids[positions], return_index=True)
        places, bits = found >> 3, np.uint8(1) << (found & 7).astype(np.uint8)
        is_fresh = (self._replaced.array[places] & bits) == 0
        is_first[positions[first[is_fresh]]] = True
        np.bitwise_or.at(self._replaced.array, places, bits)
        self._replaced.release()
        return is_first

    def _add(
        self, packed: PackedWords, ids: NDArray[np.int64], is_old: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Add the words that are not old, and set their ids; return which are new."""
        is_new = ~is_old
        if not is_new.any():
            return is_new
        count = len(self._builder)
        found = self._builder.add(packed if is_new.all() else packed.select(is_new))
        # A word is new if its id is higher than all ids before it.
        highest = np.maximum.accumulate(np.concatenate([[count - 1], found[:-1]]))
        ids[is_new] = found + len(self._known)
        is_new[is_new] = found > highest
        return is_new

    def _same_table(self, slots: RawArray) -> SlotTable:
        """Return the old hash table with the new words."""
        table = self._make_table(slots.shape[0])
        self._known.copy_slots(table)
        table.insert_many(self._builder.hashes, len(self._known))
        return table

    def _larger_table(self) -> SlotTable:
        """Return a new hash table with all words."""
        for part in (spec.WORD_BYTES, spec.WORD_OFFSETS):
            array = self._manifest.array(part)
            for chunk in range(array.chunk_count):  # All of them are read.
                self._arrays.check_chunk(array, chunk)
        table = self._make_table(slots_needed(len(self)))
        if not table.in_file:
            table.fill(lambda: chain(self._known.hashes(), self._builder.hashes()), 0)
            return table
        # They are needed twice, and those of the old words have to be computed.
        with closing(ScratchArray(np.uint64, self._memory_bytes // 12, self._directory)) as every:
            for hashes in chain(self._known.hashes(), self._builder.hashes()):
                every.append(hashes)
            table.fill(partial(pieces_of, every), 0)
        return table

    def _make_table(self, slot_count: int) -> SlotTable:
        share = self._memory_bytes // 3
        self._table = SlotTable(slot_count, share, share, self._directory, spec.MAX_PROBE_COUNT)
        return self._table

    def _write_bytes(self, array: RawArray, length: int) -> ArrayWriter:
        writer = grow(self._arrays, array, length)
        for piece in self._builder.pieces(spec.WORD_BYTES):
            writer.append(piece)
        return writer

    def _write_offsets(self, array: RawArray, length: int, first_byte: int) -> ArrayWriter:
        writer = grow(self._arrays, array, length)
        skipped = 1  # The first offset, 0, is the last one of the old words.
        for piece in self._builder.pieces(spec.WORD_OFFSETS):
            writer.append((piece[skipped:] + first_byte).astype(array.dtype), copy=False)
            skipped = 0
        return writer

    def _write_all(self, array: RawArray, table: SlotTable) -> ArrayWriter:
        chunk_rows = _slot_chunk_rows(len(table))
        writer = self._arrays.new_array(array.name, (), array.dtype, chunk_rows)
        for piece in table.pieces(0, len(table)):
            writer.append(piece, copy=False)
        return writer

    def _patch(self, array: RawArray, table: SlotTable, changed: list[int]) -> ArrayWriter:
        """Write the chunks of the hash table that have changed, and link the others."""
        writer = self._arrays.new_array(array.name, (), array.dtype, array.chunk_rows)
        for chunk in range(array.chunk_count):
            if chunk not in changed:
                self._arrays.link_chunk(writer, array, chunk)
                continue
            start = chunk * array.chunk_rows
            for piece in table.pieces(start, min(start + array.chunk_rows, len(table))):
                writer.append(piece, copy=False)
        return writer


def _slot_chunk_rows(slot_count: int) -> int:
    itemsize = np.dtype(spec.VOCABULARY_DTYPES[spec.WORD_SLOTS]).itemsize
    return spec.choose_chunk_rows(slot_count, itemsize)
