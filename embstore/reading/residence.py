"""Preloading of a mapping: all of it in RAM, by huge pages where supported.

Lookups of random rows are bound by TLB misses. Where the page cache holds 2 MiB of
a file in one piece, a single TLB entry maps it (ext4 since Linux 6.16, XFS for longer; elsewhere
nothing is lost).

1. Each file is read while huge pages are advised for its mapping: the kernel then reads, caches and
   maps 2 MiB at a time.
2. Pages that the page cache already holds in smaller pieces stay small. If some pieces of a file
   show that this is true of most of it, the file is first dropped from the page cache, until this
   does not help for the first time. Once it has helped, each file is dropped while the one before
   it is read.
3. Each file is mapped again to remove the advice: with it, a row that has become cold would read
   2 MiB.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

from embstore import syscalls
from embstore.progress import OnProgress, Progress
from embstore.reading import workers
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from embstore.reading.mapping import AddressSpace, MappedFile
    from embstore.reading.resident_limit import ResidentLimit

# What a preload under a limit maps at a time.
_PIECE_BYTES = 4 * HUGE_PAGE_BYTES
# Pieces of a file that tell whether it is cached in small pages; at most a fourth of a file.
_PROBED_PIECES = 4


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
    done = 0
    helps: bool | None = None  # Unknown until a file was dropped.
    ahead: list[bool | None] = []
    for file, following in zip_longest(space.files, space.files[1:]):
        dropped = ahead[0] if ahead else helps is not False and _drop_small_pages(space, file)
        works: list[Callable[[], bool | None]] = [partial(_populate, space, file, huge=True)]
        if helps and following is not None:
            works.append(partial(_drop_small_pages, space, following))
        _, *ahead = workers.together(works, lambda: None)
        if dropped and helps is not False:
            helps = not _in_small_pages(space, file)
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
            with limit.holding(space, file.offset_bytes + start, size):
                _populate_piece(space, file, start, size)
                space.advise(file.offset_bytes + start, size, syscalls.MADV_DONTNEED)
            done += size
            if progress is not None:
                progress(Progress(done, total))
        space.map(file)  # Without the advice.
        space.advise(file.offset_bytes, space.span_bytes(file), syscalls.MADV_RANDOM)


def _drop_small_pages(space: AddressSpace, file: MappedFile) -> bool:
    """Drop a file from the page cache if most of it is there in small pages; return whether."""
    if not _in_small_pages(space, file):
        return False
    space.map(file)  # Pages that are mapped are not dropped.
    space.drop_cache(file)
    return True


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
