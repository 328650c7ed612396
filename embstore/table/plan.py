"""Plans of lookups: the chunks they touch and the bytes they read, without reading any.

1. `group_by_extent` sorts rows and cuts them where the extent changes. A group lists the positions
   in the request that it serves, so its records can be put back into request order.
2. `runs` turns the same records into the pages or bytes they lie on, without repeats, and joins
   neighbours: one run is one read.
3. `plan_lookup` combines both into a `LookupPlan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.table.addresses import Addresses
    from embstore.table.numbering import Numbering

# Units for each record, at most, among which those that hold one are marked instead of sorted.
MARKED_UNITS = 16
# Fewer records are sorted as fast.
MARKED_RECORDS = 1024


@dataclass(frozen=True, slots=True)
class ExtentGroup:
    """The part of a lookup that one extent serves.

    Attributes
    ----------
    extent : int
        The extent's place in its column.
    positions : ndarray of intp, shape (n,)
        The elements of the flattened request that it serves.
    rows : ndarray of int64, shape (n,)
        Their rows, counted from the first of the extent; ascending, repeats included.
    """

    extent: int
    positions: NDArray[np.intp]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChunkGroup:
    """The part of a lookup that one chunk serves.

    Attributes
    ----------
    partition, chunk : int
        The partition, and the chunk of it.
    positions : ndarray of intp, shape (n,)
        The elements of the flattened request that it serves.
    rows : ndarray of int64, shape (n,)
        Their rows, counted from the first of the chunk; ascending, repeats included.
    """

    partition: int
    chunk: int
    positions: NDArray[np.intp]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of consecutive units (pages, or bytes), ascending and apart from each other.

    Attributes
    ----------
    firsts, counts : ndarray of int64, shape (runs,)
        First unit of each run, and number of its units.
    """

    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.firsts)


@dataclass(frozen=True, slots=True)
class LookupPlan:
    """The plan of a lookup: what it touches and what it reads.

    Attributes
    ----------
    row_count, distinct_row_count : int
        Rows requested, and distinct ones among them.
    partition_count, chunk_count : int
        Partitions and chunks touched.
    bytes_needed : int
        Bytes of the distinct rows, as they are stored; of scales in another tensor, too.
    bytes_read : int
        Bytes of the runs.
    run_count : int
        Number of reads; neighbours are read together.
    groups : tuple of ChunkGroup
        The rows by chunk.
    bytes_decoded : int
        Bytes of rows that are decoded; 0 if they are stored without compression.
    file_cache_row_count : int
        Rows, of those requested, whose files are in the cache of a remote store; the reads are
        those of the others.
    request_count : int
        Requests that are sent for them; 0 if the files are on a disk.
    """

    row_count: int
    distinct_row_count: int
    partition_count: int
    chunk_count: int
    bytes_needed: int
    bytes_read: int
    run_count: int
    groups: tuple[ChunkGroup, ...] = field(repr=False)
    bytes_decoded: int = field(default=0, repr=False)
    file_cache_row_count: int = field(default=0, repr=False)
    request_count: int = field(default=0, repr=False)

    @property
    def read_amplification(self) -> float:
        """Bytes read for each byte needed; 0 for an empty lookup."""
        return self.bytes_read / self.bytes_needed if self.bytes_needed else 0.0

    @property
    def decode_amplification(self) -> float:
        """Bytes decoded for each byte needed; 0 without compression."""
        return self.bytes_decoded / self.bytes_needed if self.bytes_needed else 0.0

    def summary(self) -> dict[str, int | float]:
        """Return the plan's numbers by name, without its groups."""
        found: dict[str, int | float] = {
            "rows": self.row_count,
            "distinct rows": self.distinct_row_count,
            "partitions": self.partition_count,
            "chunks": self.chunk_count,
            "bytes needed": self.bytes_needed,
            "bytes read": self.bytes_read,
            "runs": self.run_count,
            "read amplification": round(self.read_amplification, 2),
        }
        if self.bytes_decoded:
            found["bytes decoded"] = self.bytes_decoded
            found["decode amplification"] = round(self.decode_amplification, 2)
        if self.request_count:
            found["requests"] = self.request_count
        if self.file_cache_row_count:
            found["rows in the cache"] = self.file_cache_row_count
        return found

    def __str__(self) -> str:
        lines = [f"{name:<20}{value:>15,}" for name, value in self.summary().items()]
        lines += ["", f"{'partition':>9}{'chunk':>9}{'rows':>17}"]
        shown = self.groups[:10]
        lines += [f"{g.partition:>9}{g.chunk:>9}{len(g.rows):>17,}" for g in shown]
        if len(self.groups) > len(shown):
            lines.append(f"... and {len(self.groups) - len(shown)} more chunks")
        return "\n".join(lines)


