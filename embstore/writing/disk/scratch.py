"""Growing arrays that move from memory to a mapped file when they become large.

The file has no name and is in the staging directory. `ScratchArray.release` gives its mapped pages
back to the page cache, so the process stays small; the kernel decides how much stays cached.
"""

from __future__ import annotations

import mmap
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore import syscalls
from embstore.writing.disk import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Elements of an array that are looked at, or copied, at once.
PIECE_LENGTH = 1 << 18


class ScratchArray:
    """A growing array of numbers; new elements are zero.

    Parameters
    ----------
    dtype : dtype
        Dtype of the elements.
    memory_bytes : int
        The largest size in memory; a larger array is a file.
    directory : Path, optional
        Where to create the file. Without one, the array always stays in memory.
    """

    def __init__(self, dtype: Any, memory_bytes: int, directory: Path | None) -> None:
        self._dtype = np.dtype(dtype)
        self._memory_bytes = memory_bytes
        self._directory = directory
        self._file: IO[bytes] | None = None
        # The allocated elements; `array` is the used part.
        self._room: NDArray[Any] = np.zeros(0, self._dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def array(self) -> NDArray[Any]:
        """The elements; do not keep a reference while the array grows."""
        return self._room[: self._length]

    @property
    def in_file(self) -> bool:
        """Whether the array is a file."""
        return self._file is not None

    def resize(self, length: int) -> None:
        """Make the array longer, with zeros at the end."""
        if length > len(self._room):
            self._grow(max(length, 2 * len(self._room)))
        self._length = length

    def append(self, elements: NDArray[Any]) -> None:
        """Add elements at the end."""
        start = self._length
        self.resize(start + len(elements))
        self.write(start, elements)

    def write(self, start: int, elements: NDArray[Any]) -> None:
        """Replace the elements from ``start`` on, which exist."""
        if self._file is None or self._directory is None:
            self._room[start : start + len(elements)] = elements
            return
        # The mapping shows what is written to the file. It takes half the time of writing to the
        # mapping, which faults every page in.
        data = np.ascontiguousarray(elements, self._dtype).view(np.uint8)
        offset = start * self._dtype.itemsize
        files.write_scratch(self._file.fileno(), data.data, offset, self._directory)

    def move_to_file(self) -> None:
        """Move the array to a file, whatever its size, if there is a directory for one."""
        self._memory_bytes = -1
        if self._file is None:
            self._grow(len(self._room))

    def release(self) -> None:
        """Give the mapped pages back to the page cache."""
        if self._file is not None:
            room = self._room
            syscalls.advise(room.ctypes.data, room.nbytes, syscalls.MADV_DONTNEED)

    def close(self) -> None:
        """Free the memory and the disk space."""
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
        was_in_file = self.in_file
        if self._file is None:
            self._file = files.open_scratch(self._directory)
        files.extend_scratch(self._file.fileno(), size_bytes, self._directory)
        mapping = mmap.mmap(self._file.fileno(), size_bytes)
        larger = np.frombuffer(mapping, self._dtype)
        syscalls.advise(larger.ctypes.data, size_bytes, syscalls.MADV_RANDOM)
        smaller, self._room = self.array, larger
        if not was_in_file:
            self.write(0, smaller)


def pieces_of(
    scratch: ScratchArray, start: int = 0, stop: int | None = None
) -> Iterator[NDArray[Any]]:
    """Yield the elements ``start .. stop - 1`` of an array, or those to its end, piece by piece."""
    end = len(scratch) if stop is None else stop
    for first in range(start, end, PIECE_LENGTH):
        yield scratch.array[first : min(first + PIECE_LENGTH, end)]
        scratch.release()
