"""Residency: how much of a table is in memory, and where.

* In the page cache: mincore(2) tells it for each page of a mapping. It tells it only to those who
  own a file or may write to it, and says that all pages are there to others.
* Mapped, and so counted as this process's memory: ``/proc/self/smaps``.
* Copied to a row cache: the cache knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embstore import syscalls
from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from embstore.reading.mapping import AddressSpace

# Pages that mincore tells of at a time, a byte each.
TOLD_PAGES = 1 << 20


@dataclass(frozen=True, slots=True)
class Residency:
    """How much of a table is in memory.

    Attributes
    ----------
    table_bytes : int
        Bytes of all rows, as they are stored.
    page_cache_bytes : int
        Bytes of their files in the page cache; whole pages, so they may exceed ``table_bytes``. Of
        files that the user neither owns nor may write to, the kernel says that all are there.
    mapped_bytes : int
        Those that count as this process's memory, because lookups touched pages near them.
    row_cache_bytes : int
        Memory of the row cache, with its maps and counts; 0 without one.
    row_cache_rows : int
        Rows that it holds copies of.
    file_cache_bytes : int
        Bytes of those files of a remote store that are in its cache on the local disk, and mapped.
    """

    table_bytes: int
    page_cache_bytes: int = 0
    mapped_bytes: int = 0
    row_cache_bytes: int = 0
    row_cache_rows: int = 0
    file_cache_bytes: int = 0


def page_cache_bytes(space: AddressSpace) -> int:
    """Return the bytes of the files of an address space that are in the page cache."""
    pages = 0
    for file in space.files:
        # What follows the rows counts, too, as it does for `mapped_bytes`: a fault maps both.
        begin, end = file.offset_bytes, file.offset_bytes + space.span_bytes(file)
        for start in range(begin, end, TOLD_PAGES * PAGE_BYTES):
            size = min(end - start, TOLD_PAGES * PAGE_BYTES)
            pages += int(np.count_nonzero(syscalls.in_core(space.address + start, size)))
    return pages * PAGE_BYTES


def mapped_bytes(space: AddressSpace) -> int:
    """Return the bytes of the files of an address space that are mapped; 0 where unknown."""
    begin, end = space.address, space.address + len(space.data)
    found, inside = 0, False
    try:
        with Path("/proc/self/smaps").open() as lines:
            for line in lines:
                first, _, rest = line.partition(" ")
                if first == "Rss:":
                    found += (int(rest.split()[0]) << 10) if inside else 0
                elif not first.endswith(":"):  # The first line of a mapping: its addresses.
                    inside = begin <= int(first.partition("-")[0], 16) < end
    except FileNotFoundError:
        return 0
    return found
