"""How do many files become one array? One read-only address space over them.

1. Reserve the whole range with an anonymous ``mmap`` that costs no memory.
2. Map each file over its place in the range (``MAP_FIXED``), and close the file.
3. NumPy views hold the ``mmap`` object; when the last one goes, Python unmaps the range, files
   included. No descriptor stays open.

A file must be as long as expected when it is mapped. If somebody cuts it afterwards, touching the
lost part kills the process (SIGBUS): a published store is immutable, don't truncate one in use.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embstore.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PAGE_BYTES = mmap.PAGESIZE

# Linux on every architecture, the BSDs and macOS agree on this number.
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0

# The advice that this package gives, by its Linux numbers (mmap has them only where they exist).
MADV_RANDOM = 1
MADV_WILLNEED = 3


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
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._range = mmap.mmap(-1, max(size_bytes, 1), flags=flags, prot=mmap.PROT_READ)
        # An ndarray, not a memoryview, so that views keep the range alive.
        self.data: NDArray[np.uint8] = np.frombuffer(self._range, np.uint8)[:size_bytes]
        self._address = self.data.ctypes.data if size_bytes else 0
        for file in files:
            self._map(file)
        if random and files:
            self.advise(0, size_bytes, MADV_RANDOM)

    def advise(self, offset_bytes: int, size_bytes: int, advice: int) -> None:
        """Tell the kernel what comes; a kernel that does not know the advice is not an error."""
        libc_madvise(self._address + offset_bytes, size_bytes, advice)

    def _map(self, file: MappedFile) -> None:
        descriptor = open_checked(file.path, file.file_bytes)
        try:
            address = self._address + file.offset_bytes
            flags = mmap.MAP_SHARED | _MAP_FIXED
            got = libc_mmap(address, file.map_bytes, mmap.PROT_READ, flags, descriptor, 0)
        finally:
            os.close(descriptor)
        if got != address:
            number = ctypes.get_errno()
            raise OSError(number, f"{os.strerror(number)} (mapping)", str(file.path))


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
    except FileNotFoundError as error:
        raise StoreCorruptError(f"{path} is missing; {remedy}") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size == file_bytes:
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise StoreCorruptError(f"{path} is not a regular file; {remedy}")
    raise StoreCorruptError(f"{path} has {status.st_size} bytes, expected {file_bytes}; {remedy}")


def _libc() -> tuple[Callable[..., int], Callable[..., int]]:
    # Functions of the C library give up the GIL while they run, unlike mmap.mmap's own methods.
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_size_t
    library.mmap.argtypes = [
        *(ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
    ]
    library.madvise.restype = ctypes.c_int
    library.madvise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    return library.mmap, library.madvise


if can_map():
    libc_mmap, libc_madvise = _libc()
