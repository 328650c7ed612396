"""NumPy's files: one ``.npy``, a directory of them, or a member of an ``.npz``.

Arrays that lie uncompressed are mapped, in whatever order and byte order they are; a compressed
member of an ``.npz`` is read as a stream, which takes C order. Pickles are never loaded.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError
from embstore.sources.arrays import ArraySource, check_dtype
from embstore.sources.files import natural_order
from embstore.sources.mapped_file import MappedArray

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.sources.word_list import Words

# More than any array's header takes; np.lib.format calls this the size that is safe to evaluate.
_MAX_HEADER_BYTES = 10_000
_LOCAL_HEADER_BYTES = 30


def open_npy(path: Path, *, words: Words | None = None) -> ArraySource:
    """Return the rows of a ``.npy`` file, or of a directory of them.

    The files of a directory are taken in natural order: ``part-2.npy`` comes before
    ``part-10.npy``.

    Parameters
    ----------
    path : Path
        The file or directory.
    words : str, Path, or iterable of str, optional
        The words of the rows.

    Raises
    ------
    SourceError
        If a file is not an array that a store can hold.
    """
    paths = [path]
    if path.is_dir():
        paths = natural_order(path.glob("*.npy"))
        if not paths:
            raise SourceError(f"{path} has no .npy files; expected at least one")
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
        If there is no such array, or it is not one that a store can hold.
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
    """Return the name that was asked for, or the only one there is.

    Raises
    ------
    SourceError
        If there is no such name, or none was asked for and there are several; it lists them.
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
    """A compressed array, in C order, of which rows are read one after the other."""

    def __init__(self, path: Path, info: zipfile.ZipInfo, header: _Header) -> None:
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
                self._archive = zipfile.ZipFile(self._path)  # Until it is read.
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


@dataclass(frozen=True, slots=True)
class _Header:
    """What a ``.npy`` file says of its array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def _read_header(file: IO[bytes], name: str) -> _Header:
    """Read the header of a ``.npy`` file; leave the file at the first element."""
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        header = _Header(*read(file, max_header_size=_MAX_HEADER_BYTES))
    except KeyError as error:
        raise SourceError(
            f"{name} has version {error} of the .npy format, which is unknown"
        ) from error
    except ValueError as error:
        raise SourceError(f"{name} is not a readable .npy: {error}") from error
    if header.dtype.hasobject:
        raise SourceError(f"{name} holds Python objects (a pickle), which are never loaded")
    if min(header.shape, default=0) < 0:
        raise SourceError(f"{name} is not a readable .npy: its shape is {header.shape}")
    check_dtype(name, header.dtype)
    return header


def _map(path: Path) -> MappedArray:
    with path.open("rb") as file:
        header = _read_header(file, str(path))
        offset = file.tell()
    return MappedArray(path, offset, header.shape, header.dtype, fortran=header.fortran)


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
        return MappedArray(path, offset, header.shape, header.dtype, fortran=header.fortran)
    if header.fortran and len(header.shape) > 1:
        raise SourceError(
            f"{name} is compressed and in Fortran order, so its rows lie apart; save it with "
            "numpy.savez, or in C order"
        )
    return _StreamedArray(path, info, header)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where a stored member's bytes begin: behind its own header, not the directory's."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
    name_bytes = int.from_bytes(header[26:28], "little")
    extra_bytes = int.from_bytes(header[28:30], "little")
    return info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
