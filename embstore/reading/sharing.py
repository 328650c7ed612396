"""Lookups shared by several threads, slice by slice.

1. A lookup is cut into slices. A small one is a single slice on the calling thread. The slices of a
   large one are shared by as many threads as there are processors; the gather releases the GIL.
2. Rows that are not in the page cache would be read one after the other, each when the gather
   touches it. So a cold slice is announced first: its pages are passed to the kernel together,
   which starts all their reads at once. More threads than processors help here.
3. `embstore.reading.warmth` decides whether rows are expected to be cold, for the slices of a large
   lookup and from one lookup to the next. A thread that expects warm rows starts with a small
   slice, and stops when it finds cold ones; the remaining slices are then cut again.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from embstore.reading import workers
from embstore.reading.ordering import in_order, is_ascending, put
from embstore.reading.requests import COLD_SLICE_ROWS, DENSE_SLICE_PAGES, cold_slice_rows
from embstore.reading.warmth import blocks_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embstore.reading.requests import Requests
    from embstore.reading.resident_limit import ResidentLimit
    from embstore.reading.warmth import Warmth

# Up to this many rows are one slice.
SMALL_ROWS = 64
# Large enough that the overhead of a slice is small beside its gather, and small enough that cold
# rows are noticed soon.
WARM_SLICE_BYTES = 512 << 10
# Decoding takes several calls of NumPy, after each of which a thread waits for the GIL. More than
# two threads wait less for it if slices are larger.
GIL_THREADS = 2
MAX_SLICE_ROWS = 4096
# Rows so long that fewer of them make a cold slice.
COLD_SLICE_BYTES = 8 << 20
# The rows of a small lookup that are announced before the others.
SAMPLED_ROWS = 4
# With a row cache, a cold slice has at least this many rows that are in the files.
FILE_ROWS = 64
# Under a resident limit, this much of a lookup is sorted at a time.
SORTED_BYTES = 32 << 20
# The first slice of a thread that expects warm rows.
PROBE_ROWS = 16
# Handing work over costs 30 to 50 us, in which a thread gathers a few hundred KiB.
HELPED_BYTES = 1 << 20


class Found(NamedTuple):
    """What a gather found: blocks read from the device, cold slices, warm slices."""

    blocks: int
    cold: int
    warm: int


class Slices(Protocol):
    """Gathers of slices; see `embstore.reading.slices.SliceGather`."""

    record_bytes: int
    is_decoded: bool
    file_count: Callable[[NDArray[np.int64]], int] | None
    limit: ResidentLimit | None

    def announce(self, spots: NDArray[np.int64]) -> None:
        """Have the kernel start reading the records at spots."""
        ...

    def requests(self, spots: NDArray[np.int64]) -> Requests:
        """Return the requests for the records at spots."""
        ...

    def touch(self, spots: NDArray[np.int64]) -> bool:
        """Touch the records at spots, to see whether they are cold; return whether this can be."""
        ...

    def fill(self, spots: NDArray[np.int64], out: NDArray[Any], *, cold: bool) -> None:
        """Fill ``out`` with what is at spots; what may be cold was announced."""
        ...


class SharedGather:
    """Gathers of whole lookups.

    Parameters
    ----------
    slices : Slices
        Gathers one slice.
    warmth : Warmth
        Whether rows are expected to be cold.
    """

    def __init__(self, slices: Slices, warmth: Warmth) -> None:
        self._slices, self._warmth = slices, warmth
        self._record_bytes = slices.record_bytes
        self._file_count = slices.file_count
        rows = WARM_SLICE_BYTES // slices.record_bytes
        self._warm_slice_rows = min(max(rows, 1), MAX_SLICE_ROWS)
        long_rows = COLD_SLICE_BYTES // slices.record_bytes
        self._cold_slice_rows = min(max(long_rows, 1), COLD_SLICE_ROWS)

    def announce(self, spots: NDArray[np.int64]) -> int:
        """Announce a few records, if the first of them are cold; return the blocks being read.

        Batches differ more than the rows of one: the first rows tell whether the others must be
        announced, which takes ten times as long as a warm lookup.
        """
        before = blocks_read()
        self._slices.announce(spots[:SAMPLED_ROWS])
        if blocks_read() > before:
            self._slices.announce(spots[SAMPLED_ROWS:])
        return blocks_read() - before

    def fill_here(
        self, spots: NDArray[np.int64], out: NDArray[Any], announced: int | None = None
    ) -> Found:
        """Fill ``out`` with a few records, as one slice on this thread.

        ``announced`` is what `announce` returned for them, if it was called.
        """
        if announced is None:
            announced = self.announce(spots) if self._warmth.cold else 0
        before = blocks_read()
        self._slices.fill(spots, out, cold=False)
        blocks = announced + blocks_read() - before
        cold = self._note(spots, blocks)
        return Found(blocks, int(cold), int(not cold))

    def fill(self, spots: NDArray[np.int64], out: NDArray[Any]) -> Found:
        """Fill ``out`` with records, on several threads."""
        if self._slices.limit is None:
            return self._fill(spots, out)
        # In the order of addresses: otherwise, pages would be unmapped that the next rows need.
        done, step = [], max(SORTED_BYTES // self._record_bytes, 1)
        for start in range(0, len(spots), step):
            some = spots[start : start + step]
            if is_ascending(some):
                done.append(self._fill(some, out[start : start + step]))
                continue
            order, ordered = in_order(some)
            records = np.empty((len(some), *out.shape[1:]), out.dtype)
            done.append(self._fill(ordered, records))
            put(out[start : start + step], order, records)
        return Found(*map(sum, zip(*done, strict=True)))

    def _fill(self, spots: NDArray[np.int64], out: NDArray[Any]) -> Found:
        few = len(spots) <= MAX_SLICE_ROWS and len(spots) * self._record_bytes < 2 * HELPED_BYTES
        if few and not self._warmth.cold:
            return self._fill_alone(spots, out)
        return self._fill_together(spots, out)

    def _fill_alone(self, spots: NDArray[np.int64], out: NDArray[Any]) -> Found:
        """Fill ``out`` with records that are expected in RAM, too few to share, after a probe."""
        before = blocks_read()
        probed, probes = 0, spots[:: max(len(spots) // PROBE_ROWS, 1)]
        if not self._slices.touch(probes):
            probed, probes = PROBE_ROWS, spots[:PROBE_ROWS]
            self._slices.fill(probes, out[:probed], cold=False)
        blocks = blocks_read() - before
        cold = self._note(probes, blocks)
        if probed >= len(spots):
            return Found(blocks, int(cold), int(not cold))
        if cold:
            found = self._fill_together(spots[probed:], out[probed:])
            return Found(blocks + found.blocks, 1 + found.cold, found.warm)
        self._slices.fill(spots[probed:], out[probed:], cold=False)
        blocks = blocks_read() - before
        cold = self._note(spots, blocks)
        return Found(blocks, int(cold), int(not cold))

    def _fill_together(self, spots: NDArray[np.int64], out: NDArray[Any]) -> Found:
        slice_rows = 0  # Of cold slices; unknown.
        left = [(0, len(spots))]
        done: list[Found] = []
        while left:
            cold = self._warmth.cold  # Other lookups may change it at any time.
            if cold and not slice_rows:
                slice_rows = self._rows_of_cold_slices(spots[left[0][0] :])
            shares = self._shares(left, slice_rows, cold=cold)
            works = [
                partial(self._fill_shares, spots, out, shares[own:] + shares[:own])
                for own in range(len(shares))
            ]
            done += workers.together(works, partial(_clear, shares))
            # Threads that find cold rows stop; the remaining slices are cut and shared again.
            left = _joined([piece for share in shares for piece in share])
        return Found(*map(sum, zip(*done, strict=True)))

    def _rows_of_cold_slices(self, spots: NDArray[np.int64]) -> int:
        least = self._cold_slice_rows
        if self._file_count is not None:
            in_files = self._file_count(spots)
            file_rows = min(max(in_files // workers.THREAD_COUNT, FILE_ROWS), least)
            least = min(max(file_rows * len(spots) // max(in_files, 1), 1), MAX_SLICE_ROWS)
        return cold_slice_rows(spots, least, self._slices.requests)

    def _shares(
        self, pieces: list[tuple[int, int]], cold_rows: int, *, cold: bool
    ) -> list[deque[tuple[int, int]]]:
        """Cut pieces of a lookup into slices, one share of them for each thread.

        A slice that is expected to be cold has ``cold_rows``.

        Each thread starts with a share of neighbours, so that two threads do not fault in the same
        pages of a fresh ``out``, and then takes slices from the shares of others.
        """
        if cold:
            thread_count = workers.THREAD_COUNT
            length = cold_rows
        else:
            rows = sum(stop - first for first, stop in pieces)
            helped = rows * self._record_bytes // HELPED_BYTES
            thread_count = max(min(workers.processor_count(), helped), 1)
            length = self._warm_slice_rows
            if self._slices.is_decoded and thread_count > GIL_THREADS:
                length = min(2 * length, -(-rows // thread_count))
        slices = [
            (start, min(start + length, stop))
            for first, stop in pieces
            for start in range(first, stop, length)
        ]
        size = -(-len(slices) // thread_count)
        shares = [deque(slices[first : first + size]) for first in range(0, len(slices), size)]
        if not cold:
            for share in shares:
                start, stop = share[0]
                if stop - start > PROBE_ROWS:
                    share[0] = (start + PROBE_ROWS, stop)
                    share.appendleft((start, start + PROBE_ROWS))
        return shares

    def _fill_shares(
        self,
        spots: NDArray[np.int64],
        out: NDArray[Any],
        shares: list[deque[tuple[int, int]]],
    ) -> Found:
        """Fill slices of ``out`` with records.

        Stops when no slice is left, or when it expected warm rows and finds cold ones.
        """
        first = blocks = blocks_read()
        expected_cold = cold = self._warmth.cold
        slices = [0, 0]
        for start, stop in _taken(shares):
            some, request_count = spots[start:stop], None
            if cold:
                request_count = self._fill_cold(some, out[start:stop])
            else:
                self._slices.fill(some, out[start:stop], cold=False)
            now = blocks_read()
            slices[self._note(some, now - blocks, request_count)] += 1
            blocks, cold = now, self._warmth.cold
            if cold and not expected_cold:
                break
        return Found(blocks - first, slices[True], slices[False])

    def _fill_cold(self, spots: NDArray[np.int64], out: NDArray[Any]) -> int:
        """Fill ``out`` with records after announcing them; return the number of requests."""
        requests, least = self._slices.requests(spots), self._cold_slice_rows
        if len(spots) > least and requests.page_count > 2 * DENSE_SLICE_PAGES:
            # Less dense than the first rows of the lookup.
            pieces = [slice(at, at + least) for at in range(0, len(spots), least)]
            return sum(self._fill_cold(spots[piece], out[piece]) for piece in pieces)
        requests.announce()
        step = self._warm_slice_rows
        for at in range(0, len(spots), step):
            self._slices.fill(spots[at : at + step], out[at : at + step], cold=True)
        return requests.count

    def _note(
        self, spots: NDArray[np.int64], blocks: int, request_count: int | None = None
    ) -> bool:
        """Note how many blocks the gather of spots read; return whether it was cold."""
        # Rows that have copies cost nothing to announce, and tell nothing of the others.
        count = len(spots) if self._file_count is None else self._file_count(spots)
        if blocks and not self._warmth.are_cold(count, blocks):
            # Rows that share pages are announced by fewer requests.
            if request_count is None:
                request_count = self._slices.requests(spots).count
            count = min(request_count, count)
        return self._warmth.note(count, blocks)


def _clear(shares: list[deque[tuple[int, int]]]) -> None:
    for share in shares:
        share.clear()


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return pieces of a lookup, ascending, with neighbours joined."""
    found: list[tuple[int, int]] = []
    for start, stop in pieces:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], stop
        else:
            found.append((start, stop))
    return found


def _taken(shares: list[deque[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    """Yield slices from the shares, one after the other; threads take from the same shares."""
    for share in shares:
        while share:
            try:
                yield share.popleft()
            except IndexError:  # Another thread took the last one.
                break
