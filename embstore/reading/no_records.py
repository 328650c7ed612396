"""Records of rows without numbers: there are none to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.reading.incore import Residency
from embstore.reading.read_ahead import NoReadAhead
from embstore.reading.stats import StatsCounter
from embstore.table.plan import LookupPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.table.numbering import Numbering
    from embstore.table.protocols import Encoding, VisitRecords

# Rows of a block of a scan.
SCANNED_ROWS = 1 << 20


class NoRecords:
    """The records of a table whose rows have no bytes.

    Parameters
    ----------
    encoding : Encoding
        Tells the dtype and the shape of a row, which has an axis of length 0.
    """

    mapped: Literal[False] = False
    decodes: Literal[False] = False
    file_cache = None
    cache = None
    record_bytes = 0

    def __init__(self, encoding: Encoding) -> None:
        self._dtype, self._row_shape = encoding.dtype, encoding.row_shape
        self.stats = StatsCounter(0)

    def take_one(self, row: int) -> NDArray[Any]:
        """Return the record of a row, shape ``row_shape``."""
        self.stats.add(1, 0, 0, 1, 0.0)
        return np.empty(self._row_shape, self._dtype)

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Count a lookup; ``out`` has no numbers to fill."""
        self.stats.add(len(rows), 0, 0, 1, 0.0)

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Return 0, the bytes that are kept."""
        return 0

    def plan(self, rows: NDArray[np.int64], numbering: Numbering) -> LookupPlan:
        """Return the plan of a lookup of rows, any shape: nothing is read."""
        return LookupPlan(rows.size, np.unique(rows).size, 0, 0, 0, 0, 0, ())

    def residency(self, rows: int) -> Residency:
        """Return that a table of some rows has no bytes."""
        return Residency(table_bytes=0)

    @property
    def ahead(self) -> NoReadAhead:
        """Reads ahead of lookups: none."""
        return NoReadAhead(self.take)

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def announce_ranges(self, ranges: Sequence[range]) -> None:
        """Do nothing: there is nothing to read."""

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one."""
        for rows in ranges:
            for start in range(rows.start, rows.stop, SCANNED_ROWS):
                block = range(start, min(start + SCANNED_ROWS, rows.stop))
                visit(block, np.empty((len(block), 0), np.uint8))
