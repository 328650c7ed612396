"""Residency of a mapping: all of it in RAM (`preload`), or at most a limit (`ResidentLimit`).

**Preloading.** Lookups of random rows are bound by TLB misses. Where the page cache holds 2 MiB of
a file in one piece, a single TLB entry maps it (ext4 since Linux 6.16, XFS for longer; elsewhere
nothing is lost).

1. Each file is read while huge pages are advised for its mapping: the kernel then reads, caches and
   maps 2 MiB at a time.
2. Pages that the page cache already holds in smaller pieces stay small. If some pieces of a file
   show that this is true of most of it, the file is first dropped from the page cache, until this
   does not help for the first time.
3. Each file is mapped again to remove the advice: with it, a row that has become cold would read
   2 MiB.

**Limiting.** A fault maps far more than the row that caused it: all of a large folio, up to 2 MiB.
So after enough lookups the resident size of the process grows by the whole table. `ResidentLimit`
unmaps everything before the limit is reached. Unmapped pages stay in the page cache; touching maps
them again. A lookup touches its rows in the order of their addresses, so that each huge page is
mapped once, however many of its rows are wanted.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from embstore import syscalls
from embstore.progress import OnProgress, Progress
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.reading.mapping import AddressSpace, MappedFile

# A lower limit would allow only a few faults, each of which may map a huge page.
MIN_RESIDENT_BYTES = 32 * HUGE_PAGE_BYTES
# What a preload under a limit maps at a time.
_PIECE_BYTES = 4 * HUGE_PAGE_BYTES
# Pieces of a file that tell whether it is cached in small pages; at most a fourth of a file.
_PROBED_PIECES = 4
# One lock for all limits. A forked child gets a new one, because a thread that it does not have may
# hold the inherited one.
_lock = Lock()


def preload(
    space: AddressSpace,
    progress: OnProgress | None = None,
    limit: ResidentLimit | None = None,
) -> None:
    """Read all files of an address space into RAM and map them, by huge pages where supported.

    Parameters
    ----------
    space : AddressSpace
        The mapping.
    progress : callable, optional
        Called with an `embstore.Progress`: bytes done, and bytes in all.
    limit : ResidentLimit, optional
        The limit on what is resident. With one, pages are unmapped again once they were read.
    """
    if limit is not None:
        _preload_unmapped(space, progress, limit)
        return
    total = sum(file.map_bytes for file in space.files)
    done, helps = 0, True
    for file in space.files:
        dropped = helps and _in_small_pages(space, file)
        if dropped:
            space.map(file)  # Pages that are mapped are not dropped.
            space.drop_cache(file)
        _populate(space, file, huge=True)
        helps &= not (dropped and _in_small_pages(space, file))
        done += file.map_bytes
        if progress is not None:
            progress(Progress(done, total))
    for file in space.files:
        space.map(file)
        space.advise(file.offset_bytes, space.span_bytes(file), syscalls.MADV_RANDOM)
        _populate(space, file, huge=False)


def _preload_unmapped(
    space: AddressSpace, progress: OnProgress | None, limit: ResidentLimit
) -> None:
    """Read all files into RAM, a piece at a time, and unmap each piece again."""
    total = sum(file.map_bytes for file in space.files)
    done = 0
    for file in space.files:
        space.advise(file.offset_bytes, space.span_bytes(file), syscalls.MADV_HUGEPAGE)
        for start in range(0, file.map_bytes, _PIECE_BYTES):
            size = min(_PIECE_BYTES, file.map_bytes - start)
            with limit.touching(size // HUGE_PAGE_BYTES + 1):
                _populate_piece(space, file, start, size)
                space.advise(file.offset_bytes + start, size, syscalls.MADV_DONTNEED)
            done += size
            if progress is not None:
                progress(Progress(done, total))
        space.map(file)  # Without the advice.
        space.advise(file.offset_bytes, space.span_bytes(file), syscalls.MADV_RANDOM)


def _in_small_pages(space: AddressSpace, file: MappedFile) -> bool:
    """Read some pieces of a file, and return whether huge pages map less than 3/4 of them."""
    _advise_huge(space, file)
    count = file.map_bytes // HUGE_PAGE_BYTES
    pieces = range(0, count, max(count // _PROBED_PIECES, _PROBED_PIECES))
    found = 0
    for piece in pieces:
        start = piece * HUGE_PAGE_BYTES
        _populate_piece(space, file, start, HUGE_PAGE_BYTES)
        begin = space.address + file.offset_bytes + start
        huge_bytes = syscalls.huge_mapped_bytes(begin, HUGE_PAGE_BYTES)
        if huge_bytes is None:  # Before Linux 6.7.
            return False
        found += huge_bytes
    return found < len(pieces) * HUGE_PAGE_BYTES * 3 // 4


def _populate(space: AddressSpace, file: MappedFile, *, huge: bool) -> None:
    if huge:
        _advise_huge(space, file)
    _populate_piece(space, file, 0, file.map_bytes)


def _advise_huge(space: AddressSpace, file: MappedFile) -> None:
    # On the whole mapping, because advice on a part would split it.
    space.advise(file.offset_bytes, space.span_bytes(file), syscalls.MADV_HUGEPAGE)


def _populate_piece(space: AddressSpace, file: MappedFile, start: int, size: int) -> None:
    begin = file.offset_bytes + start
    failure = space.advise(begin, size, syscalls.MADV_POPULATE_READ)
    if failure == errno.EINVAL:  # Before Linux 5.14: touch each page.
        space.data[begin : begin + size : PAGE_BYTES].max()
    elif failure:
        raise OSError(failure, os.strerror(failure), file.name)


class ResidentLimit:
    """A limit on the resident size of one mapping, or of several together.

    Parameters
    ----------
    limit_bytes : int
        The limit; at least `MIN_RESIDENT_BYTES`.

    Attributes
    ----------
    step_rows : int
        Most rows to touch at a time, or runs of rows that are in one huge page.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._spaces: list[AddressSpace] = []
        self._limit_bytes = limit_bytes
        self._others_bytes = self._seen_bytes = resident_file_bytes()
        self._is_unsure = False  # Whether the mappings of others have become smaller.
        self._rows_left = 0
        self._touching = 0  # Number of threads that may be mapping pages.
        # So few that several threads stay within the limit even if each row maps a huge page.
        self.step_rows = limit_bytes // (16 * HUGE_PAGE_BYTES)

    def add(self, space: AddressSpace) -> None:
        """Count a mapping, of which nothing has been touched."""
        self._spaces.append(space)

    def blocks_at_once(self, block_bytes: int) -> int:
        """Return the number of threads that may touch a block each at a time."""
        # Together they take a quarter of the limit. A block may start and end inside huge pages.
        return max(self._limit_bytes // (4 * (block_bytes + 2 * HUGE_PAGE_BYTES)), 1)

    def copy(self, data: NDArray[np.uint8], begin: int, out: NDArray[np.uint8]) -> None:
        """Copy bytes of a mapping, ``data``, from address ``begin`` on, piece by piece.

        For rows so long that touching all of one would exceed the limit.
        """
        for start in range(0, len(out), HUGE_PAGE_BYTES):
            piece = out[start : start + HUGE_PAGE_BYTES]
            with self.touching(1):
                piece[:] = data[begin + start : begin + start + len(piece)]

    def steps(self, offsets: NDArray[np.int64], count: int) -> list[tuple[int, int, int]]:
        """Cut a lookup into steps of `step_rows` runs or less.

        Parameters
        ----------
        offsets : ndarray of int64, shape (n,)
            The addresses of the rows that are mapped, of up to a huge page each, ascending.
        count : int
            Number of all rows. The others are before those.

        Returns
        -------
        list of (int, int, int)
            The first row of each step, the one after its last, and what to count for `touching`.
        """
        if not len(offsets):
            return [(0, count, 0)]
        huge_pages = offsets // HUGE_PAGE_BYTES
        runs = np.flatnonzero(huge_pages[1:] != huge_pages[:-1]) + 1 + count - len(offsets)
        stops = [*runs[self.step_rows - 1 :: self.step_rows].tolist(), count]
        counts = [self.step_rows] * len(stops)
        counts[-1] = len(runs) + 1 - self.step_rows * (len(stops) - 1)
        return list(zip([0, *stops[:-1]], stops, counts, strict=True))

    @contextmanager
    def touching(self, row_count: int) -> Iterator[None]:
        """Count the rows touched in the ``with`` block, then enforce the limit.

        A row counts as two huge pages; `copy` those that are longer than one.
        """
        with _lock:
            self._touching += 1
        try:
            yield
        finally:
            with _lock:
                self._touching -= 1
                self._rows_left -= row_count
                if self._rows_left <= 0:
                    self._look()

    def _look(self) -> None:
        """Read the resident size, and unmap everything before the limit is reached."""
        mapped = resident_file_bytes()
        # Other mappings have become smaller, as when a store is closed; or the kernel took pages.
        self._is_unsure |= mapped < self._seen_bytes
        resident = mapped - self._others_bytes
        if resident > self._limit_bytes // 2 or self._is_unsure:
            for space in self._spaces:
                space.advise(0, len(space.data), syscalls.MADV_DONTNEED)
            mapped = resident_file_bytes()
            # The rest belongs to other mappings of this process, unless another thread is mapping
            # pages of these.
            if not self._touching:
                self._others_bytes, self._is_unsure = mapped, False
            resident = 0
        self._seen_bytes = mapped
        self._rows_left = (self._limit_bytes - resident) // (2 * HUGE_PAGE_BYTES)


def resident_file_bytes() -> int:
    """Return the resident bytes of all file mappings of this process; 0 where unknown."""
    try:
        # Not by a file object: this is called after every few faults, and takes a third as long.
        descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return int(os.read(descriptor, 200).split()[2]) * PAGE_BYTES
    finally:
        os.close(descriptor)


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = Lock()


os.register_at_fork(after_in_child=_forget)
