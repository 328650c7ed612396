"""Reads ahead of lookups in several columns; see `embstore.reading.read_ahead` for one."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from embstore.reading.read_ahead import (
    CALLER_ROWS,
    GATHER_ROWS,
    QUICK_BYTES,
    SHARED_BYTES,
    Later,
)
from embstore.reading.warmth import BLOCK_BYTES, ROWS_PER_READ, blocks_read
from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embstore.reading.decoded_slices import DecodedSlices
    from embstore.reading.read_ahead import ReadAhead
    from embstore.reading.stats import StatsCounter


class EncodedReadAhead:
    """Reads ahead of lookups in mapped columns.

    Parameters
    ----------
    slices : DecodedSlices
        Gathers and decodes rows.
    parts : sequence of ReadAhead
        Those of each column.
    shares : sequence of int
        How many rows share a record, for each column.
    stats : StatsCounter
        Counts lookups.
    take : callable
        Fills an array with rows, whether cold or warm: ``take(rows, out)``.
    """

    def __init__(
        self,
        slices: DecodedSlices,
        parts: Sequence[ReadAhead],
        shares: Sequence[int],
        stats: StatsCounter,
        take: Callable[[NDArray[np.int64], NDArray[Any]], None],
    ) -> None:
        self._slices, self._stats, self._take = slices, stats, take
        self._parts = list(zip(parts, shares, strict=True))

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Announce a few rows, and return the rest of the lookup.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            The rows; not changed afterwards.
        """
        unknown = [part.unknown(rows // share) for part, share in self._parts]
        count = max(map(len, unknown))
        size_bytes = len(rows) * self._slices.record_bytes
        shared = not count and size_bytes >= SHARED_BYTES
        if shared or (count > CALLER_ROWS and 2 * count > len(rows)):
            return Later(partial(self._gather_shared, rows, unknown), quick=False)
        if count <= CALLER_ROWS:
            quick = not count and size_bytes <= QUICK_BYTES
            return Later(partial(self._gather_announced, rows, self._announce(unknown)), quick)
        return Later(partial(self._announce_and_gather, rows, unknown), quick=False)

    def fetch(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Announce rows, if they are few; return functions that announce the rest, and wait."""
        return [work for part, share in self._parts for work in part.fetch(rows // share)]

    def _announce(self, unknown: Sequence[NDArray[np.int64]]) -> int:
        """Have the kernel start reading records of each column; return the blocks to be read."""
        return sum(
            part.announce(offsets) for (part, _), offsets in zip(self._parts, unknown, strict=True)
        )

    def _gather_shared(
        self, rows: NDArray[np.int64], unknown: Sequence[NDArray[np.int64]], out: NDArray[Any]
    ) -> None:
        self._take(rows, out)
        for (part, _), offsets in zip(self._parts, unknown, strict=True):
            part.pages.add(offsets)

    def _announce_and_gather(
        self, rows: NDArray[np.int64], unknown: Sequence[NDArray[np.int64]], out: NDArray[Any]
    ) -> None:
        self._gather_announced(rows, self._announce(unknown), out)

    def _gather_announced(self, rows: NDArray[np.int64], blocks: int, out: NDArray[Any]) -> None:
        """Gather rows, for the unknown ones of which some blocks were read already."""
        start = time.perf_counter()
        for first in range(0, len(rows), GATHER_ROWS):
            stop, before = first + GATHER_ROWS, blocks_read()
            some = rows[first:stop]
            self._slices.fill(some, out[first:stop], cold=False)
            more = blocks_read() - before
            blocks += more
            reads = more * BLOCK_BYTES // PAGE_BYTES
            forgotten = [part.pages.note(len(some), reads) for part, _ in self._parts]
            if any(forgotten):
                blocks += self._announce(
                    [part.offsets(rows[stop:] // share) for part, share in self._parts]
                )
        seconds = time.perf_counter() - start
        bytes_read = blocks * BLOCK_BYTES
        cold = int(bytes_read * ROWS_PER_READ > len(rows) * PAGE_BYTES)  # As `Warmth.note`.
        self._stats.add(len(rows), bytes_read, cold, 1 - cold, seconds)
