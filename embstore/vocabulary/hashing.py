"""An open-addressing hash table from words to ids, in one array of uint64.

A slot holds the upper 24 bits of a word's hash above the word's id plus one, or 0 if it is empty;
`embstore.formats.own.spec` specifies it. Probing is linear and vectorised: every step probes one
slot for each word of a batch that is still undecided. Most words are decided by the first step.

A slot with the same 24 bits is only a candidate: the caller compares the words themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from embstore.formats.own.spec import SLOT_ID_BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Confirm: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
    Finish: TypeAlias = Callable[[NDArray[np.int64]], list[int]]

# A step takes as long for fewer words.
FEW_WORDS = 64

_ID_MASK = np.uint64((1 << SLOT_ID_BITS) - 1)


def slot_count_for(word_count: int) -> int:
    """Return the slot count for ``word_count`` words: a power of two, at most half full."""
    return 1 << max(2 * word_count, 2).bit_length()


def find(
    slots: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
    probe_count: int,
    confirm: Confirm,
    finish: Finish | None = None,
) -> NDArray[np.int64]:
    """Return the id of each word, -1 for a missing one.

    Parameters
    ----------
    slots : ndarray of uint64, shape (power of two,)
        The table.
    hashes : ndarray of uint64, shape (n,)
        The words' hashes.
    probe_count : int
        The most slots to read for one word.
    confirm : callable
        Called with positions in ``hashes`` and a candidate id for each; returns which of them are
        the same word.
    finish : callable, optional
        Called with the positions of the last few words that are undecided; returns their ids.

    Returns
    -------
    ids : ndarray of int64, shape (n,)
    """
    ids = np.full(len(hashes), -1, np.int64)
    mask = np.uint64(len(slots) - 1)
    positions: NDArray[np.int64] | None = None  # Of the undecided words; None means all.
    # Signed, because `take` would convert unsigned numbers first.
    places = (hashes & mask).view(np.int64)
    for _ in range(min(probe_count, len(slots))):
        entries = slots.take(places)
        searching = entries != 0
        alike = (entries ^ hashes) <= _ID_MASK
        alike &= searching
        candidates = np.flatnonzero(alike)
        if candidates.size:
            found = (entries.take(candidates) & _ID_MASK).view(np.int64) - 1
            asked = candidates if positions is None else positions.take(candidates)
            hit = confirm(asked, found)
            if hit.all():
                ids[asked] = found
                searching[candidates] = False
            else:
                ids[asked[hit]] = found[hit]
                searching[candidates[hit]] = False
        remaining = np.flatnonzero(searching)
        if not remaining.size:
            break
        positions = remaining if positions is None else positions.take(remaining)
        if finish is not None and len(positions) <= FEW_WORDS:
            ids[positions] = finish(positions)
            break
        hashes = hashes.take(remaining)
        places = (places.take(remaining) + 1) & (len(slots) - 1)
    return ids


def entries_of(hashes: NDArray[np.uint64], ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return what slots hold for words with these hashes and ids."""
    return (hashes & ~_ID_MASK) | (ids + 1).view(np.uint64)


def insert(
    slots: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
    ids: NDArray[np.int64],
    most: int | None = None,
) -> int:
    """Insert new words into the table.

    Parameters
    ----------
    slots : ndarray of uint64, shape (power of two,)
        The table, changed in place.
    hashes : ndarray of uint64, shape (n,)
        Hashes of distinct words that are not in the table.
    ids : ndarray of int64, shape (n,)
        Their ids.
    most : int, optional
        The most slots to read for one of these words; by default all.

    Returns
    -------
    probe_count : int
        The most slots that were read for one of these words.

    Raises
    ------
    ValueError
        If there is no free slot among them.
    """
    homes = (hashes & np.uint64(len(slots) - 1)).view(np.int64)
    return insert_at(slots, entries_of(hashes, ids), homes, most)


def insert_at(
    slots: NDArray[np.uint64],
    entries: NDArray[np.uint64],
    homes: NDArray[np.int64],
    most: int | None = None,
) -> int:
    """Insert the entries of new words, whose home slots are known; otherwise as `insert`."""
    most = len(slots) if most is None else min(most, len(slots))
    places, probe_count = homes, 0
    while entries.size:
        if probe_count == most:
            if most < len(slots):
                raise too_many_probes(most)
            raise ValueError(f"the table of {len(slots)} slots is full")
        free = slots.take(places) == 0
        # Of several words written to one slot, the last stays; the others try the next slot.
        slots[places[free]] = entries[free]
        waiting = np.flatnonzero(slots.take(places) != entries)
        entries = entries.take(waiting)
        places = (places.take(waiting) + 1) & (len(slots) - 1)
        probe_count += 1
    return probe_count


def too_many_probes(most: int) -> ValueError:
    """Return the error for words that no reader would find within ``most`` probes."""
    return ValueError(f"a word takes more than {most} probes: the words' hashes collide")
