"""How do many files become one array? One read-only address space over them.

1. Reserve the whole range with an anonymous ``mmap`` that costs no memory.
2. Map each file over its place in the range (``MAP_FIXED``), and close the file.
3. NumPy views hold the ``mmap`` object; when the last one goes, Python unmaps the range, files
   included. No descriptor stays open.

A file must be as long as expected when it is mapped. If somebody cuts it afterwards, touching the
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
from embstore.formats.own.checked_files import open_checked

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
    StoreMappingError
        If the system refuses the mapping: too large, or of too many files.
    """

    def __init__(
        self, size_bytes: int, files: Sequence[MappedFile], *, random: bool = True
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
            raise StoreMappingError(_refusal(file, len(self.files), error)) from error
        finally:
            os.close(descriptor)


def _refusal(file: MappedFile, file_count: int, error: OSError) -> str:
    """Say why a file cannot be mapped, and what to do."""
    problem = f"{file.path} cannot be mapped: {error.strerror}"
    chunked = 'embstore.open(path, reader="chunked"), which maps no rows'
    if error.errno != errno.ENOMEM:
        return f"{problem}; use {chunked}"
    return (
        f"{problem}. This store needs {file_count} mappings or more; a process may have as many "
        "as sysctl vm.max_map_count says, 65530 by default. Raise it, close stores, build the "
        f"store with larger chunks, or use {chunked}"
    )
