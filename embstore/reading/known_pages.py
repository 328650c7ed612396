"""Pages of a mapping that were read before, and so need not be announced.

Announcing a row that is in RAM takes longer than gathering it. So pages are remembered once they
were announced or found in RAM, in one byte each, and only the others are announced. The kernel may
drop a page without a word. So the reads that a gather causes, although its unknown rows had been
announced, are counted against its rows; too many, and all pages are forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAGE_SHIFT = np.array(PAGE_BYTES.bit_length() - 1)
# A read takes as long as gathering some hundred rows.
ROWS_PER_MISS = 256
MOST_MISSES = 8


class KnownPages:
    """The pages of an address space that are thought to be in RAM; safe to use from many threads.

    Parameters
    ----------
    size_bytes : int
        Size of the address space.
    record_bytes : int
        Size of a record. Only its first and last page are remembered.
    """

    def __init__(self, size_bytes: int, record_bytes: int) -> None:
        self._count = size_bytes // PAGE_BYTES + 1
        self._last = np.array(record_bytes - 1)
        self._excess = 0.0
        self.forget()

    def unknown(self, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which records, at addresses of shape (n,), have a page that is not known."""
        known = self._known  # `forget` may replace it at any time.
        first: NDArray[np.bool_] = known.take(offsets >> _PAGE_SHIFT)
        first &= known.take((offsets + self._last) >> _PAGE_SHIFT)
        return ~first

    def add(self, offsets: NDArray[np.int64]) -> None:
        """Remember the pages of records."""
        known = self._known
        known[offsets >> _PAGE_SHIFT] = True
        known[(offsets + self._last) >> _PAGE_SHIFT] = True

    def note(self, rows: int, reads: int) -> bool:
        """Count the reads that a gather of rows caused; return whether all pages are forgotten."""
        self._excess = max(self._excess + reads - rows / ROWS_PER_MISS, 0.0)
        if self._excess <= MOST_MISSES:
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """Forget all pages."""
        # Zeroed pages take no memory until they are written to.
        self._known = np.zeros(self._count, np.bool_)
        self._excess = 0.0
