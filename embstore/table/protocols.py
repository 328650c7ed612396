"""Protocols of a table's parts: files, records, encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
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
    def remedy(self) -> str:
        """What to do where a file is missing or too short, for messages."""
        ...

    @property
    def checked(self) -> bool:
        """Whether a file read whole can be checked."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether the files are on another machine, so that a read is a request."""
        ...

    @property
    def request_count(self) -> int:
        """Requests for bytes so far; 0 for files on a disk."""
        ...

    @property
    def identity(self) -> object:
        """A value that differs for other files under the same name."""
        ...

    def check_identity(self, expected: object) -> None:
        """Raise `StoreNotFoundError` if the files are others than those that had an identity."""
        ...

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        ...

    def read(self, name: str, first: int, count: int) -> bytes:
        """Return ``count`` bytes of a file from byte ``first`` on; fewer where the file ends."""
        ...

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each range, a name, a first byte and a count, and its bytes.

        They come in any order. What is on another machine is requested at once, within limits. A
        range that is not in the file is an error, or has fewer bytes.
        """
        ...

    def names(self) -> list[str]:
        """Return the names of what stands directly in the directory, in any order."""
        ...

    def where(self, name: str) -> str:
        """Return the path or URL of a file, as messages show it; of ``""``, that of them all."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        ...

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file in the directory, at any depth, by its name."""
        ...

    def path(self, name: str) -> Path | None:
        """Return the path of a file on a local disk; None if it is not on one."""
        ...


class CheckedFiles(Protocol):
    """The files of a store, as the checks of an opening need them."""

    def where(self, name: str) -> str:
        """Return the path or URL of a file, as messages show it; of ``""``, that of the store."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        ...

    def announce(self, names: Iterable[str]) -> None:
        """Note that some files will be read by `read_small`: they may be read together."""
        ...

    def read_small(self, name: str, most: int) -> bytes:
        """Return all of a file of at most ``most`` bytes.

        Raises
        ------
        StoreCorruptError
            If the file is missing, or is larger.
        """
        ...

    def is_link(self, name: str) -> bool:
        """Say whether a file is a symbolic link."""
        ...

    def check_directories(self, names: Iterable[str]) -> None:
        """Raise StoreCorruptError if one of some directories is a symbolic link."""
        ...

    def check_chunk_directories(self, array: Any) -> None:
        """Raise StoreCorruptError if a directory of an array's chunk files is a symbolic link."""
        ...


class StoredFiles(CheckedFiles, Files, Protocol):
    """The files of a store."""

    def with_manifest(self, manifest: Any) -> StoredFiles:
        """Return the files of a store whose manifest has been read."""
        ...

    def expect(self, names: list[str], listed: Any) -> None:
        """Take the sizes and last bytes of an array's chunk files, as its metadata lists them.

        Files on a disk are compared with them when they are first opened, or by `check_rest`; those
        at a URL are so now, in size only, because the last bytes would take a request each.

        Raises
        ------
        StoreCorruptError
            If one is found missing or different.
        """
        ...

    def check_rest(self) -> None:
        """Check the chunk files that are expected and were not opened yet; errors as `expect`."""
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
