"""What would a lookup read? Pure: numbers in, numbers out, nothing is opened.

1. `group_by_chunk` sorts the physical rows and cuts them where the chunk changes. A group knows
   which elements of the request it serves, so its rows can be scattered back into request order.
2. `page_runs` turns the same rows into the pages they lie on, without repeats, and joins
   neighbours into runs: one run is one read.
3. `plan_lookup` puts both into a `LookupPlan`, which says what they amount to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.table.numbering import PhysicalRows


@dataclass(frozen=True, slots=True)
class ChunkGroup:
    """The part of a lookup that one chunk serves.

    Attributes
    ----------
    partition, chunk : int
        Which chunk.
    positions : ndarray of intp, shape (n,)
        The elements of the flattened request that it serves.
    rows : ndarray of int64, shape (n,)
        Their rows, counted from the begin of the chunk; ascending, repeats included.
    """

    partition: int
    chunk: int
    positions: NDArray[np.intp]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PageRuns:
    """Runs of neighbouring pages, ascending and apart from each other.

    Attributes
    ----------
    first_pages, page_counts : ndarray of int64, shape (runs,)
        Where each run begins, in pages from the begin of the address space, and its length.
    """

    first_pages: NDArray[np.int64]
    page_counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first_pages)


@dataclass(frozen=True, slots=True)
class LookupPlan:
    """What a lookup touches and reads, known before anything is read.

    Attributes
    ----------
    row_count, distinct_row_count : int
        Rows asked for, and different ones among them.
    partition_count, chunk_count : int
        Partitions and chunks touched.
    bytes_needed : int
        Bytes of the distinct rows.
    bytes_read : int
        Bytes of the pages (or of the chunks, where a reader decodes whole chunks) they lie on.
    run_count : int
        Reads, when neighbouring pages are fetched together.
    groups : tuple of ChunkGroup
        The rows by chunk.
    """

    row_count: int
    distinct_row_count: int
    partition_count: int
    chunk_count: int
    bytes_needed: int
    bytes_read: int
    run_count: int
    groups: tuple[ChunkGroup, ...] = field(repr=False)

    @property
    def read_amplification(self) -> float:
        """Bytes read for each byte needed; 0 for an empty lookup."""
        return self.bytes_read / self.bytes_needed if self.bytes_needed else 0.0

    def summary(self) -> dict[str, int | float]:
        """Return the plan's numbers by name, without its groups."""
        return {
            "rows": self.row_count,
            "distinct rows": self.distinct_row_count,
            "partitions": self.partition_count,
            "chunks": self.chunk_count,
            "bytes needed": self.bytes_needed,
            "bytes read": self.bytes_read,
            "runs": self.run_count,
            "read amplification": round(self.read_amplification, 2),
        }

    def __str__(self) -> str:
        lines = [f"{name:<20}{value:>15,}" for name, value in self.summary().items()]
        lines += ["", f"{'partition':>9}{'chunk':>9}{'rows':>17}"]
        shown = self.groups[:10]
        lines += [f"{g.partition:>9}{g.chunk:>9}{len(g.positions):>17,}" for g in shown]
        if len(shown) < len(self.groups):
            lines.append(f"... and {len(self.groups) - len(shown):,} more chunks")
        return "\n".join(lines)


def group_by_chunk(physical: NDArray[np.int64], numbering: PhysicalRows) -> tuple[ChunkGroup, ...]:
    """Group physical rows by the chunk that holds them.

    Parameters
    ----------
    physical : ndarray of int64, shape (n,)
        Physical rows in request order.
    numbering : PhysicalRows
        The store's numbering.
    """
    if physical.size == 0:
        return ()
    order = np.argsort(physical, kind="stable")
    places, rows = np.divmod(physical[order], numbering.stride_rows)
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    stops = np.append(starts[1:], len(places))
    return tuple(
        ChunkGroup(*numbering.chunk_at(int(places[start])), order[start:stop], rows[start:stop])
        for start, stop in zip(starts, stops, strict=True)
    )


def page_runs(physical: NDArray[np.int64], row_bytes: int, page_bytes: int) -> PageRuns:
    """Return the pages that rows lie on, neighbours joined.

    Parameters
    ----------
    physical : ndarray of int64, shape (n,)
        Physical rows in any order, repeats allowed.
    row_bytes, page_bytes : int
        Sizes of a row and of a page.

    Examples
    --------
    Rows of 1200 bytes: row 3 straddles pages 0 and 1, row 4 is on page 1, row 40 on 11.

    >>> runs = page_runs(np.array([40, 3, 4]), 1200, 4096)
    >>> runs.first_pages.tolist(), runs.page_counts.tolist()
    ([0, 11], [2, 2])
    """
    begins = np.sort(physical) * row_bytes
    first = begins // page_bytes
    last = (begins + (row_bytes - 1)) // page_bytes
    # All rows have one size, so `last` ascends like `first`, and a run ends where the next row
    # begins beyond the page after the last one.
    cuts = np.flatnonzero(first[1:] > last[:-1] + 1)
    first_pages = first[np.concatenate([[0], cuts + 1])] if len(first) else first
    last_pages = last[np.concatenate([cuts, [-1]])] if len(last) else last
    return PageRuns(first_pages, last_pages - first_pages + 1)


def plan_lookup(
    physical: NDArray[np.int64],
    numbering: PhysicalRows,
    *,
    row_bytes: int,
    page_bytes: int | None,
) -> LookupPlan:
    """Plan a lookup of physical rows.

    Parameters
    ----------
    physical : ndarray of int64, any shape
        Physical rows in request order.
    numbering : PhysicalRows
        The store's numbering.
    row_bytes : int
        Size of a row.
    page_bytes : int or None
        What the reader reads at the least: a page of this size, or None for whole chunks.
    """
    physical = physical.ravel()
    groups = group_by_chunk(physical, numbering)
    distinct_row_count = int(np.unique(physical).size)
    if page_bytes is None:
        run_count = len(groups)
        bytes_read = run_count * numbering.chunk_rows * row_bytes
    else:
        runs = page_runs(physical, row_bytes, page_bytes)
        run_count = len(runs)
        bytes_read = int(runs.page_counts.sum()) * page_bytes
    return LookupPlan(
        row_count=physical.size,
        distinct_row_count=distinct_row_count,
        partition_count=len({group.partition for group in groups}),
        chunk_count=len(groups),
        bytes_needed=distinct_row_count * row_bytes,
        bytes_read=bytes_read,
        run_count=run_count,
        groups=groups,
    )
