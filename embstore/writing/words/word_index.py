"""The index of a vocabulary in progress: finds words by their hashes.

1. Recent words are in a hash table in memory, which is doubled when it is half full.
2. When it may not grow any more, it becomes a file as it is, and an empty one takes its place. When
   there are `MOST_TABLES` files of one size, a larger one replaces them. So the number of files
   grows with the logarithm of the number of words.
3. A word that the table in memory does not have is looked up in the files, the latest first. But a
   filter (`embstore.writing.words.word_filter`) knows of most new words that no file has them.
4. After the last word, one table of all words is filled in the order of the slots. It has the same
   bytes for the same words, whatever batches they came in.

So no table that is larger than the memory is ever written to at random.
"""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embstore.vocabulary import hashing
from embstore.writing.disk.scratch import pieces_of
from embstore.writing.words.slot_table import LEAST_SLOTS, SlotTable, is_too_full, slots_needed
from embstore.writing.words.word_filter import WordFilter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.writing.disk.scratch import ScratchArray

# The fewer, the fewer are searched for a word; the more, the seldomer are words written again.
MOST_TABLES = 8


class OlderTable(NamedTuple):
    """A table in a file, with the words from ``first_id`` on up to those of the next table."""

    first_id: int
    table: SlotTable


class WordIndex:
    """The ids of words by their hashes.

    Parameters
    ----------
    hashes : ScratchArray
        The hashes of all words, by their ids; the caller adds to it.
    memory_bytes : int
        The most memory to use for the table, and as much for the filter.
    mapped_bytes : int
        The most mapped pages of files.
    directory : Path or None
        Where to create files. Without one, everything is in memory.
    estimated_words : int
        An estimate of the number of words, 0 if unknown.
    """

    def __init__(
        self,
        hashes: ScratchArray,
        memory_bytes: int,
        mapped_bytes: int,
        directory: Path | None,
        estimated_words: int,
    ) -> None:
        self._hashes = hashes
        # The smallest table is in memory even so.
        self._memory_bytes = memory_bytes = max(memory_bytes, 8 * LEAST_SLOTS)
        self._mapped_bytes = mapped_bytes
        self._directory = directory
        self._older: list[OlderTable] = []
        self._filter: WordFilter | None = None  # Created for the first table in a file.
        self._most_slots = 1 << (memory_bytes // 8).bit_length() - 1
        # An estimate may be wrong, so it does not make the table larger than its memory.
        slot_count = min(hashing.slot_count_for(estimated_words), self._most_slots)
        self._first_id = 0  # Of the words in the table in memory.
        self._table = self._make_table(max(slot_count, LEAST_SLOTS))

    @property
    def table(self) -> SlotTable:
        """The table of all words, after `finish`."""
        return self._table

    @property
    def is_in_files(self) -> bool:
        """Whether most words are in tables in files."""
        return self._filter is not None

    def find(self, hashes: NDArray[np.uint64], confirm: hashing.Confirm) -> NDArray[np.int64]:
        """Return the id of each word, -1 for a new one; see `embstore.vocabulary.hashing.find`."""
        ids = self._table.find(hashes, np.arange(len(hashes)), confirm)
        if self._filter is None:
            return ids
        waiting = np.flatnonzero(ids < 0)
        waiting = waiting[self._filter.may_have(hashes[waiting])]
        for _, table in reversed(self._older):
            if not waiting.size:
                break
            found = table.find(hashes, waiting, confirm)
            ids[waiting] = found
            waiting = waiting[found < 0]
        return ids

    def insert(self, hashes: NDArray[np.uint64], first_id: int) -> None:
        """Insert new words, the last ones in the array of hashes; their ids count up."""
        count = first_id + len(hashes) - self._first_id
        if is_too_full(count, len(self._table)):
            slot_count = hashing.slot_count_for(count)
            if self._directory is None or slot_count <= self._most_slots:
                self._rebuild(slot_count)
                return
            self._set_aside(first_id)
            count = len(hashes)
            if is_too_full(count, len(self._table)):  # A batch that is larger than the memory.
                self._replace_table(slots_needed(count))
        self._table.insert(hashes, first_id)

    def finish(self) -> None:
        """Make one table of all words, after the last one."""
        slot_count = slots_needed(len(self._hashes))
        if self._older:
            self.close()
            self._older, self._filter, self._first_id = [], None, 0
            self._table = self._filled(0, len(self._hashes), slot_count)
        elif slot_count < len(self._table):  # Too large because of the estimate.
            self._rebuild(slot_count)

    def close(self) -> None:
        """Free the memory and the disk space."""
        for _, table in self._older:
            table.close()
        self._table.close()
        self._filter = None

    def _rebuild(self, slot_count: int) -> None:
        """Replace the table in memory by one of another size, with the same words and new ones."""
        self._replace_table(slot_count)
        first_id = self._first_id
        for piece in pieces_of(self._hashes, first_id):
            self._table.insert(piece, first_id)
            first_id += len(piece)

    def _replace_table(self, slot_count: int) -> None:
        self._table.close()
        self._table = self._make_table(slot_count)

    def _set_aside(self, stop_id: int) -> None:
        """Move the table in memory to a file; the words from ``stop_id`` on are not in it."""
        if self._filter is None:
            self._filter = WordFilter(self._memory_bytes)
        for piece in pieces_of(self._hashes, self._first_id, stop_id):
            self._filter.add(piece)
        slot_count = len(self._table)
        self._table.scratch.move_to_file()
        self._older.append(OlderTable(self._first_id, self._table))
        self._first_id = stop_id
        while len(self._alike()) == MOST_TABLES:
            self._merge(self._alike(), stop_id)
        self._table = self._make_table(slot_count)

    def _alike(self) -> list[OlderTable]:
        """Return the last tables in files, up to `MOST_TABLES`, that have the size of the last."""
        size = len(self._older[-1].table)
        last = reversed(self._older[-MOST_TABLES:])
        return list(takewhile(lambda one: len(one.table) == size, last))[::-1]

    def _merge(self, alike: list[OlderTable], stop_id: int) -> None:
        """Replace the last tables in files by one, with their words up to ``stop_id - 1``."""
        first_id = alike[0].first_id
        merged = self._filled(first_id, stop_id, slots_needed(stop_id - first_id))
        for _, table in alike:
            table.close()
        self._older[-len(alike) :] = [OlderTable(first_id, merged)]

    def _filled(self, first_id: int, stop_id: int, slot_count: int) -> SlotTable:
        """Return a table with the words ``first_id .. stop_id - 1``."""
        table = self._make_table(slot_count)
        try:
            table.fill(partial(pieces_of, self._hashes, first_id, stop_id), first_id)
        except BaseException:
            table.close()
            raise
        return table

    def _make_table(self, slot_count: int) -> SlotTable:
        return SlotTable(slot_count, self._memory_bytes, self._mapped_bytes, self._directory)
