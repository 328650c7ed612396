"""NumPy arrays in files: ``.npy``, directories of them, and ``.npz``.

An uncompressed file is read slice by slice, in any order and byte order. One that is compressed or
in an archive, as all members of an ``.npz`` are, is read as a stream, so that its checksum is
checked; an array in Fortran order is read slice by slice after that, and must be uncompressed.
Pickles are never loaded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError, StoreError
from embstore.formats.npy import check_size, read_header
from embstore.sources import BATCH_BYTES
from embstore.sources.arrays.file_array import FileArray
from embstore.sources.arrays.source import ArraySource
from embstore.sources.files.archives import ZIP, stored_offset
from embstore.sources.files.decompress import DamagedError
from embstore.sources.files.input_file import InputFile
from embstore.sources.files.piped import WRITE_FIRST, Pipe
from embstore.sources.folders.folder import table_files
from embstore.wording import either, option, shape_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.npy import Header
    from embstore.sources.arrays.source import ArrayLike
    from embstore.sources.files.input_file import Stream
    from embstore.sources.words.word_list import Words

_SUFFIX = ".npy"
BESIDE = "bU"  # Kinds of dtypes that attributes may have, and rows may not.


def open_npy(
    path: Path | Pipe, *, member: str | None = None, words: Words | None = None
) -> ArraySource:
    """Return the rows of a ``.npy`` file, or of a directory of them.

    The files of a directory must be parts of one table; see `embstore.sources.folders.folder`.

    Parameters
    ----------
    path : Path
        The file or directory.
    member : str, optional
        The member of an archive that has several.
    words : str, Path, or iterable of str, optional
        The words of the rows.

    Raises
    ------
    SourceError
        If a file is not a ``.npy``, or a store cannot hold its array.
    """
    if isinstance(path, Pipe) or not path.is_dir():
        file = InputFile(path, member)
        return _source(file.name, file.short_name, "npy", [file], words)
    if member is not None:
        raise SourceError(f"{path} is a directory, so it has no member {member!r}")
    files = list(map(InputFile, table_files(path, "npy")))
    return _source(str(path), path.name, "npy", files, words)


def open_npz(
    path: Path,
    *,
    member: str | None = None,
    words: Words | None = None,
    attributes: Sequence[str] = (),
) -> ArraySource:
    """Return the rows of an array of an ``.npz`` file.

    Parameters
    ----------
    path : Path
        The file.
    member : str, optional
        The array's name; not needed if there is only one.
    words : str, Path, or iterable of str, optional
        The words of the rows.
    attributes : sequence of str
        The names of the arrays of attributes.

    Raises
    ------
    SourceError
        If an array is missing, or a store cannot hold it.
    """
    try:
        with path.open("rb") as raw:
            names = [name for name in ZIP.members(raw, None) if name.endswith(_SUFFIX)]
    except DamagedError as error:
        raise SourceError(
            f"{path} is not a readable .npz: {error}; is the download complete?"
        ) from error
    arrays = [name.removesuffix(_SUFFIX) for name in names]
    if len(set(arrays)) < len(arrays):
        twice = next(name for name in arrays if arrays.count(name) > 1)
        raise SourceError(f"{path} has several members {twice!r}; save each array once")
    columns = {
        one: open_array(
            InputFile(path, only_name(str(path), one, arrays, "member") + _SUFFIX), BESIDE
        )
        for one in attributes
    }
    others = [one for one in arrays if one not in attributes]
    name = only_name(str(path), member, others, "member")
    file = InputFile(path, name + _SUFFIX)
    place = f"{path.name}[{name}]"
    return _source(str(path.with_name(place)), place, "npz", [file], words, columns)


def only_name(place: str, name: str | None, names: list[str], role: str) -> str:
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
                f"{place} has {len(names)} {role}s: {listing}; name the one to read "
                f"({option(role)})"
            )
        return names[0]
    if name not in names:
        raise SourceError(f"{place} has no {role} {name!r}; it has: {listing}")
    return name


def _source(
    name: str,
    origin: str,
    format: str,
    files: Sequence[InputFile],
    words: Words | None,
    attributes: Mapping[str, ArrayLike] | None = None,
) -> ArraySource:
    return ArraySource(
        name,
        [open_array(file) for file in files],
        words=words,
        origin={"file": origin, "format": format},
        part_names=[file.name for file in files],
        attributes=attributes,
    )


def open_array(file: InputFile, beside: str = "") -> FileArray | _StreamedArray:
    """Return the array of a ``.npy`` file, to be sliced in order.

    Parameters
    ----------
    file : InputFile
        The file.
    beside : str
        As for `embstore.formats.npy.read_header`.

    Raises
    ------
    SourceError
        If it is damaged, or its dtype is not read.
    """
    with file.open() as stream:
        header, header_bytes = _read_header(stream, beside)
        size_bytes, start = file.byte_count, 0
        if file.packed:
            if not header.fortran or sum(axis > 1 for axis in header.shape) < 2:
                return _StreamedArray(file, header)
            # Columns are read from all over the array.
            in_zip = file.layers == ("zip",)
            found = stored_offset(stream.raw, str(file.member)) if in_zip else None
            if found is None:
                how = f"save it uncompressed{either(' (numpy.savez)', '')}"
                raise SourceError(
                    f"{file.name} is {'a pipe' if file.piped else 'compressed'}, and its array in "
                    "Fortran order, so a row is not contiguous; "
                    f"{WRITE_FIRST if file.piped else how}, or save it in C order"
                )
            size_bytes, start = header_bytes + _size(file, header_bytes), found
    try:
        check_size(file.name, header, header_bytes, size_bytes)
    except StoreError as error:
        raise SourceError(str(error)) from error
    offset = start + header_bytes
    assert not isinstance(file.path, Pipe)
    return FileArray(file.path, offset, header.shape, header.dtype, fortran=header.fortran)


def _size(file: InputFile, header_bytes: int) -> int:
    """Return the bytes behind the header; reading all of them also checks their checksum."""
    with file.open() as stream:
        size = -header_bytes
        while data := stream.read(BATCH_BYTES):
            size += len(data)
    return size


class _StreamedArray:
    """An array in C order, whose rows are read from a stream one after the other.

    Parameters
    ----------
    file : InputFile
        A ``.npy``, compressed or in an archive.
    header : Header
        Its header.
    """

    def __init__(self, file: InputFile, header: Header) -> None:
        self.shape = header.shape
        self.dtype = header.dtype
        self._file = file
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._opened: AbstractContextManager[Stream] | None = None
        self._next = 0

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        if self._opened is None or start != self._next:
            self._opened = self._file.open()  # Kept open until the array is read.
            self._stream = self._opened.__enter__()
            _read_header(self._stream, BESIDE)
        found = np.empty((stop - start) * self._row_bytes, np.uint8)
        done = self._stream.read_into(found.data)
        if done != len(found):
            raise SourceError(
                f"{self._file.name} ends in row {start + done // self._row_bytes} of "
                f"{self.shape[0]}; is the download complete?"
            )
        if stop == self.shape[0] and self._stream.read(1):  # This also checks its checksum.
            raise SourceError(
                f"{self._file.name}: more bytes follow its array of shape "
                f"{shape_text(self.shape)}: a second array, or rows that the header does not "
                "count; save all rows as one array"
            )
        self._next = stop
        return found.view(self.dtype).reshape(stop - start, *self.shape[1:])


def _read_header(stream: Stream, beside: str) -> tuple[Header, int]:
    """Read the header of a ``.npy`` file, and return it and its size in bytes."""
    try:
        return read_header(stream, stream.file.name, beside=beside)
    except StoreError as error:
        raise SourceError(str(error)) from error
