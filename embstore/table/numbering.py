"""Where in one address space is a row? The chunk-major numbering of the whole store.

A reader lays all chunks out at equal distances in one address space, partition after partition.
Numbering rows by their place there turns "partition, chunk, row of the chunk" into one integer,
the physical row, which carries the whole planner: sorting physical rows sorts by partition, chunk
and row at once, ``physical // stride_rows`` is the chunk, and the store is one array with one
stride.

The distance, ``stride_rows``, is the smallest number of rows that covers a chunk and whose bytes
are a multiple of the alignment: 2 MiB, so that a chunk can be mapped by 2 MiB pages. Both are
powers of two times the row, so it is a power of two too. What lies between the end of a chunk and
the next stride is address space, not memory, and is never addressed. Physical rows belong to a
reader, not to the format.
"""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING

from embstore.table.partitioning import scalar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.table.partitioning import Partitioning

HUGE_PAGE_BYTES = 2 << 20
# The alignments to try: huge pages if the address space they cost is within bounds, else less.
ALIGNMENTS = (HUGE_PAGE_BYTES, 64 << 10, mmap.PAGESIZE)
# Address space is plentiful (128 TiB), but many stores may be open at once.
FREE_ADDRESS_BYTES = 64 << 30
MAX_ADDRESS_FACTOR = 8


class PhysicalRows:
    """The numbering of a store's rows by their place in the address space.

    Parameters
    ----------
    partitioning : Partitioning
        How ids are dealt out.
    chunk_rows, stride_rows : int
        Rows in a chunk, and from the begin of one chunk to that of the next. Powers of two.

    Attributes
    ----------
    chunks_per_partition : int
        Chunk places of each partition; the last one of a shorter partition may be empty.
    chunk_count : int
        Chunk places in the address space.

    Raises
    ------
    ValueError
        If a number is not a power of two, or the stride does not cover a chunk.

    Examples
    --------
    Ten ids, ``mod`` over two partitions, chunks of 4 rows at distances of 8:

    >>> import numpy as np
    >>> from embstore.table.partitioning import Partitioning
    >>> numbering = PhysicalRows(Partitioning(10, 2, "mod"), chunk_rows=4, stride_rows=8)
    >>> numbering.number(np.arange(10)).tolist()
    [0, 16, 1, 17, 2, 18, 3, 19, 8, 24]
    """

    def __init__(self, partitioning: Partitioning, chunk_rows: int, stride_rows: int) -> None:
        for count in (chunk_rows, stride_rows):
            if count < 1 or count & (count - 1):
                raise ValueError(f"{count} rows, which is not a power of two")
        if stride_rows < chunk_rows:
            raise ValueError(f"a stride of {stride_rows} rows for {chunk_rows} in a chunk")
        self.partitioning = partitioning
        self.chunk_rows = chunk_rows
        self.stride_rows = stride_rows
        self.chunks_per_partition = -(-partitioning.row_count(0) // chunk_rows)
        self.chunk_count = self.chunks_per_partition * partitioning.partition_count
        self._partition_rows = self.chunks_per_partition * stride_rows
        self._chunk_shift = chunk_rows.bit_length() - 1
        # Where partitions have one chunk, no row lies behind a gap.
        self._gap_rows = stride_rows - chunk_rows if self.chunks_per_partition > 1 else 0
        self._partition_scalar = scalar(self._partition_rows)
        self._shift_scalar = scalar(self._chunk_shift)
        self._gap_scalar = scalar(self._gap_rows)

    def number(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the physical row of each id.

        Parameters
        ----------
        ids : ndarray of int64, any shape
            In range; this is not checked here.

        Returns
        -------
        physical : ndarray of int64, the shape of ``ids``
        """
        # In place, because for a small lookup each new array is a good part of the time.
        physical, row = self.partitioning.locate(ids)
        physical *= self._partition_scalar
        physical += row
        if self._gap_rows:
            row >>= self._shift_scalar
            row *= self._gap_scalar
            physical += row
        return physical

    def number_one(self, number: int) -> int:
        """Return the physical row of one id."""
        partition, row = self.partitioning.locate_one(number)
        return partition * self._partition_rows + row + (row >> self._chunk_shift) * self._gap_rows

    def chunk_place(self, partition: int, chunk: int) -> int:
        """Return the place of a partition's chunk in the address space, counted in strides."""
        return partition * self.chunks_per_partition + chunk

    def chunk_at(self, place: int) -> tuple[int, int]:
        """Return the partition and the chunk at a place in the address space."""
        return divmod(place, self.chunks_per_partition)


def physical_rows(manifest: Manifest) -> PhysicalRows:
    """Return the numbering for a store, with the best alignment that its address space allows."""
    row_bytes = manifest.row_bytes
    longest = manifest.partition(0)
    place_count = longest.chunk_count * manifest.partition_count
    limit = max(FREE_ADDRESS_BYTES, MAX_ADDRESS_FACTOR * place_count * longest.chunk_bytes)
    stride_rows = manifest.chunk_rows
    for alignment in ALIGNMENTS:
        stride_rows = max(manifest.chunk_rows, alignment // math.gcd(row_bytes, alignment))
        if place_count * stride_rows * row_bytes <= limit:
            break
    return PhysicalRows(manifest.partitioning, manifest.chunk_rows, stride_rows)
