"""Gathers of slices from mapped columns, which decode what they gather."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.encodings.joined import Joined
from embstore.encodings.scratch import borrow, give_back
from embstore.reading.requests import Requests
from embstore.reading.row_cache.cache import RowCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.reading.slices import SliceGather
    from embstore.table.protocols import Encoding

_UINT8 = np.dtype(np.uint8)


class DecodedSlices:
    """Gathers of slices from mapped columns, which decode what they gather.

    It stands in for `embstore.reading.slices.SliceGather`. A spot is a row.

    Parameters
    ----------
    columns : sequence of SliceGather
        Gather the records of each column.
    shares : sequence of int
        How many rows share a record, for each column.
    encoding : Encoding
        Decodes the records.

    Attributes
    ----------
    record_bytes : int
        Bytes of a row, stored and decoded. Decoding is most of the work, so they measure a slice.
    is_decoded : bool
        Whether records are decoded, not only put side by side.
    file_count : callable or None
        Returns how many rows are in files, if there is a row cache.
    limit : ResidentLimit or None
        The limit on what is resident of all columns.
    """

    def __init__(
        self, columns: Sequence[SliceGather], shares: Sequence[int], encoding: Encoding
    ) -> None:
        self._parts = [
            (column, column.gather, share) for column, share in zip(columns, shares, strict=True)
        ]
        self._encoding = encoding
        # Of one column, the records are what `Joined` returns.
        self._direct = isinstance(encoding, Joined) and len(columns) == 1
        self.record_bytes = encoding.record_bytes + row_bytes(encoding)
        self.is_decoded = not self._direct
        self.limit = columns[0].limit
        gather = columns[0].gather
        self.file_count: Callable[[NDArray[np.int64]], int] | None = None
        if isinstance(gather, RowCache):
            self.file_count = lambda rows: len(gather.cold_spots(rows))

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Have the kernel start reading the records of rows, shape (n,), in all columns."""
        for slices, offsets in self._offsets(rows):
            slices.announce_at(offsets)

    def requests(self, rows: NDArray[np.int64]) -> Requests:
        """Return the requests for the records of rows, shape (n,), in all columns."""
        found = [slices.requests_at(offsets) for slices, offsets in self._offsets(rows)]
        return Requests(tuple(part for one in found for part in one.parts))

    def touch(self, rows: NDArray[np.int64]) -> bool:
        """Touch the first byte of each record; return False if a row cache or a limit counts."""
        if self.file_count is not None or self.limit is not None:
            return False
        for slices, gather, share in self._parts:
            slices.touch(gather.spots(rows if share == 1 else rows // share))
        return True

    def fill(self, rows: NDArray[np.int64], out: NDArray[Any], *, cold: bool) -> None:
        """Fill ``out``, shape (n, ...), with decoded rows; cold ones were announced."""
        records = []
        for slices, gather, share in self._parts:
            spots = gather.spots(rows if share == 1 else rows // share)
            if self._direct:
                slices.fill(spots, out, cold=cold)
                return
            some = borrow((len(rows), slices.record_bytes), _UINT8)
            slices.fill(spots, some, cold=cold)
            records.append(some)
        self._encoding.decode(tuple(records), out)
        give_back(*records)

    def _offsets(self, rows: NDArray[np.int64]) -> Iterator[tuple[SliceGather, NDArray[np.int64]]]:
        """Yield each column, and the addresses of the rows' records that are in its files."""
        for slices, gather, share in self._parts:
            some = rows if share == 1 else rows // share
            # A row cache counts those whose spots it gives.
            spots_of = gather.cold_spots if isinstance(gather, RowCache) else gather.spots
            yield slices, gather.offsets(spots_of(some))


def row_bytes(encoding: Encoding) -> int:
    """Return the size of a decoded row; 1 or more."""
    return max(math.prod(encoding.row_shape) * encoding.dtype.itemsize, 1)
