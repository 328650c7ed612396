"""Maps from rows of a column to slots of a row cache: a bitmap with ranks.

1. One bit for each row of the table says whether the row has a slot.
2. The rank of such a row is the number of bits before its own: a count that is kept for each word
   of 64 bits, and the bits before it in the word (``np.bitwise_count``).
3. An array has the slot of each rank.

This takes 1.5 bits for each row of the table and 4 bytes for each slot that is used. A map never
changes: `RowMap.changed` makes another one, so readers need no lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.table.numbering import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

WORD_BITS = 64
MAX_SLOTS = 1 << 31
# Rows whose bits are unpacked at a time, to a byte each.
UNPACKED_ROWS = 1 << 18
# Rows to change at a time, so that arrays for steps between take little memory.
CHANGED_ROWS = 1 << 15

_SIX, _SIXTY_THREE = scalar(6), scalar(63)
_ONE = np.uint64(1)


class RowMap:
    """A map from some rows of a column to slots.

    Parameters
    ----------
    row_count : int
        Number of rows in the column.

    Attributes
    ----------
    slots : ndarray of int32, shape (mapped rows,)
        Slots of the mapped rows, in the order of the rows.

    Examples
    --------
    >>> rows, slots = np.array([3, 99]), np.array([7, 2])
    >>> present, found = RowMap(100).changed(add=rows, slots=slots).find(np.array([98, 99]))
    >>> present.tolist(), found[present].tolist()
    ([False, True], [2])
    """

    __slots__ = ("_bits", "_ranks", "_row_count", "slots")

    def __init__(self, row_count: int) -> None:
        word_count = -(-row_count // WORD_BITS)
        self._row_count = row_count
        self._bits = np.zeros(word_count, np.uint64)
        # The number of bits before a word, less one: the rank of its first bit has that bit, too.
        self._ranks = np.full(word_count, -1, np.int32)
        self.slots: NDArray[np.int32] = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self.slots)

    @staticmethod
    def size_bytes(row_count: int, slot_count: int) -> int:
        """Return the bytes of a map of ``slot_count`` rows among ``row_count``."""
        return -(-row_count // WORD_BITS) * 12 + slot_count * 4

    def find(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Return which rows have a slot, and their slots.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows in range, which is not checked here.

        Returns
        -------
        present : ndarray of bool, shape (n,)
            Whether each row has a slot.
        slots : ndarray of int32, shape (n,)
            Its slot; without meaning where it has none.
        """
        present, ranks = self._find_ranks(rows)
        if not len(self.slots):
            return present, ranks
        return present, self.slots.take(ranks, mode="clip")

    def changed(
        self,
        *,
        remove: NDArray[np.int64] | None = None,
        add: NDArray[np.int64] | None = None,
        slots: NDArray[np.integer] | None = None,
    ) -> RowMap:
        """Return a map without some rows and with some others.

        Parameters
        ----------
        remove : ndarray of int64, shape (n,), optional
            Distinct rows that have slots.
        add : ndarray of int64, shape (m,), optional
            Distinct rows that have none.
        slots : ndarray of integers, shape (m,), optional
            Their slots.
        """
        changed = RowMap.__new__(RowMap)
        changed._row_count = self._row_count
        changed._bits = bits = self._bits.copy()
        kept = self.slots
        if remove is not None:
            _flip(bits, remove)
            stays = np.ones(len(kept), np.bool_)
            for some in _pieces(remove):
                stays[self._find_ranks(some)[1]] = False
            kept = kept[stays]
        if add is not None:
            _flip(bits, add)
        counts = np.bitwise_count(bits)
        changed._ranks = ranks = np.cumsum(counts, dtype=np.int32)
        ranks -= counts
        ranks -= 1
        if add is None or slots is None:
            changed.slots = kept
            return changed
        changed.slots = every = np.empty(len(kept) + len(add), np.int32)
        old = np.ones(len(every), np.bool_)
        for some, theirs in zip(_pieces(add), _pieces(slots), strict=True):
            places = changed._find_ranks(some)[1]
            every[places] = theirs
            old[places] = False
        every[old] = kept
        return changed

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of many rows, shape (n,), that have no slot, in their order."""
        found = [some[~self._find_ranks(some)[0]] for some in _pieces(rows)]
        return np.concatenate([rows[:0], *found])

    def rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the mapped rows in order, in pieces."""
        step = UNPACKED_ROWS // WORD_BITS
        for start in range(0, len(self._bits), step):
            words = self._bits[start : start + step].astype("<u8", copy=False)
            found = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
            yield found + start * WORD_BITS

    def _find_ranks(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        words = rows >> _SIX
        shifts = rows & _SIXTY_THREE
        np.subtract(_SIXTY_THREE, shifts, out=shifts)
        # The bit of the row comes to the top, and the ones after it fall off.
        found = self._bits.take(words, mode="clip")
        found <<= shifts.view(np.uint64)
        ranks = self._ranks.take(words, mode="clip")
        ranks += np.bitwise_count(found)
        return found.view(np.int64) < 0, ranks


def _flip(bits: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:
    for some in _pieces(rows):
        np.bitwise_xor.at(bits, some >> _SIX, _ONE << (some & _SIXTY_THREE).view(np.uint64))


def _pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(array), CHANGED_ROWS):
        yield array[start : start + CHANGED_ROWS]
