"""Rows out of one address space: a lookup is a ``take``, warm or cold.

All chunk files of the store are mapped side by side, so the store is one NumPy array of physical
rows. The page table does the grouping, and rows land in request order without a second copy.

1. A lookup is cut into slices. A small one is a single slice on the calling thread. Those of a
   large one are shared with as many threads as there are processors; ``take`` gives up the GIL.
2. Rows that are not in the page cache would be read one after the other, each when ``take`` touches
   it. So a cold slice is announced first: its pages, sorted and joined into runs, are all given to
   the kernel, which puts their reads in flight at once. Here more threads than processors help.
3. Warm rows' begins are touched together before the slice is gathered, so that the processor waits
   for many of them at a time.
4. Announcing costs more than gathering a warm row, so it must stop when rows are warm. The kernel
   counts the blocks that a thread caused to be read (``ru_inblock``), by touching and by announcing
   alike: a slice that moved the counter was cold. The next slice is taken for what the last one
   was, also from call to call; a thread that expects warm rows begins with a few.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from contextlib import nullcontext
from functools import partial
from resource import getrusage
from typing import TYPE_CHECKING, Any

from embstore.reading import workers
from embstore.reading.mapping import PAGE_BYTES, AddressSpace, MappedFile
from embstore.reading.residence import ResidentLimit, preload
from embstore.reading.scanning import MappedScan
from embstore.reading.stats import StatsCounter
from embstore.table.numbering import physical_rows
from embstore.table.plan import page_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.progress import OnProgress
    from embstore.reading import Visit

# A warm slice is large enough that what it costs besides its gather does not count, and small
# enough that one with cold rows in it is noticed soon.
WARM_SLICE_BYTES = 512 << 10
MAX_SLICE_ROWS = 4096
# The reads of a cold slice are in flight together, and the slices of several threads beside it.
COLD_SLICE_ROWS = 128
# Up to this many rows are one slice.
SMALL_ROWS = 64
# From this many rows on, touching their begins first pays.
TOUCHED_ROWS = 16
# Where rows are expected to be warm, a thread's first slice is this small.
PROBE_ROWS = 16
# Handing work over costs 30 to 50 us, in which a thread gathers some hundred KiB.
HELPED_BYTES = 1 << 20

# Announcing waits when the disk's queue is full; more threads would not fill it further.
PREFETCHING_THREADS = 2

CACHE_LINE_BYTES = 64
BLOCK_BYTES = 512  # The unit of ru_inblock.


class MappedReader:
    """Reads the raw layout of a local store through one mapping.

    Parameters
    ----------
    path : Path
        The store.
    manifest : Manifest
        Its manifest.
    resident_limit : int, optional
        How many bytes of the mapping may be resident.

    Raises
    ------
    StoreCorruptError
        If a chunk file is missing or of another size.
    """

    page_bytes: int | None = PAGE_BYTES

    def __init__(
        self, path: Path, manifest: Manifest, *, resident_limit: int | None = None
    ) -> None:
        self.numbering = physical_rows(manifest)
        self.stats = StatsCounter(manifest.row_bytes)
        self._row_bytes = manifest.row_bytes
        self._warm_slice_rows = min(max(WARM_SLICE_BYTES // manifest.row_bytes, 1), MAX_SLICE_ROWS)
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
        self._items = self._space.data.view(manifest.dtype)
        # A row of one cache line or two has no begin to be touched before the rest.
        long_rows = manifest.row_bytes > 2 * CACHE_LINE_BYTES
        self._row_items = manifest.row_bytes // manifest.dtype.itemsize if long_rows else 0
        self._cold = False
        self._limit: ResidentLimit | None = None
        if resident_limit is not None:
            self._limit = ResidentLimit(self._space, resident_limit)

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows; see `embstore.reading.Reader`."""
        begin = time.perf_counter()
        physical = self.numbering.number(ids)
        if physical.ndim != 1:
            physical = physical.reshape(-1)
            out = out.reshape(-1, *self._rows.shape[1:])
        if len(physical) <= SMALL_ROWS:
            before = getrusage(_WHO).ru_inblock
            self._gather_slice(physical, out, cold=self._cold)
            blocks = getrusage(_WHO).ru_inblock - before
            self._cold = blocks > 0
            cold, warm = int(blocks > 0), int(blocks == 0)
        else:
            blocks, cold, warm = self._gather_together(physical, out)
        seconds = time.perf_counter() - begin
        self.stats.add(len(physical), blocks * BLOCK_BYTES, cold, warm, seconds)

    def read_one(self, number: int) -> NDArray[Any]:
        """Return the row of one id, a copy."""
        begin = time.perf_counter()
        before = getrusage(_WHO).ru_inblock
        place = self.numbering.number_one(number)
        row: NDArray[Any]
        if self._limit is None:
            row = self._rows[place].copy()
        else:
            with self._limit.touching(1):
                row = self._rows[place].copy()
        blocks = getrusage(_WHO).ru_inblock - before
        cold = blocks > 0
        self.stats.add(1, blocks * BLOCK_BYTES, cold, not cold, time.perf_counter() - begin)
        return row

    def prefetch(self, ids: NDArray[np.int64]) -> None:
        """Start reading rows, shape (n,), that are not in the page cache; do not wait for them."""
        physical = self.numbering.number(ids)
        for first in range(min(PREFETCHING_THREADS, len(physical))):
            workers.submit(partial(self._announce_all, physical[first::PREFETCHING_THREADS]))

    def scan(self, start: int, stop: int, visit: Visit) -> None:
        """Show the rows of the ids ``start .. stop - 1``; see `embstore.EmbeddingStore.scan`."""
        MappedScan(self._space, self._rows, self.numbering, self._limit).run(start, stop, visit)

    def preload(self, progress: OnProgress | None) -> None:
        """Read everything into RAM and map it; see `embstore.reading.residence`."""
        # What is over the limit stays in the page cache only.
        with nullcontext() if self._limit is None else self._limit.touching(1):
            preload(self._space, progress)

    def _announce_all(self, physical: NDArray[np.int64]) -> None:
        for start in range(0, len(physical), MAX_SLICE_ROWS):
            self._announce(physical[start : start + MAX_SLICE_ROWS])

    def _announce(self, physical: NDArray[np.int64]) -> None:
        """Have the kernel start reading the pages of rows, shape (n,), that it does not have."""
        runs = page_runs(physical, self._row_bytes, PAGE_BYTES)
        self._space.announce(runs.first_pages * PAGE_BYTES, runs.page_counts * PAGE_BYTES)

    def _gather_together(
        self, physical: NDArray[np.int64], out: NDArray[Any]
    ) -> tuple[int, int, int]:
        """Gather on as many threads as help; return blocks read, cold slices, warm slices."""
        left = [(0, len(physical))]
        done: list[tuple[int, int, int]] = []
        while left:
            shares = self._shares(left)
            works = [
                partial(self._gather, physical, out, shares[own:] + shares[:own])
                for own in range(len(shares))
            ]
            done += workers.together(works, partial(_clear, shares))
            # What threads left when they met cold rows is cut and shared out anew.
            left = [piece for share in shares for piece in share]
        blocks, cold, warm = map(sum, zip(*done, strict=True))
        return blocks, cold, warm

    def _shares(self, pieces: list[tuple[int, int]]) -> list[deque[tuple[int, int]]]:
        """Cut pieces of a lookup into slices, a share for each thread that helps.

        Each thread begins with a share of neighbours, so that two do not fault in the same pages of
        a fresh ``out``, and then takes what is left of the others'.
        """
        cold = self._cold  # Other lookups may change it at any time.
        length = COLD_SLICE_ROWS if cold else self._warm_slice_rows
        slices = [
            (start, min(start + length, stop))
            for first, stop in pieces
            for start in range(first, stop, length)
        ]
        if cold:
            thread_count = workers.THREAD_COUNT
        else:
            helped_bytes = len(slices) * length * self._row_bytes // HELPED_BYTES
            thread_count = max(min(workers.processor_count(), helped_bytes), 1)
        size = -(-len(slices) // thread_count)
        shares = [deque(slices[first : first + size]) for first in range(0, len(slices), size)]
        if not cold:
            for share in shares:
                start, stop = share[0]
                if stop - start > PROBE_ROWS:
                    share[0] = (start + PROBE_ROWS, stop)
                    share.appendleft((start, start + PROBE_ROWS))
        return shares

    def _gather(
        self,
        physical: NDArray[np.int64],
        out: NDArray[Any],
        shares: list[deque[tuple[int, int]]],
    ) -> tuple[int, int, int]:
        """Gather slices; return blocks read, cold slices and warm slices.

        Goes on until none is left, but for a thread that finds rows cold and expected warm ones.
        """
        first = blocks = getrusage(_WHO).ru_inblock
        expected_cold = cold = self._cold
        slices = [0, 0]
        for start, stop in _taken(shares):
            self._gather_slice(physical[start:stop], out[start:stop], cold=cold)
            now = getrusage(_WHO).ru_inblock
            self._cold = cold = now != blocks
            blocks = now
            slices[cold] += 1
            if cold and not expected_cold:
                break
        return blocks - first, slices[True], slices[False]

    def _gather_slice(self, physical: NDArray[np.int64], out: NDArray[Any], *, cold: bool) -> None:
        """Gather rows, shape (n,), that are announced first if they are expected to be cold."""
        if cold:
            self._announce(physical)
        if self._limit is None:
            self._take(physical, out, touch=not cold)
            return
        step = self._limit.step_rows
        for start in range(0, len(physical), step):
            some = physical[start : start + step]
            with self._limit.touching(len(some)):
                self._take(some, out[start : start + step], touch=not cold)

    def _take(self, physical: NDArray[np.int64], out: NDArray[Any], *, touch: bool) -> None:
        if touch and self._row_items and len(physical) >= TOUCHED_ROWS:
            # Touching all rows' begins first has the processor wait for many of them at a
            # time; `take` then finds their TLB entries and first cache lines: 15-20 % faster.
            self._items.take(physical * self._row_items)
        self._rows.take(physical, 0, out, "clip")


def _clear(shares: list[deque[tuple[int, int]]]) -> None:
    for share in shares:
        share.clear()


def _taken(shares: list[deque[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    """Yield what is taken from the shares, one after the other; threads take from the same ones."""
    for share in shares:
        while share:
            try:
                yield share.popleft()
            except IndexError:  # Another thread took the last one.
                break


# Blocks are counted for each thread, where the system does.
_WHO: int = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
