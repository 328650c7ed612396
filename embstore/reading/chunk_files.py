"""Chunk files of a store that is being opened: each is opened once, checked, and then mapped.

1. The metadata lists the size and the last four bytes of each file, its end (`ListedEnds`).
2. `ListedEnds.open_some` opens a few files and compares their ends. An end that is not in the page
   cache is announced, and read after the others were opened: so such reads overlap.
3. It stops before the first file that is not as expected: a symbolic link, another size, no more
   descriptors. `embstore.reading.files.StoreFiles` then looks at that one, and says what is wrong.
"""

from __future__ import annotations

import os
import resource
import stat
from typing import TYPE_CHECKING

from embstore.formats.own.checked_files import OPEN_FLAGS
from embstore.formats.own.spec import CHECKSUM_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embstore.formats.own.sharded import ListedChunks

# Enough for the reads of a device to overlap.
MOST_OPEN = 64
# The share of a process's descriptors that an opening takes; other threads need some, too.
_DESCRIPTORS_SHARE = 8
# Reads nothing from the device, and says so. Linux only, and not on every file system.
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class ListedEnds:
    """The ends of the chunk files that were not opened yet, as the metadata lists them."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[int, int]] = {}

    def add(self, names: Iterable[str], listed: ListedChunks) -> None:
        """Note what is listed of the chunk files of an array, of which ``names`` are the paths."""
        self._ends.update(zip(names, zip(listed.sizes, listed.tails, strict=True), strict=True))

    def names(self) -> list[str]:
        """Return the paths of the files that were not opened yet."""
        return list(self._ends)

    def get(self, name: str) -> tuple[int, int] | None:
        """Return the size and the last four bytes of a file; None once it was checked."""
        return self._ends.get(name)

    def done(self, name: str) -> None:
        """Note that a file was checked."""
        self._ends.pop(name, None)

    def open_some(self, root: int, files: Sequence[tuple[str, int]]) -> list[int]:
        """Return descriptors of the first of some files, checked.

        Parameters
        ----------
        root : int
            The open directory of the store.
        files : sequence of (str, int)
            The path of each in it, and the bytes that it must have; a few.
        """
        opened: list[int] = []
        try:
            right = self._open(root, files, opened)
        except BaseException:
            _close(opened)
            raise
        _close(opened[right:])
        for name, _ in files[:right]:
            del self._ends[name]
        return opened[:right]

    def _open(self, root: int, files: Sequence[tuple[str, int]], opened: list[int]) -> int:
        """Open files; return how many of them, from the first on, are as listed."""
        ends, flags = self._ends, OPEN_FLAGS | os.O_NOFOLLOW
        cold: list[tuple[int, int, int]] = []
        found = bytearray(CHECKSUM_BYTES)
        into = [found]
        for name, needed_bytes in files:
            if name not in ends:
                break
            size_bytes, end = ends[name]
            try:
                descriptor = os.open(name, flags, dir_fd=root)
            except OSError:
                break
            opened.append(descriptor)
            status = os.fstat(descriptor)
            if not needed_bytes <= size_bytes == status.st_size or not stat.S_ISREG(status.st_mode):
                return _as_listed(len(opened) - 1, opened, cold)
            place = size_bytes - CHECKSUM_BYTES
            if cold:  # The next is probably cold, too, and an error takes longer than this call.
                os.posix_fadvise(descriptor, place, 0, os.POSIX_FADV_WILLNEED)
                cold.append((len(opened) - 1, place, end))
                continue
            try:
                count = os.preadv(descriptor, into, place, _NOWAIT)
            except OSError:  # It is cold, or the file system does not know the flag.
                os.posix_fadvise(descriptor, place, 0, os.POSIX_FADV_WILLNEED)
                cold.append((len(opened) - 1, place, end))
                continue
            if count != CHECKSUM_BYTES or int.from_bytes(found, "little") != end:
                return _as_listed(len(opened) - 1, opened, cold)
        return _as_listed(len(opened), opened, cold)


def _as_listed(count: int, opened: list[int], cold: list[tuple[int, int, int]]) -> int:
    """Return how many of the first ``count`` files are as listed, after reading the cold ends."""
    for number, place, end in cold:
        found = os.pread(opened[number], CHECKSUM_BYTES, place)
        if int.from_bytes(found, "little") != end or len(found) != CHECKSUM_BYTES:
            return number
    return count


def most_at_once() -> int:
    """Return how many files may be open at a time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_OPEN
    return min(MOST_OPEN, max(soft // _DESCRIPTORS_SHARE, 1))


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
