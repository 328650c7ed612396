"""Rows that replace others, held until all of them are known, then sorted by place.

Ids and rows are arrays that become files beyond their share of the memory
(`embstore.writing.disk.scratch`). Their order is found in two steps: rows of neighbouring places
are brought together, then each such bucket, which fits the memory, is sorted. So the work grows
with the number of rows only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.writing.disk.scratch import ScratchArray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.table.numbering import Numbering

# Elements handled at once.
PIECE_LENGTH = 1 << 18


class PendingRows:
    """Rows that replace others, with their ids.

    Parameters
    ----------
    row_bytes : int
        Bytes of a stored row.
    numbering : Numbering
        The places of the ids.
    memory_bytes : int
        The most memory to use.
    directory : Path
        Where to create files for the rest.

    Attributes
    ----------
    row_bytes : int
        Bytes of a stored row.
    """

    def __init__(
        self, row_bytes: int, numbering: Numbering, memory_bytes: int, directory: Path
    ) -> None:
        self.row_bytes = row_bytes
        self._numbering = numbering
        self._bucket_length = max(memory_bytes // 64, PIECE_LENGTH)
        self._rows = ScratchArray(np.uint8, memory_bytes // 2, directory)
        self._ids = ScratchArray(np.int64, memory_bytes // 8, directory)
        # Sorted, once they are settled; the order says where the row and the id stand.
        self._places = ScratchArray(np.int64, memory_bytes // 8, directory)
        self._order = ScratchArray(np.int64, memory_bytes // 8, directory)

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, ids: NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Add rows as they are stored, shape (n, ...), and their ids, shape (n,)."""
        self._ids.append(ids)
        self._rows.append(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))

    def settle(self) -> None:
        """Sort the rows by place, after the last one.

        Raises
        ------
        ValueError
            If an id is there twice.
        """
        count = len(self)
        self._places.resize(count)
        self._order.resize(count)
        places, order = self._places.array, self._order.array
        for part in _parts(count):
            places[part] = self._numbering.rows_of(self._ids.array[part])
        for bucket in self._bring_together(places, order):
            within = order[bucket]
            within = within[np.argsort(places[within], kind="stable")]
            order[bucket] = within
        for part in _parts(count):
            places[part] = self._numbering.rows_of(self._ids.array[order[part]])
        same = self._first_repeat(places)
        if same is not None:
            one, other = order[same : same + 2].tolist()
            raise ValueError(
                f"id {self._ids.array[one]} is given twice, at positions {one} and {other}; give "
                "each id once"
            )

    def chunks(self, chunk_rows: int) -> NDArray[np.int64]:
        """Return the chunks of the places that have rows, ascending, each once."""
        found = [np.unique(self._places.array[part] // chunk_rows) for part in _parts(len(self))]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    def part(
        self, start: int, stop: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        """Return the rows of the places ``start .. stop - 1``.

        Returns
        -------
        places, ids : ndarray of int64, shape (n,)
            Where each row belongs, ascending, and its id.
        rows : ndarray of uint8, shape (n, row_bytes)
        """
        first, last = np.searchsorted(self._places.array, [start, stop])
        order = self._order.array[first:last]
        rows = self._rows.array.reshape(-1, self.row_bytes)[order]
        found = self._places.array[first:last], self._ids.array[order], rows
        self._rows.release()
        return found

    def close(self) -> None:
        """Free the memory and the disk space."""
        for scratch in (self._rows, self._ids, self._places, self._order):
            scratch.close()

    def _bring_together(
        self, places: NDArray[np.int64], order: NDArray[np.int64]
    ) -> Iterator[slice]:
        """Order the rows by bucket; yield the part of each bucket."""
        count = len(places)
        bucket_count = -(-count // self._bucket_length)
        width = -(-max(self._numbering.column_rows, 1) // max(bucket_count, 1))
        sizes = np.zeros(max(bucket_count, 1), np.int64)
        for part in _parts(count):
            sizes += np.bincount(places[part] // width, minlength=len(sizes))
        stops = np.cumsum(sizes)
        cursors = stops - sizes
        for part in _parts(count):
            buckets = places[part] // width
            sorted_ = np.argsort(buckets, kind="stable")
            some = np.bincount(buckets, minlength=len(sizes))
            ranks = np.arange(len(buckets)) - np.repeat(np.cumsum(some) - some, some)
            order[np.repeat(cursors, some) + ranks] = sorted_ + part.start
            cursors += some
        for start, stop in zip((stops - sizes).tolist(), stops.tolist(), strict=True):
            yield slice(start, stop)

    def _first_repeat(self, places: NDArray[np.int64]) -> int | None:
        """Return the first position whose place is also the next one's."""
        for part in _parts(len(places)):
            some = places[part.start : part.stop + 1]
            if (equal := np.flatnonzero(some[1:] == some[:-1])).size:
                return int(part.start + equal[0])
        return None


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, PIECE_LENGTH):
        yield slice(start, min(start + PIECE_LENGTH, count))
