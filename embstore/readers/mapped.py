"""Rows out of one address space: a lookup is one ``take``.

All chunk files of the store are mapped side by side, so the store is one NumPy array of physical
rows. The page table does the grouping, and rows land in request order without a second copy.

Rows that are not in the page cache would be read one after the other, each when ``take`` touches
it. So a cold slice of the request is announced first: its pages, sorted and joined into runs, one
``MADV_WILLNEED`` a run, which puts all reads in flight at once. Announcing costs several times the
gather of a warm row, so it must stop when rows are warm. The kernel counts the blocks that this
thread caused to be read (``ru_inblock``): a slice that moved the counter was cold. The next slice
is taken for what the last one was.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from embstore.mapping import MADV_WILLNEED, PAGE_BYTES, AddressSpace, MappedFile
from embstore.physical import physical_rows
from embstore.plan import page_runs

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from embstore.manifest import Manifest

# The reads of a cold slice are in flight together: enough to fill a disk's queue, few enough that
# the slice is still in memory when it is gathered. Warm slices grow from a small one, so that the
# first cold row of a request is noticed before many of them were read one by one.
COLD_SLICE_ROWS = 512
WARM_SLICE_ROWS = 8192
PROBE_ROWS = 16


class MappedReader:
    """Reads the raw layout of a local store through one mapping.

    Parameters
    ----------
    path : Path
        The store.
    manifest : Manifest
        Its manifest.

    Raises
    ------
    StoreCorruptError
        If a chunk file is missing or of another size.
    """

    page_bytes: int | None = PAGE_BYTES

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.numbering = physical_rows(manifest)
        self._row_bytes = manifest.row_bytes
        stride_bytes = self.numbering.stride_rows * manifest.row_bytes
        files = []
        for number in range(manifest.partition_count):
            array = manifest.partition(number)
            for chunk in range(array.chunk_count):
                offset_bytes = self.numbering.chunk_place(number, chunk) * stride_bytes
                where = path / array.chunk_name(chunk)
                files.append(MappedFile(where, offset_bytes, array.chunk_bytes, array.file_bytes))
        self._space = AddressSpace(self.numbering.chunk_count * stride_bytes, files)
        shape = (self.numbering.chunk_count * self.numbering.stride_rows, *manifest.row_shape)
        self._rows = self._space.data.view(manifest.dtype).reshape(shape)
        self._cold = False

    def read(self, physical: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows; see `embstore.readers.Reader`."""
        flat = physical.reshape(-1)
        rows = out.reshape(-1, *self._rows.shape[1:])
        start, length = 0, PROBE_ROWS
        while start < len(flat):
            length = COLD_SLICE_ROWS if self._cold else min(2 * length, WARM_SLICE_ROWS)
            piece = slice(start, start + length)
            blocks = _blocks_read()
            if self._cold:
                self._announce(flat[piece])
            self._rows.take(flat[piece], axis=0, out=rows[piece], mode="clip")
            self._cold = _blocks_read() != blocks
            start += length

    def _announce(self, physical: NDArray[np.int64]) -> None:
        runs = page_runs(physical, self._row_bytes, PAGE_BYTES)
        offsets = (runs.first_pages * PAGE_BYTES).tolist()
        sizes = (runs.page_counts * PAGE_BYTES).tolist()
        for offset_bytes, size_bytes in zip(offsets, sizes, strict=True):
            self._space.advise(offset_bytes, size_bytes, MADV_WILLNEED)


def _blocks_read() -> int:
    """Return how many blocks this thread (where the system counts threads) caused to be read."""
    return resource.getrusage(_WHO).ru_inblock


_WHO: int = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
