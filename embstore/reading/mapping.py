"""Address spaces: many files mapped side by side, as one read-only array of bytes.

1. Reserve the whole range with an anonymous ``mmap`` that costs no memory.
2. Map each file over its place in the range (``MAP_FIXED``), up to the place of the next, and close
   it. Bytes behind the end of a file are never addressed; mapping them saves a mapping a file.
3. NumPy views hold the ``mmap`` object; when the last view is gone, Python unmaps the range, files
   included. No descriptor stays open.

The hidden cost is address space: `embstore.table.addresses` bounds it by 8 times the table, or
64 GiB. A file must be as long as expected when it is mapped. If it is cut afterwards, touching the
lost part kills the process (SIGBUS): a published store is immutable, don't truncate one in use.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embstore import syscalls
from embstore.errors import StoreMappingError
from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.reading.files import LocalFiles
    from embstore.table.addresses import Addresses
    from embstore.table.extents import Column


def can_map() -> bool:
    """Return whether this system can map files over a reserved range: Linux with 64 bits."""
    return sys.platform == "linux" and sys.maxsize > 2**32


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A piece of a file and its place in an address space.

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


class AddressSpace:
    """Files side by side in one read-only range of addresses.

    Parameters
    ----------
    size_bytes : int
        Length of the range.
    pieces : sequence of MappedFile
        The files to map into it, by ascending place.
    files : LocalFiles
        Opens them.
    random : bool
        Whether the files are read here and there, so that the kernel reads only the pages touched.

    Attributes
    ----------
    data : ndarray of uint8, shape (size_bytes,)
        The range. Bytes that no file covers must not be addressed.
    address : int
        Its first address.
    files : tuple of MappedFile
        The files mapped into it.

    Raises
    ------
    StoreCorruptError
        If a file is missing, is not a regular file, or is too short.
    StoreMappingError
        If the system refuses the mapping: too large, or of too many files.
    """

    def __init__(
        self,
        size_bytes: int,
        pieces: Sequence[MappedFile],
        files: LocalFiles,
        *,
        random: bool = True,
    ) -> None:
        # mmap refuses an empty range; one byte more is never addressed.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | syscalls.MAP_NORESERVE
        try:
            self._range = mmap.mmap(-1, max(size_bytes, 1), flags=flags, prot=mmap.PROT_READ)
        except (OSError, OverflowError) as error:
            raise StoreMappingError(
                f"the system has no {size_bytes} bytes of addresses for a mapping ({error}); "
                'use embstore.open(path, reader="chunked")'
            ) from error
        # An ndarray, not a memoryview, so that views keep the range alive.
        self.data: NDArray[np.uint8] = np.frombuffer(self._range, np.uint8)[:size_bytes]
        self.address = self.data.ctypes.data if size_bytes else 0
        self.files = tuple(pieces)
        self._opener = files
        ends = [*(piece.offset_bytes for piece in pieces[1:]), size_bytes]
        self._ends = {piece.offset_bytes: end for piece, end in zip(self.files, ends, strict=False)}
        for piece in pieces:
            self.map(piece)
        if random and pieces:
            self.advise(0, size_bytes, syscalls.MADV_RANDOM)

    def advise(self, offset_bytes: int, size_bytes: int, advice: int) -> int:
        """Advise the kernel on a range; return 0, or the number of the error."""
        return syscalls.advise(self.address + offset_bytes, size_bytes, advice)

    def announce(self, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Have the kernel start reading ranges that are not in its cache.

        Parameters
        ----------
        offsets, sizes : ndarray of int64, shape (n,)
            Ranges in bytes, on whole pages.
        """
        syscalls.advise_many(offsets + self.address, sizes, syscalls.MADV_WILLNEED)

    def map(self, piece: MappedFile) -> None:
        """Map a file into its place, over what is there, as if for the first time."""
        descriptor = self._opener.open(piece.name, piece.first + piece.map_bytes)
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
        finally:
            os.close(descriptor)

    def span_bytes(self, piece: MappedFile) -> int:
        """Return the bytes from the place of a file to that of the next: its one mapping."""
        return self._ends[piece.offset_bytes] - piece.offset_bytes

    def drop_cache(self, piece: MappedFile) -> None:
        """Drop the pages of a file from the page cache, but for those that a process has mapped."""
        descriptor = self._opener.open(piece.name, 0)
        try:
            os.posix_fadvise(descriptor, piece.first, piece.map_bytes, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

    def _refusal(self, piece: MappedFile, error: OSError) -> str:
        """Return the message for a file that cannot be mapped."""
        problem = f"{self._opener.path(piece.name)} cannot be mapped: {error.strerror}"
        chunked = 'embstore.open(path, reader="chunked"), which maps no rows'
        if error.errno != errno.ENOMEM:
            return f"{problem}; use {chunked}"
        return (
            f"{problem}. This store needs {len(self.files)} mappings or more; a process may have "
            "as many as sysctl vm.max_map_count says, 65530 by default. Raise it, close stores, "
            f"build the store with larger chunks, or use {chunked}"
        )


def map_column(column: Column, addresses: Addresses, files: LocalFiles) -> AddressSpace:
    """Map the extents of a column to their addresses.

    Raises
    ------
    StoreCorruptError, StoreMappingError
        As `AddressSpace`.
    """
    pieces = []
    for extent, start in zip(column.extents, addresses.starts.tolist(), strict=True):
        if not extent.file or not extent.rows:
            continue
        before = extent.offset % PAGE_BYTES  # Mappings begin on pages.
        pieces.append(
            MappedFile(
                extent.file,
                extent.offset - before,
                start - before,
                before + extent.rows * column.record_bytes,
            )
        )
    return AddressSpace(addresses.size_bytes, pieces, files)