def group_by_extent(
    rows: NDArray[np.int64], first_rows: NDArray[np.int64]
) -> tuple[ExtentGroup, ...]:
    """Group rows by extent.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the column in any order, repeats allowed.
    first_rows : ndarray of int64, shape (extents + 1,)
        The first row of each extent, and the number of rows; see `Column.first_rows`.

    Examples
    --------
    >>> groups = group_by_extent(np.array([7, 0, 5]), np.array([0, 4, 8]))
    >>> [(g.extent, g.positions.tolist(), g.rows.tolist()) for g in groups]
    [(0, [1], [0]), (1, [2, 0], [1, 3])]
    """
    if rows.size == 0:
        return ()
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    extents = np.searchsorted(first_rows, ordered, side="right") - 1
    starts = np.flatnonzero(np.diff(extents, prepend=-1))
    stops = np.append(starts[1:], len(extents))
    inside = ordered - first_rows[extents]
    return tuple(
        ExtentGroup(int(extents[start]), order[start:stop], inside[start:stop])
        for start, stop in zip(starts, stops, strict=True)
    )


def runs(
    offsets: NDArray[np.int64],
    count: int,
    *,
    unit: int = 1,
    max_gap: int = 0,
    max_run: int | None = None,
) -> Runs:
    """Return the units that hold records, neighbours joined into runs.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n,)
        First byte of each record, in any order, repeats allowed.
    count : int
        Bytes of a record.
    unit : int
        Bytes of a unit: a page, or 1.
    max_gap : int
        The most unneeded units between two records of one run.
    max_run : int, optional
        The longest run, in units; a longer one is cut.

    Examples
    --------
    Rows of 1200 bytes: row 3 straddles pages 0 and 1, row 4 is on page 1, row 40 on 11 and 12.

    >>> found = runs(np.array([40, 3, 4]) * 1200, 1200, unit=4096)
    >>> found.firsts.tolist(), found.counts.tolist()
    ([0, 11], [2, 2])
    """
    # Sorting ascending ones would take 20 times as long as looking.
    if bool((offsets[1:] >= offsets[:-1]).all()):
        begins = offsets
    elif count <= unit and not max_gap and (units := _marked(offsets, count, unit)) is not None:
        begins, count = units * unit, unit
    else:
        begins = np.sort(offsets)
    first = begins // unit
    last = (begins + (count - 1)) // unit
    # All records have one size, so `last` ascends like `first`, and a run ends where the next
    # record begins beyond the gap after the last one.
    cuts = np.flatnonzero(first[1:] > last[:-1] + (1 + max_gap))
    firsts = first[np.concatenate([[0], cuts + 1])] if len(first) else first
    lasts = last[np.concatenate([cuts, [-1]])] if len(last) else last
    found = Runs(firsts, lasts - firsts + 1)
    return found if max_run is None else _cut(found, max_run)


def plan_lookup(
    rows: NDArray[np.int64],
    numbering: Numbering,
    addresses: Addresses,
    *,
    unit: int | None,
    max_gap: int = 0,
) -> LookupPlan:
    """Plan a lookup.

    Parameters
    ----------
    rows : ndarray of int64, any shape
        Rows of the column in request order.
    numbering : Numbering
        The table's numbering.
    addresses : Addresses
        The layout of the column.
    unit, max_gap : int
        Bytes of the reader's smallest read, and the most unneeded units between two records, as in
        `runs`. If ``unit`` is None, whole extents are read.
    """
    rows = rows.ravel()
    groups = group_by_extent(rows, addresses.first_rows)
    distinct = np.unique(rows)
    if unit is None:
        touched = [group.extent for group in groups]
        extent_rows = np.diff(addresses.first_rows)[touched]
        run_count, bytes_read = len(groups), int(extent_rows.sum()) * addresses.record_bytes
    else:
        found = runs(addresses.of(distinct), addresses.record_bytes, unit=unit, max_gap=max_gap)
        run_count, bytes_read = len(found), int(found.counts.sum()) * unit
    chunks = tuple(_chunk_group(group, numbering, addresses.first_rows) for group in groups)
    return LookupPlan(
        row_count=rows.size,
        distinct_row_count=distinct.size,
        partition_count=len({chunk.partition for chunk in chunks}),
        chunk_count=len(chunks),
        bytes_needed=distinct.size * addresses.record_bytes,
        bytes_read=bytes_read,
        run_count=run_count,
        groups=chunks,
    )


