"""How do many files become one array? One read-only address space over them.

1. Reserve the whole range with an anonymous ``mmap`` that costs no memory.
2. Map each file over its place in the range (``MAP_FIXED``), and close the file.
3. NumPy views hold the ``mmap`` object; when the last one goes, Python unmaps the range, files
   included. No descriptor stays open.

A file must be as long as expected when it is mapped. If somebody cuts it afterwards, touching the
lost part kills the process (SIGBUS): a published store is immutable, don't truncate one in use.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embstore import syscalls
from embstore.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PAGE_BYTES = mmap.PAGESIZE


def can_map() -> bool:
    """Say whether this system can map files over a reserved range."""
    return sys.platform != "win32" and sys.maxsize > 2**32


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file that belongs into an address space.

    Attributes
    ----------
    path : Path
        The file.
    offset_bytes : int
        Its place in the address space, a multiple of the page size.
    map_bytes : int
        How much of it is mapped, from its begin; 1 or more.
    file_bytes : int
        The size that the file must have.
    """

    path: Path
    offset_bytes: int
    map_bytes: int
    file_bytes: int


class AddressSpace:
    """Files side by side in one read-only range of addresses.

    Parameters
    ----------
    size_bytes : int
        Length of the range.
    files : sequence of MappedFile
        What to map into it.
    random : bool
        Whether the files are read here and there, so that the kernel reads only the pages touched.

    Attributes
    ----------
    data : ndarray of uint8, shape (size_bytes,)
        The range. What no file covers must not be addressed.
    address : int
        Where it begins.
    files : tuple of MappedFile
        What is mapped into it.

    Raises
    ------
    StoreCorruptError
        If a file is missing, no regular file, or of another size.
    OSError
        If the system refuses the mapping.
    """

    def __init__(
        self, size_bytes: int, files: Sequence[MappedFile], *, random: bool = True
    ) -> None:
        # mmap refuses an empty range; one byte more is never addressed.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | syscalls.MAP_NORESERVE
        self._range = mmap.mmap(-1, max(size_bytes, 1), flags=flags, prot=mmap.PROT_READ)
        # An ndarray, not a memoryview, so that views keep the range alive.
        self.data: NDArray[np.uint8] = np.frombuffer(self._range, np.uint8)[:size_bytes]
        self.address = self.data.ctypes.data if size_bytes else 0
        self.files = tuple(files)
        for file in files:
            self.map(file)
        if random and files:
            self.advise(0, size_bytes, syscalls.MADV_RANDOM)

    def advise(self, offset_bytes: int, size_bytes: int, advice: int) -> int:
        """Tell the kernel what comes; return 0, or the error's number where it does not listen."""
        return syscalls.advise(self.address + offset_bytes, size_bytes, advice)

    def announce(self, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Have the kernel start reading ranges that it does not have.

        Parameters
        ----------
        offsets, sizes : ndarray of int64, shape (n,)
            Ranges in bytes, on whole pages.
        """
        syscalls.advise_many(offsets + self.address, sizes, syscalls.MADV_WILLNEED)

    def map(self, file: MappedFile) -> None:
        """Map a file into its place, over what is there, as if for the first time."""
        descriptor = open_checked(file.path, file.file_bytes)
        try:
            address = self.address + file.offset_bytes
            syscalls.map_file(address, file.map_bytes, descriptor, mmap.MAP_SHARED, mmap.PROT_READ)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (mapping)", str(file.path)) from error
        finally:
            os.close(descriptor)


def open_checked(path: Path, file_bytes: int) -> int:
    """Open a regular file of exactly ``file_bytes`` for reading; return its descriptor.

    Raises
    ------
    StoreCorruptError
        If there is no such file, or it is something else.
    """
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    remedy = "restore it or build the store again"
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreCorruptError(f"{path} is missing; {remedy}") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size == file_bytes:
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise StoreCorruptError(f"{path} is not a regular file; {remedy}")
    raise StoreCorruptError(f"{path} has {status.st_size} bytes, expected {file_bytes}; {remedy}")
