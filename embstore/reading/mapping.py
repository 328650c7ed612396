"""Address spaces: many files mapped side by side, as one read-only array of bytes.

1. Reserve the whole range with an anonymous ``mmap`` that costs no memory. It starts at a multiple
   of 2 MiB: otherwise no file could be mapped by huge pages.
2. Map each file over its place in the range (``MAP_FIXED``), up to the place of the next, and close
   it. Bytes beyond the end of a file are never addressed; including them makes one mapping for each
   file instead of two.
3. A part in front of the files, if one is wanted, stays anonymous memory that can be written to.
4. Files that come one by one, such as those of a cache, are mapped when they are there
   (`AddressSpace.map_open`). Where none is mapped, or no longer (`AddressSpace.unmap`), the range
   reads as zeros, so a reader must know what is there.
5. NumPy views hold the ``mmap`` object; when the last view is freed, Python unmaps the range, files
   included. No descriptor stays open.

The hidden cost is address space: `embstore.table.addresses` bounds it by 64 GiB or 8 times the
table, whichever is larger. A file must have the expected length when it is mapped. If it is
truncated later, touching the lost part kills the process (SIGBUS): a published store is immutable,
so do not truncate one in use.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from embstore import syscalls
from embstore.errors import StoreMappingError
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES
from embstore.wording import either

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from embstore.table.addresses import Addresses
    from embstore.table.extents import Column, Extent


def can_map() -> bool:
    """Return whether this system can map files over a reserved range: Linux with 64 bits."""
    return sys.platform == "linux" and sys.maxsize > 2**32


class MappedFile(NamedTuple):
    """A piece of a file and its place in an address space.

    A tuple, not a dataclass: an opening makes one for each of many thousands of files.

    Attributes
    ----------
    name : str
        The file.
    first : int
        First byte of the piece in the file, a multiple of the page size.
    offset_bytes : int
        Place of that byte in the address space, a multiple of the page size.
    map_bytes : int
        Bytes of the piece, 1 or more.
    """

    name: str
    first: int
    offset_bytes: int
    map_bytes: int


class Opener(Protocol):
    """What opens files to be mapped; see `embstore.reading.files.LocalFiles`."""

    def open(self, name: str, needed_bytes: int) -> int:
        """Return a descriptor of a file that has at least ``needed_bytes``."""
        ...

    def open_each(self, pieces: Sequence[tuple[str, int]]) -> Generator[int]:
        """Yield a descriptor of each of some files, given name and needed bytes; it is closed."""
        ...

    def where(self, name: str) -> str:
        """Return the path of a file, as messages show it."""
        ...


class AddressSpace:
    """Files side by side in one read-only range of addresses.

    Parameters
    ----------
    size_bytes : int
        Length of the range.
    pieces : sequence of MappedFile
        The files to map into it, by ascending place.
    files : Opener
        Opens them.
    random : bool
        Whether access is random, so that the kernel reads only the pages touched.
    front_bytes : int
        Length of the part in front of the files, a multiple of the page size.
    at_once : bool
        Whether to map all files now; otherwise each by `map_open`.

    Attributes
    ----------
    data : ndarray of uint8, shape (size_bytes,)
        The range without the part in front. Bytes that no file covers must not be addressed.
    address : int
        Its first address.
    whole : ndarray of uint8, shape (front_bytes + size_bytes,)
        The part in front and the range behind it, read-only.
    front : ndarray of uint8, shape (front_bytes,)
        The part in front, to write to. It takes memory where it was written to.
    files : tuple of MappedFile
        The files mapped into it.

    Raises
    ------
    StoreCorruptError
        If a file is missing, is not a regular file, or is too short.
    StoreMappingError
        If the system refuses the mapping: it is too large, or has too many files.
    """

    def __init__(
        self,
        size_bytes: int,
        pieces: Sequence[MappedFile],
        files: Opener,
        *,
        random: bool = True,
        front_bytes: int = 0,
        at_once: bool = True,
    ) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | syscalls.MAP_NORESERVE
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if front_bytes else 0)
        # A huge page longer, so that the files can start where huge pages do.
        length = front_bytes + size_bytes + HUGE_PAGE_BYTES
        try:
            self._range = mmap.mmap(-1, length, flags=flags, prot=protection)
        except (OSError, OverflowError) as error:
            raise StoreMappingError(
                f"the system refuses to reserve {length} bytes of address space ({error})"
                + f"; use {_instead()}"
            ) from error
        # An ndarray, not a memoryview, so that views keep the range alive.
        everything = np.frombuffer(self._range, np.uint8)
        skipped = -(everything.ctypes.data + front_bytes) % HUGE_PAGE_BYTES
        everything = everything[skipped : skipped + front_bytes + size_bytes]
        self.front = everything[:front_bytes]
        self.whole: NDArray[np.uint8] = everything[:]
        self.whole.flags.writeable = False
        self.data: NDArray[np.uint8] = self.whole[front_bytes:]
        self.address = self.data.ctypes.data if size_bytes else 0
        self.files = tuple(pieces)
        self._opener = files
        ends = [*(piece.offset_bytes for piece in pieces[1:]), size_bytes]
        self._ends = {piece.offset_bytes: end for piece, end in zip(self.files, ends, strict=False)}
        self._random = random
        if not at_once:
            return
        self._map_each(ends)
        if random and pieces:
            self.advise(0, size_bytes, syscalls.MADV_RANDOM)

    def advise(self, offset_bytes: int, size_bytes: int, advice: int) -> int:
        """Advise the kernel on a range; return 0, or the errno."""
        return syscalls.advise(self.address + offset_bytes, size_bytes, advice)

    def announce(self, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Have the kernel start reading ranges that are not cached.

        Parameters
        ----------
        offsets, sizes : ndarray of int64, shape (n,)
            Ranges in bytes, on whole pages.
        """
        syscalls.advise_many(offsets + self.address, sizes, syscalls.MADV_WILLNEED)

    def map(self, piece: MappedFile) -> None:
        """Map a file into its place; this replaces an earlier mapping and its advice."""
        descriptor = self._opener.open(piece.name, piece.first + piece.map_bytes)
        try:
            self._map(piece, descriptor)
        finally:
            os.close(descriptor)

    def map_open(self, piece: MappedFile, descriptor: int) -> None:
        """Map a file that is open into its place, as at first; the descriptor may be closed."""
        self._map(piece, descriptor)
        if self._random:
            self.advise(piece.offset_bytes, self.span_bytes(piece), syscalls.MADV_RANDOM)

    def unmap(self, piece: MappedFile) -> None:
        """Replace the mapping of a file by zeros, in one step: who reads meanwhile gets either."""
        syscalls.map_file(
            self.address + piece.offset_bytes,
            self.span_bytes(piece),
            -1,
            0,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | syscalls.MAP_NORESERVE,
            mmap.PROT_READ,
        )

    def _map_each(self, ends: list[int]) -> None:
        """Map all files, each up to where the next starts; ``ends`` are these places."""
        needs = [(piece.name, piece.first + piece.map_bytes) for piece in self.files]
        base, flags, protection = self.address, mmap.MAP_SHARED, mmap.PROT_READ
        with closing(self._opener.open_each(needs)) as descriptors:
            for piece, end, descriptor in zip(self.files, ends, descriptors, strict=False):
                start = piece.offset_bytes
                try:
                    syscalls.map_file(
                        base + start, end - start, descriptor, piece.first, flags, protection
                    )
                except OSError as error:
                    raise StoreMappingError(self._refusal(piece, error)) from error

    def _map(self, piece: MappedFile, descriptor: int) -> None:
        try:
            syscalls.map_file(
                self.address + piece.offset_bytes,
                self.span_bytes(piece),
                descriptor,
                piece.first,
                mmap.MAP_SHARED,
                mmap.PROT_READ,
            )
        except OSError as error:
            raise StoreMappingError(self._refusal(piece, error)) from error

    def span_bytes(self, piece: MappedFile) -> int:
        """Return the bytes from the place of a file to that of the next: its one mapping."""
        return self._ends[piece.offset_bytes] - piece.offset_bytes

    def drop_cache(self, piece: MappedFile) -> None:
        """Drop the pages of a file from the page cache, except those that a process has mapped."""
        descriptor = self._opener.open(piece.name, 0)
        try:
            os.posix_fadvise(descriptor, piece.first, piece.map_bytes, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

    def _refusal(self, piece: MappedFile, error: OSError) -> str:
        """Return the message for a file that cannot be mapped."""
        problem = f"{self._opener.where(piece.name)} cannot be mapped: {error.strerror}"
        if error.errno != errno.ENOMEM:
            return f"{problem}; use {_instead()}"
        return (
            f"{problem}. It needs at least {len(self.files)} mappings; sysctl vm.max_map_count "
            "limits those of a process, to 65530 by default. Raise the limit, "
            f"close stores, build the store with larger chunks, or use {_instead()}"
        )


def map_column(
    column: Column,
    addresses: Addresses,
    files: Opener,
    *,
    front_bytes: int = 0,
    at_once: bool = True,
) -> AddressSpace:
    """Map the extents of a column to their addresses, behind a part of ``front_bytes``.

    With ``at_once=False``, the range is reserved, and files are mapped as they come.

    Raises
    ------
    StoreCorruptError, StoreMappingError
        As `AddressSpace`.
    """
    pieces = [piece for piece in places_of(column, addresses) if piece is not None]
    size_bytes = addresses.size_bytes
    return AddressSpace(size_bytes, pieces, files, front_bytes=front_bytes, at_once=at_once)


def places_of(column: Column, addresses: Addresses) -> list[MappedFile | None]:
    """Return where each extent of a column is mapped; None for one without records."""
    record_bytes = column.record_bytes
    return [
        None if start < 0 else _place(extent, start, record_bytes)
        for extent, start in zip(column.extents, addresses.starts.tolist(), strict=True)
    ]


def _place(extent: Extent, start: int, record_bytes: int) -> MappedFile:
    before = extent.offset % PAGE_BYTES  # Mappings start on pages.
    return MappedFile(
        extent.file, extent.offset - before, start - before, before + extent.rows * record_bytes
    )


def _instead() -> str:
    """Return how to open a store that cannot be mapped."""
    chunked = either('embstore.open(path, reader="chunked")', "--reader chunked")
    return f"{chunked}, which maps no rows"