def plan_inner_chunks(
    rows: NDArray[np.int64],
    numbering: Numbering,
    first_rows: NDArray[np.int64],
    record_bytes: int,
    inner_rows: int,
    cost: Callable[[NDArray[np.int64]], tuple[int, int]],
) -> LookupPlan:
    """Plan a lookup in compressed extents: each inner chunk touched is one read.

    Parameters
    ----------
    rows : ndarray of int64, any shape
        Rows of the column in request order.
    numbering : Numbering
        The table's numbering.
    first_rows : ndarray of int64, shape (extents + 1,)
        The first row of each extent, and the number of rows.
    record_bytes, inner_rows : int
        Bytes of a row, and rows in an inner chunk.
    cost : callable
        Returns the requests and the bytes of reading some inner chunks, shape (n,), given by their
        numbers in the column.
    """
    rows = rows.ravel()
    groups = group_by_extent(rows, first_rows)
    chunks = tuple(_chunk_group(group, numbering, first_rows) for group in groups)
    distinct = np.unique(rows)
    inner = np.unique(distinct // inner_rows)
    request_count, bytes_read = cost(inner)
    return LookupPlan(
        row_count=rows.size,
        distinct_row_count=distinct.size,
        partition_count=len({chunk.partition for chunk in chunks}),
        chunk_count=len(chunks),
        bytes_needed=distinct.size * record_bytes,
        bytes_read=bytes_read,
        run_count=inner.size,
        groups=chunks,
        bytes_decoded=inner.size * inner_rows * record_bytes,
        request_count=request_count,
    )


def join_plans(plans: Sequence[LookupPlan], rows: NDArray[np.int64]) -> LookupPlan:
    """Return the plan of a lookup in several columns, given that in each of them.

    Its partitions, chunks and groups are those of the first column; its bytes and runs, the sums.
    """
    return replace(
        plans[0],
        distinct_row_count=np.unique(rows).size,
        bytes_needed=sum(plan.bytes_needed for plan in plans),
        bytes_read=sum(plan.bytes_read for plan in plans),
        run_count=sum(plan.run_count for plan in plans),
        bytes_decoded=sum(plan.bytes_decoded for plan in plans),
        request_count=sum(plan.request_count for plan in plans),
    )


def _chunk_group(
    group: ExtentGroup, numbering: Numbering, first_rows: NDArray[np.int64]
) -> ChunkGroup:
    """Return a group with its extent named as a partition and a chunk of it."""
    partition = 0
    if numbering.partition_count > 1:
        partition = int(first_rows[group.extent]) // numbering.distance
    first = int(np.searchsorted(first_rows, partition * numbering.distance, side="left"))
    return ChunkGroup(partition, group.extent - first, group.positions, group.rows)


def _marked(offsets: NDArray[np.int64], count: int, unit: int) -> NDArray[np.int64] | None:
    """Return the distinct units of records of at most a unit; None if sorting is as fast."""
    if len(offsets) < MARKED_RECORDS:
        return None
    first = offsets // unit
    low = int(first.min())
    span = int(first.max()) - low + 2
    if span > MARKED_UNITS * len(offsets):
        return None
    # A fourth of the time of sorting them.
    first -= low
    marks = np.zeros(span, np.bool_)
    marks[first] = True
    marks[(offsets + (count - 1)) // unit - low] = True
    return np.flatnonzero(marks) + low


def _cut(found: Runs, max_run: int) -> Runs:
    """Cut runs that are longer than ``max_run`` units."""
    if found.counts.max(initial=0) <= max_run:  # As nearly always of random rows.
        return found
    pieces = -(-found.counts // max_run)
    starts = np.repeat(
        np.cumsum(pieces) - pieces, pieces
    )  # For each piece, the first piece of its run.
    skipped = (np.arange(len(starts)) - starts) * max_run
    firsts = np.repeat(found.firsts, pieces) + skipped
    return Runs(firsts, np.minimum(np.repeat(found.counts, pieces) - skipped, max_run))
