"""Where is an array that a build needs, and that may become too large for memory?

In memory while it is small; beyond that in a file without a name, in the staging directory, that is
mapped. What the mapping keeps in memory is given back to the page cache by `ScratchArray.release`,
so the process stays small; how much of the file stays cached is the kernel's choice.
"""

from __future__ import annotations

import mmap
import sys
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore import syscalls
from embstore.writing import files

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class ScratchArray:
    """A growing array of numbers, zero where nothing was written.

    Parameters
    ----------
    dtype : dtype
        Of its elements.
    memory_bytes : int
        The size from which on it is a file.
    directory : Path, optional
        Where the file is made; without one, it stays in memory.
    """

    def __init__(self, dtype: Any, memory_bytes: int, directory: Path | None) -> None:
        self._dtype = np.dtype(dtype)
        self._memory_bytes = memory_bytes
        self._directory = directory
        self._file: IO[bytes] | None = None
        # All that there is room for; `array` is what is in use.
        self._room: NDArray[Any] = np.zeros(0, self._dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def array(self) -> NDArray[Any]:
        """The elements; not to be kept while the array grows."""
        return self._room[: self._length]

    @property
    def in_file(self) -> bool:
        """Whether it has become a file."""
        return self._file is not None

    def resize(self, length: int) -> None:
        """Make the array longer, by zeros."""
        if length > len(self._room):
            self._grow(max(length, 2 * len(self._room)))
        self._length = length

    def append(self, elements: NDArray[Any]) -> None:
        """Add elements at the end."""
        begin = self._length
        self.resize(begin + len(elements))
        self._room[begin : self._length] = elements

    def release(self) -> None:
        """Give what is mapped back to the page cache."""
        if self._file is not None and sys.platform != "win32":
            room = self._room
            syscalls.advise(room.ctypes.data, room.nbytes, syscalls.MADV_DONTNEED)

    def close(self) -> None:
        """Free the memory and the disk."""
        self._room, self._length = self._room[:0].copy(), 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _grow(self, length: int) -> None:
        size_bytes = length * self._dtype.itemsize
        if self._directory is None or size_bytes <= self._memory_bytes:
            larger = np.zeros(length, self._dtype)
            larger[: self._length] = self.array
            self._room = larger
            return
        begun = self._file is not None
        if self._file is None:
            self._file = files.open_scratch(self._directory)
        files.extend_scratch(self._file.fileno(), size_bytes, self._directory)
        mapping = mmap.mmap(self._file.fileno(), size_bytes)
        larger = np.frombuffer(mapping, self._dtype)
        if sys.platform != "win32":
            syscalls.advise(larger.ctypes.data, size_bytes, syscalls.MADV_RANDOM)
        if not begun:
            larger[: self._length] = self.array
        self._room = larger
