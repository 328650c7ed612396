"""Records that were read ahead of a lookup, and are kept for it.

The last few calls of `prefetch` are kept, within some bytes; those before are dropped. A lookup
takes what is there, and reads the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.gather import as_records

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_KEPT_BYTES = 64 << 20
MAX_KEPT = 8  # A lookup looks through each of them.


class KeptRecords:
    """Records of a column by row, from the last few reads ahead.

    Parameters
    ----------
    record_bytes : int
        Size of a record.
    """

    def __init__(self, record_bytes: int) -> None:
        self._record_bytes = record_bytes
        # Replaced as a whole, so that threads need no lock; the newest one first.
        self._kept: tuple[tuple[NDArray[np.int64], NDArray[Any]], ...] = ()

    @property
    def most_rows(self) -> int:
        """Most rows of one read ahead that are kept."""
        return max(MAX_KEPT_BYTES // self._record_bytes, 1)

    def add(self, rows: NDArray[np.int64], records: NDArray[Any]) -> None:
        """Keep the records of distinct, ascending rows, shape (n,); n 1 or more."""
        kept = [(rows, as_records(records, self._record_bytes))]
        left = self.most_rows - len(rows)
        for one in self._kept[: MAX_KEPT - 1]:
            left -= len(one[0])
            if left < 0:
                break
            kept.append(one)
        self._kept = tuple(kept)

    def find(
        self, rows: NDArray[np.int64], target: NDArray[Any] | None = None
    ) -> NDArray[np.intp] | None:
        """Return the positions of rows that are not kept; None if none of the rows are.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            The rows of a lookup.
        target : ndarray of a void dtype, shape (n,), optional
            Filled with the records that are kept.
        """
        kept = self._kept
        if not kept or not len(rows):
            return None
        left: NDArray[np.intp] = np.arange(len(rows))
        for known, records in kept:
            asked = rows[left]
            places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
            hit = known[places] == asked
            if target is not None:
                target[left[hit]] = records[places[hit]]
            left = left[~hit]
        return left if len(left) < len(rows) else None
