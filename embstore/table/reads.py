"""The reads of a lookup: records of a column, grouped into ranges of bytes of its files.

1. Records are sorted by extent and place. Neighbours, and those with a small gap between them, are
   one range.
2. A long range is cut, so that its parts can be read at the same time and memory stays bounded.

A record that is asked for several times is read once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reads:
    """Ranges of bytes to read, and the records in each.

    Attributes
    ----------
    extents, firsts, counts : ndarray of int64, shape (ranges,)
        The extent of each range, its first byte after the start of the extent, and its bytes.
    bounds : ndarray of int64, shape (ranges + 1,)
        The records of range ``i`` are those from ``bounds[i]`` to ``bounds[i + 1]``.
    positions : ndarray of intp, shape (n,)
        Where each record stands in the request.
    offsets : ndarray of int64, shape (n,)
        Where each record stands in its range, in bytes.
    """

    extents: NDArray[np.int64]
    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]
    bounds: NDArray[np.int64]
    positions: NDArray[np.intp]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.firsts)

    def each(self) -> Iterator[tuple[int, int, int]]:
        """Yield the extent, first byte and bytes of each range."""
        columns = (self.extents.tolist(), self.firsts.tolist(), self.counts.tolist())
        return zip(*columns, strict=True)


def plan_reads(
    rows: NDArray[np.int64],
    first_rows: NDArray[np.int64],
    record_bytes: int,
    *,
    max_gap: int,
    max_bytes: int,
) -> Reads:
    """Plan the reads of a lookup.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the column in any order, repeats allowed.
    first_rows : ndarray of int64, shape (extents + 1,)
        The first row of each extent, and the number of rows.
    record_bytes : int
        Bytes of a record.
    max_gap : int
        The most unneeded bytes between two records of a range.
    max_bytes : int
        The most bytes of a range, unless it is one record.

    Examples
    --------
    >>> rows, first_rows = np.array([7, 0, 5, 7]), np.array([0, 4, 8])
    >>> found = plan_reads(rows, first_rows, 10, max_gap=10, max_bytes=99)
    >>> found.extents.tolist(), found.firsts.tolist(), found.counts.tolist()
    ([0, 1], [0, 10], [10, 30])
    >>> found.bounds.tolist(), found.positions.tolist(), found.offsets.tolist()
    ([0, 1, 4], [1, 2, 0, 3], [0, 0, 20, 20])
    """
    extents = np.searchsorted(first_rows, rows, side="right") - 1
    places = (rows - first_rows[extents]) * record_bytes
    sizes = np.full(len(rows), record_bytes)
    # So that long ranges are cut into whole records.
    most = max(max_bytes // record_bytes, 1) * record_bytes
    return plan_range_reads(extents, places, sizes, max_gap=max_gap, max_bytes=most)


def plan_range_reads(
    extents: NDArray[np.int64],
    places: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    max_gap: int,
    max_bytes: int,
) -> Reads:
    """Plan the reads of records of several sizes, which do not overlap unless they are equal.

    Parameters
    ----------
    extents, places, sizes : ndarray of int64, shape (n,)
        The extent of each record, its first byte there, and its bytes.
    max_gap, max_bytes : int
        As for `plan_reads`.
    """
    positions = np.lexsort((places, extents))
    extents, places, sizes = extents[positions], places[positions], sizes[positions]
    is_new = np.ones(len(places), np.bool_)
    is_new[1:] = (extents[1:] != extents[:-1]) | (places[1:] > places[:-1] + (sizes[:-1] + max_gap))
    # The part of its range that each record ends in; those of one size end where parts do.
    starts = np.flatnonzero(is_new)
    ends = places + sizes - 1
    parts = (ends - places[starts][np.cumsum(is_new) - 1]) // max(max_bytes, 1)
    is_new[1:] |= parts[1:] != parts[:-1]
    starts = np.flatnonzero(is_new)
    bounds = np.append(starts, len(places))
    firsts = places[starts]
    counts = ends[bounds[1:] - 1] + 1 - firsts
    offsets = places - np.repeat(firsts, np.diff(bounds))
    return Reads(extents[starts], firsts, counts, bounds, positions, offsets)


def batches(sizes: Sequence[int], most: int) -> Iterator[range]:
    """Yield consecutive ranges of positions whose sizes add up to ``most`` or less, or are one.

    Examples
    --------
    >>> list(batches([3, 4, 9, 1], 8))
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    start = total = 0
    for at, size in enumerate(sizes):
        if at > start and total + size > most:
            yield range(start, at)
            start, total = at, 0
        total += size
    if start < len(sizes):
        yield range(start, len(sizes))
