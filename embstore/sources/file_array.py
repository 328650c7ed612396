"""Arrays in files, read slice by slice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class FileArray:
    """An uncompressed array in a file.

    It is read, not mapped: in Fortran order, a few rows touch pages all over the file, and each
    fault may map 2 MiB of it.

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
        self._path, self._offset = path, offset
        self._fortran = fortran and len(shape) > 1
        size = math.prod(shape) * dtype.itemsize
        found = path.stat().st_size - offset
        if found < size:
            raise SourceError(
                f"{path}: an array of shape {shape} and dtype {dtype} takes {size} bytes, but only "
                f"{max(found, 0)} are in the file; is the download complete?"
            )

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        row_shape = self.shape[1:]
        if not self._fortran:
            items = math.prod(row_shape)
            return self._read(start * items, (stop - start) * items).reshape(-1, *row_shape)
        columns = [
            self._read(column * self.shape[0] + start, stop - start)
            for column in range(math.prod(row_shape))
        ]
        return np.array(columns).T.reshape(stop - start, *row_shape, order="F")

    def _read(self, first: int, count: int) -> NDArray[Any]:
        """Return ``count`` items of the array from item ``first`` on."""
        offset = self._offset + first * self.dtype.itemsize
        found = np.fromfile(self._path, self.dtype, count, offset=offset)
        if len(found) < count:
            raise SourceError(f"{self._path} became shorter while it was read")
        return found
