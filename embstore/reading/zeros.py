"""Records with rows of zeros among them, for the ids that a view does not have."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.read_ahead import Later

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.reading.stats import StatsCounter

# In the place of a row: there is none, and the result has zeros.
NO_ROW = -1


class WithZeros:
    """Records, and zeros for each `NO_ROW`.

    Parameters
    ----------
    records : MappedRecords, RangedRecords, EncodedRecords or CompressedRecords
        The others.
    """

    def __init__(self, records: Any) -> None:
        self._records = records

    @property
    def stats(self) -> StatsCounter:
        """Counts of what was read."""
        found: StatsCounter = self._records.stats
        return found

    @property
    def ahead(self) -> WithZeros:
        """Reads ahead of lookups."""
        return self

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out``, shape (n, ...), with records and zeros."""
        self._put(rows, partial(self._records.take, rows[rows != NO_ROW]), out)

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Announce a few records, and return the rest of the lookup."""
        later = self._records.ahead.later(rows[rows != NO_ROW])
        return Later(partial(self._put, rows, later.take), later.quick)

    def _put(
        self, rows: NDArray[np.int64], take: Callable[[NDArray[Any]], None], out: NDArray[Any]
    ) -> None:
        present = rows != NO_ROW
        found = np.empty((np.count_nonzero(present), *out.shape[1:]), out.dtype)
        take(found)
        out[...] = 0
        out[present] = found
