"""Presence: which extents of a column are mapped, while files come and go.

A cache of a remote store maps files when they have come, and unmaps those that were evicted. No
lock is taken by lookups. Instead, each looks at a number before and after its gather:

1. `Presence.here` says which extents are mapped. A lookup gathers from these.
2. Before extents are unmapped, `here` says no of all of them, and then `version` changes. A lookup
   reads the version first. If it has changed after the gather, the lookup may have read zeros, so
   it drops what it has read.
3. While everything is mapped, `token` is above 0, and a lookup need not look at its extents. It
   compares the token in the same way.
4. Lookups with a token tell nothing of what they use. So the token is taken back now and then
   (`sample`); the next few lookups tell, and the last of them gives a new token (`sampled`).
"""

from __future__ import annotations

import os
import weakref
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from embstore.table.numbering import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embstore.reading.mapping import AddressSpace, MappedFile

# Lookups that tell what they use, each time after the token was taken back.
SAMPLED_LOOKUPS = 8

_all: weakref.WeakSet[Presence] = weakref.WeakSet()


class Presence:
    """Which extents of a column are mapped; safe to use from many threads.

    Parameters
    ----------
    space : AddressSpace
        Where they are mapped.
    places : sequence of MappedFile or None
        The place of each extent; None for one without records, which counts as mapped.

    Attributes
    ----------
    here : ndarray of bool, shape (extents,)
        Whether each extent is mapped.
    version : int
        Changes before anything is unmapped.
    token : int
        Above 0 while everything is mapped and lookups need not tell what they use. Each change of
        what is mapped gives another one.
    """

    def __init__(self, space: AddressSpace, places: Sequence[MappedFile | None]) -> None:
        self._space, self._places = space, tuple(places)
        self.here = np.array([place is None for place in places], np.bool_)
        self.version = self.token = 0
        self._tokens = 0
        self._to_sample = SAMPLED_LOOKUPS
        self._lock = Lock()
        _all.add(self)

    def map(self, extent: int, descriptor: int) -> None:
        """Map an extent, whose file is open and was checked.

        Raises
        ------
        StoreMappingError
            If the system refuses.
        """
        place = self._places[extent]
        assert place is not None  # No file is brought for it.
        with self._lock:
            self._space.map_open(place, descriptor)
            self.here[extent] = True

    def unmap(self, extents: Iterable[int]) -> None:
        """Unmap extents; lookups that read them meanwhile notice."""
        with self._lock:
            self.token = 0
            lost = [extent for extent in extents if self.here[extent]]
            # All of them before the version: who reads that afterwards must not find one here.
            self.here[lost] = False
            self.version += 1
            for extent in lost:
                place = self._places[extent]
                assert place is not None
                self._space.unmap(place)

    def sample(self) -> None:
        """Have the next few lookups tell what they use."""
        with self._lock:
            self.token = 0
            self._to_sample = SAMPLED_LOOKUPS

    def sampled(self) -> None:
        """Note that a lookup, all of whose extents were here, has told what it used."""
        with self._lock:
            self._to_sample -= 1
            if self._to_sample <= 0 and self.token == 0 and self.here.all():
                self._tokens += 1
                self.token = self._tokens

    def renew_lock(self) -> None:
        """Take a new lock, in a forked child: a thread that it does not have may hold the old."""
        self._lock = Lock()
        self.token = 0  # Nobody looks after the cache until lookups tell what they use.


class ExtentNumbers:
    """The numbers of the extents that rows are in, by one table look-up for each row.

    Parameters
    ----------
    first_rows : sequence of int
        The first row of each extent, and the number of rows.

    Examples
    --------
    >>> ExtentNumbers([0, 4, 12, 16]).of(np.array([3, 4, 15])).tolist()
    [0, 1, 2]
    """

    def __init__(self, first_rows: Sequence[int]) -> None:
        self.first_rows = bounds = np.array(first_rows, np.int64)
        # The largest power of two that divides them all: of a store, its chunk_rows.
        unit = int(np.bitwise_or.reduce(bounds)) if len(bounds) > 1 else 0
        unit &= -unit
        self._shift = scalar(max(unit, 1).bit_length() - 1)
        counts = np.diff(bounds) // max(unit, 1)
        self._extents = np.repeat(np.arange(len(counts)), counts)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the extent of each row, shape (n,)."""
        return self._extents.take(rows >> self._shift)


def _forget() -> None:
    for presence in list(_all):
        presence.renew_lock()


os.register_at_fork(after_in_child=_forget)
