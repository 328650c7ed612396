"""NumPy arrays that cannot be opened in place: directories, ``.npz``, Fortran order, big-endian.

Uncompressed arrays are read slice by slice, in any order and byte order; a compressed member of an
``.npz`` is read as a stream, which must be in C order. Pickles are never loaded.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError, StoreError
from embstore.formats.npy import Header, read_header
from embstore.sources.arrays import ArraySource
from embstore.sources.file_array import FileArray
from embstore.sources.folder import table_files

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.sources.word_list import Words

_LOCAL_HEADER_BYTES = 30


def open_npy(path: Path, *, words: Words | None = None) -> ArraySource:
    """Return the rows of a ``.npy`` file, or of a directory of them.

    The files of a directory must be parts of one table; see `embstore.sources.folder`.

    Parameters
    ----------
    path : Path
        The file or directory.
    words : str, Path, or iterable of str, optional
        The words of the rows.

    Raises
    ------
    SourceError
        If a file is not a ``.npy``, or a store cannot hold its array.
    """
    paths = table_files(path, "npy") if path.is_dir() else [path]
    return ArraySource(
        str(path),
        [_map(path) for path in paths],
        words=words,
        origin={"file": path.name, "format": "npy"},
        part_names=[str(path) for path in paths],
    )


def open_npz(path: Path, *, member: str | None = None, words: Words | None = None) -> ArraySource:
    """Return the rows of an array of an ``.npz`` file.

    Parameters
    ----------
    path : Path
        The file.
    member : str, optional
        The array's name; not needed if there is only one.
    words : str, Path, or iterable of str, optional
        The words of the rows.

    Raises
    ------
    SourceError
        If the array is missing, or a store cannot hold it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            name = only_name(str(path), member, list(infos), "member")
            array = _member(path, archive, infos[name])
    except zipfile.BadZipFile as error:
        raise SourceError(
            f"{path} is not a readable .npz: {error}; is the download complete?"
        ) from error
    return ArraySource(
        f"{path}[{name}]",
        [array],
        words=words,
        origin={"file": f"{path.name}[{name}]", "format": "npz"},
        part_names=[f"{path}[{name}]"],
    )


def only_name(place: str, name: str | None, names: list[str], option: str) -> str:
    """Return the requested name, or the only one.

    Raises
    ------
    SourceError
        If the name is missing, or there are several and none was requested; the message lists them.
    """
    listing = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    if name is None:
        if len(names) != 1:
            raise SourceError(
                f"{place} has {len(names)} {option}s: {listing}; name the one to read "
                f"({option}=, or --{option} on the command line)"
            )
        return names[0]
    if name not in names:
        raise SourceError(f"{place} has no {option} {name!r}; it has: {listing}")
    return name


class _StreamedArray:
    """A compressed array in C order, whose rows are read one after the other."""

    def __init__(self, path: Path, info: zipfile.ZipInfo, header: Header) -> None:
        self.shape = header.shape
        self.dtype = header.dtype
        self._path = path
        self._info = info
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._stream: IO[bytes] | None = None
        self._next = 0

    def __getitem__(self, rows: slice) -> Any:
        start, stop, _ = rows.indices(self.shape[0])
        name = f"{self._path}[{self._info.filename}]"
        try:
            if self._stream is None or start != self._next:
                self._archive = zipfile.ZipFile(self._path)  # Kept open until it is read.
                self._stream = self._archive.open(self._info)
                _read_header(self._stream, name)
                self._next = 0
            size = (stop - start) * self._row_bytes
            data = self._stream.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise SourceError(
                f"{name} cannot be decompressed: {error}; is the download complete?"
            ) from error
        if len(data) != size:
            raise SourceError(f"{name} ends in row {start + len(data) // self._row_bytes}")
        self._next = stop
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])


def _read_header(file: IO[bytes], name: str) -> Header:
    """Read the header of a ``.npy`` file; the file is then at the first element."""
    try:
        return read_header(file, name)
    except StoreError as error:
        raise SourceError(str(error)) from error


def _map(path: Path) -> FileArray:
    with path.open("rb") as file:
        header = _read_header(file, str(path))
        offset = file.tell()
    return FileArray(path, offset, header.shape, header.dtype, fortran=header.fortran)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    name = f"{path}[{info.filename}]"
    try:
        with archive.open(info) as stream:
            header = _read_header(stream, name)
            header_bytes = stream.tell()
    except (RuntimeError, zlib.error) as error:  # Encrypted, an unknown method, damaged.
        raise SourceError(f"{name} cannot be read: {error}") from error
    if info.compress_type == zipfile.ZIP_STORED:
        offset = _data_offset(path, info) + header_bytes
        return FileArray(path, offset, header.shape, header.dtype, fortran=header.fortran)
    if header.fortran and len(header.shape) > 1:
        raise SourceError(
            f"{name} is compressed and in Fortran order, so a row is not contiguous; "
            "save it with numpy.savez, or in C order"
        )
    return _StreamedArray(path, info, header)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Return the first byte of a stored member, after its local header."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
    name_bytes = int.from_bytes(header[26:28], "little")
    extra_bytes = int.from_bytes(header[28:30], "little")
    return info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
