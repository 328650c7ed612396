"""Protocols of a table's parts: files, records, encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    # Called with consecutive rows of a column and their records, which it must not change.
    VisitRecords = Callable[[range, NDArray[np.uint8]], None]
    # Called with consecutive ids, and their rows, which it must not change.
    Visit = Callable[[range, NDArray[Any]], None]


class Files(Protocol):
    """The files of a table: a directory, a foreign file, or a prefix on an object store."""

    @property
    def identity(self) -> object:
        """A value that differs for other files under the same name."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        ...

    def read(self, name: str, first: int, count: int) -> bytes:
        """Return ``count`` bytes of a file from byte ``first`` on; fewer where the file ends."""
        ...

    def where(self, name: str) -> str:
        """Return the path or URL of a file, as messages show it; of ``""``, that of them all."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        ...

    def path(self, name: str) -> Path | None:
        """Return the path of a file on a local disk; None if it is not on one."""
        ...


class Encoding(Protocol):
    """The conversion of a row's records to numbers."""

    @property
    def name(self) -> str:
        """Name of the encoding, such as ``"plain"`` or ``"float8_e4m3fn"``."""
        ...

    @property
    def record_bytes(self) -> int:
        """Bytes of a row in all columns."""
        ...

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of a row's numbers by default, in native byte order."""
        ...

    def decode(self, records: tuple[NDArray[np.uint8], ...], out: NDArray[Any]) -> None:
        """Fill ``out`` with the rows of some records.

        Parameters
        ----------
        records : tuple of ndarray of uint8, each of shape (n, record_bytes)
            The records of n rows, one array for each column.
        out : ndarray, shape (n, *row_shape), C-contiguous
            Filled with the rows; of `dtype`, or of another float dtype if `dtype` is a float.
        """
        ...


class Records(Protocol):
    """The records of one column, by row."""

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with the records of rows.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows of the column, in range; repeats allowed.
        out : ndarray, shape (n, ...), C-contiguous
            Its n items have ``record_bytes`` bytes each, of any dtype.
        """
        ...

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass the records of rows ``first .. stop - 1`` to ``visit``, in blocks, in any order."""
        ...
