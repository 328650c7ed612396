"""Arrays in files, read slice by slice."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class FileArray:
    """An uncompressed array in a file.

    It is read, not mapped: a file that is cut meanwhile is an error then, and not the end of the
    process. In Fortran order, a few rows also touch pages all over the file, and each fault may map
    2 MiB of it.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        First byte of the array.
    shape : tuple of int
        Its shape.
    dtype : numpy.dtype
        Its dtype.
    fortran : bool
        Whether the first axis varies fastest.

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
        self._path, self._offset = path, offset
        self._fortran = fortran and len(shape) > 1
        self._identity = _identity(path.stat())

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        row_shape, row_count = self.shape[1:], stop - start
        items = math.prod(row_shape)
        if not self._fortran or not items:
            return self._read(start * items, row_count * items).reshape(row_count, *row_shape)
        columns = [self._read(column * self.shape[0] + start, row_count) for column in range(items)]
        return np.array(columns).T.reshape(row_count, *row_shape, order="F")

    def _read(self, first: int, count: int) -> NDArray[Any]:
        """Return ``count`` items of the array from item ``first`` on.

        Raises
        ------
        SourceError
            If the file has changed since the array was made.
        """
        found = np.empty(count, self.dtype)
        room, done = found.view(np.uint8), 0
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._offset + first * self.dtype.itemsize)
            while size := file.readinto(room[done:].data):
                done += size
            if done < len(room) or _identity(os.fstat(file.fileno())) != self._identity:
                raise SourceError(f"{self._path} changed while it was read; build again")
        return found


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
