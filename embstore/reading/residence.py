"""How much of a mapping is in RAM? All of it (`preload`), or not more than a limit.

**Preloading.** Random rows are bound by TLB misses, and a file page that the page cache holds in
one piece of 2 MiB is mapped by a single entry (ext4 since Linux 6.16, XFS for longer; elsewhere
nothing is lost).

1. Each file is read in while huge pages are advised for its part of the mapping: the kernel reads,
   caches and maps 2 MiB at a time then.
2. What the page cache had already, in smaller pieces, stays so. Files that show it are dropped from
   the page cache and read again, unless that does not help the first of them.
3. Each file is mapped afresh, because the advice must not stay: where it holds, a row that has
   become cold would read 2 MiB.

**Limiting.** A fault maps far more than the row that caused it, up to 2 MiB, so the resident size
of a process that looks up long enough grows to the whole table. `ResidentLimit` unmaps everything
before the limit is reached; the pages stay in the page cache, and are mapped again when touched.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from embstore import syscalls
from embstore.progress import OnProgress, Progress
from embstore.reading.mapping import PAGE_BYTES, AddressSpace, MappedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

HUGE_PAGE_BYTES = 2 << 20
# One for all limits; a child after a fork gets a new one, because the one that it inherits may be
# held by a thread that it does not have.
_lock = Lock()
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


def preload(space: AddressSpace, progress: OnProgress | None = None) -> None:
    """Read all files of an address space into RAM and map them, by huge pages where that goes.

    Parameters
    ----------
    space : AddressSpace
        The mapping.
    progress : callable, optional
        Called with a `embstore.Progress`: the bytes done, and all of them.
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
        drop_cache(file.path)
        _populate(space, file, huge=True)
        if file in _in_small_pages(space):
            break
    for file in space.files:
        space.map(file)
        space.advise(file.offset_bytes, file.map_bytes, syscalls.MADV_RANDOM)
        _populate(space, file, huge=False)


def drop_cache(path: Path) -> None:
    """Drop a file's pages from the page cache, but for those that somebody has mapped."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def huge_mapped_bytes(space: AddressSpace) -> dict[MappedFile, int]:
    """Return how many bytes of each file are mapped by huge pages; {} where it is not known."""
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
    """Return the files that could be mapped by huge pages and are not."""
    return [
        file
        for file, huge_bytes in huge_mapped_bytes(space).items()
        if huge_bytes < file.map_bytes // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES * 3 // 4
    ]


def _populate(space: AddressSpace, file: MappedFile, *, huge: bool) -> None:
    begin, end = file.offset_bytes, file.offset_bytes + file.map_bytes
    failure = errno.EINVAL
    if sys.platform == "linux":
        if huge:
            space.advise(begin, file.map_bytes, syscalls.MADV_HUGEPAGE)
        failure = space.advise(begin, file.map_bytes, syscalls.MADV_POPULATE_READ)
    if failure == errno.EINVAL:  # Before Linux 5.14, and elsewhere: touch each page.
        space.data[begin:end:PAGE_BYTES].max()
    elif failure:
        raise OSError(failure, os.strerror(failure), str(file.path))


class ResidentLimit:
    """Keeps the resident size of a mapping under a limit.

    Parameters
    ----------
    space : AddressSpace
        The mapping.
    limit_bytes : int
        The limit; at least 64 MiB, some faults' worth.

    Attributes
    ----------
    step_rows : int
        How many rows to touch at a time, at the most.

    Raises
    ------
    ValueError
        If the limit is lower than that.
    """

    def __init__(self, space: AddressSpace, limit_bytes: int) -> None:
        if limit_bytes < 32 * HUGE_PAGE_BYTES:
            raise ValueError(f"resident_limit must be at least 64 MiB, not {limit_bytes} bytes")
        self._space = space
        self._limit_bytes = limit_bytes
        self._others_bytes = resident_file_bytes()
        self._rows_left = 0
        self._touching = 0  # How many threads may be mapping pages.
        # So few rows at a time that several threads' do not matter, though each maps a huge page.
        self.step_rows = limit_bytes // (16 * HUGE_PAGE_BYTES)

    def blocks_at_once(self, block_bytes: int) -> int:
        """Return how many threads may touch a block each at a time."""
        # Three quarters are reached before it looks again; a block begins and ends in huge pages.
        return max(self._limit_bytes // (4 * (block_bytes + 2 * HUGE_PAGE_BYTES)), 1)

    @contextmanager
    def touching(self, row_count: int) -> Iterator[None]:
        """Note that rows are touched inside; then see to it that the limit is kept."""
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
        """Look at the resident size, and unmap everything before the limit is reached."""
        mapped = resident_file_bytes()
        # Others may have become fewer, as when a store is closed, but not less than nothing.
        self._others_bytes = min(self._others_bytes, mapped)
        resident = mapped - self._others_bytes
        if resident > self._limit_bytes // 2:
            self._space.advise(0, len(self._space.data), syscalls.MADV_DONTNEED)
            # What is left is others', mapped files that are not this store's; but not while another
            # thread maps pages of it.
            if not self._touching:
                self._others_bytes = resident_file_bytes()
            resident = 0
        self._rows_left = (self._limit_bytes - resident) // (2 * HUGE_PAGE_BYTES)


def resident_file_bytes() -> int:
    """Return the size of all file mappings of this process that is in RAM; 0 if it is not known."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[2]
    except FileNotFoundError:
        return 0
    return int(pages) * PAGE_BYTES


def parse_bytes(size: int | str) -> int:
    """Return a number of bytes that may be written with a unit.

    Examples
    --------
    >>> parse_bytes("2GiB"), parse_bytes("1.5 GB"), parse_bytes(4096)
    (2147483648, 1500000000, 4096)
    """
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
    if found is None or found[2].lower() not in _UNITS:
        raise ValueError(f"{size!r} is not a size; write it as in 2GiB, 500MB or 4096")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
