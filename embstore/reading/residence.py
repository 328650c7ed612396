"""Residency of a mapping: all of it in RAM (`preload`), or at most a limit (`ResidentLimit`).

**Preloading.** Lookups of random rows are bound by TLB misses. Where the page cache holds 2 MiB of
a file in one piece, a single TLB entry maps it (ext4 since Linux 6.16, XFS for longer; elsewhere
nothing is lost).

1. Each file is read while huge pages are advised for its mapping: the kernel then reads, caches and
   maps 2 MiB at a time.
2. Pages that the page cache already holds in smaller pieces stay small. Files of which this is true
   are dropped from the page cache and read again, up to the first one that this does not help.
3. Each file is mapped again to remove the advice: with it, a row that has become cold would read
   2 MiB.

**Limiting.** A fault maps far more than the row that caused it, up to 2 MiB, so after enough
lookups the resident size of the process grows by the whole table. `ResidentLimit` unmaps everything
before the limit is reached. Unmapped pages stay in the page cache; touching maps them again.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from embstore import syscalls
from embstore.progress import OnProgress, Progress
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embstore.reading.mapping import AddressSpace, MappedFile

# A lower limit would allow only a few faults, each of which may map a huge page.
MIN_RESIDENT_BYTES = 32 * HUGE_PAGE_BYTES
# One lock for all limits. A forked child gets a new one, because a thread that it does not have may
# hold the inherited one.
_lock = Lock()


def preload(space: AddressSpace, progress: OnProgress | None = None) -> None:
    """Read all files of an address space into RAM and map them, by huge pages where supported.

    Parameters
    ----------
    space : AddressSpace
        The mapping.
    progress : callable, optional
        Called with an `embstore.Progress`: bytes done, and bytes in all.
    """
    total = sum(file.map_bytes for file in space.files)
    done = 0
    for file in space.files:
        _populate(space, file, huge=True)
        done += file.map_bytes
        if progress is not None:
            progress(Progress(done, total))
    for file in _in_small_pages(space):
        space.map(file)  # Pages that are mapped are not dropped.
        space.drop_cache(file)
        _populate(space, file, huge=True)
        if file in _in_small_pages(space):
            break
    for file in space.files:
        space.map(file)
        space.advise(file.offset_bytes, space.span_bytes(file), syscalls.MADV_RANDOM)
        _populate(space, file, huge=False)


def huge_mapped_bytes(space: AddressSpace) -> dict[MappedFile, int]:
    """Return the bytes of each file that huge pages map; {} where unknown."""
    files = {space.address + file.offset_bytes: file for file in space.files}
    found: dict[MappedFile, int] = {}
    file = None
    try:
        with Path("/proc/self/smaps").open() as lines:
            for line in lines:
                if region := re.match(r"([0-9a-f]+)-[0-9a-f]+ ", line):
                    file = files.get(int(region[1], 16))
                elif file is not None and line.startswith("FilePmdMapped:"):
                    found[file] = int(line.split()[1]) << 10
    except FileNotFoundError:
        return {}
    return found


def _in_small_pages(space: AddressSpace) -> list[MappedFile]:
    """Return the files of which huge pages map less than 3/4 of what they could."""
    return [
        file
        for file, huge_bytes in huge_mapped_bytes(space).items()
        if huge_bytes < file.map_bytes // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES * 3 // 4
    ]


def _populate(space: AddressSpace, file: MappedFile, *, huge: bool) -> None:
    begin, end = file.offset_bytes, file.offset_bytes + file.map_bytes
    if huge:  # On the whole mapping, because advice on a part would split it.
        space.advise(begin, space.span_bytes(file), syscalls.MADV_HUGEPAGE)
    failure = space.advise(begin, file.map_bytes, syscalls.MADV_POPULATE_READ)
    if failure == errno.EINVAL:  # Before Linux 5.14: touch each page.
        space.data[begin:end:PAGE_BYTES].max()
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
        Most rows to touch at a time.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._spaces: list[AddressSpace] = []
        self._limit_bytes = limit_bytes
        self._others_bytes = resident_file_bytes()
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
        # Other mappings may have shrunk, as when a store is closed; they are at most all.
        self._others_bytes = min(self._others_bytes, mapped)
        resident = mapped - self._others_bytes
        if resident > self._limit_bytes // 2:
            for space in self._spaces:
                space.advise(0, len(space.data), syscalls.MADV_DONTNEED)
            # The rest belongs to other mappings of this process, unless another thread is mapping
            # pages of these.
            if not self._touching:
                self._others_bytes = resident_file_bytes()
            resident = 0
        self._rows_left = (self._limit_bytes - resident) // (2 * HUGE_PAGE_BYTES)


def resident_file_bytes() -> int:
    """Return the resident bytes of all file mappings of this process; 0 where unknown."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[2]
    except FileNotFoundError:
        return 0
    return int(pages) * PAGE_BYTES


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = Lock()


os.register_at_fork(after_in_child=_forget)
