"""How is an array in a file read without holding it? Mapped, and let go of part by part."""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class MappedArray:
    """An array that lies uncompressed in a file.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        Where the array begins, in bytes.
    shape : tuple of int
        Its shape.
    dtype : numpy.dtype
        Its dtype.
    fortran : bool
        Whether the first axis varies fastest.

    Raises
    ------
    SourceError
        If the file is too short.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        fortran: bool = False,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        size = math.prod(shape) * dtype.itemsize
        found = path.stat().st_size - offset
        if found < size:
            raise SourceError(
                f"{path}: an array of shape {shape} and dtype {dtype} takes {size} bytes, but only "
                f"{max(found, 0)} are there; is the download complete?"
            )
        self._map: mmap.mmap | None = None
        if not size:
            self._array: NDArray[Any] = np.empty(shape, dtype)
            return
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), offset + size, access=mmap.ACCESS_READ)
        self._array = np.ndarray(shape, dtype, self._map, offset, order="F" if fortran else "C")

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return self._array[rows]

    def release(self) -> None:
        """Give the memory of what was read back; it is read again where it is used again."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
