"""NumPy's ``.npy`` files: one array, rows in C order behind a header.

The format is specified in `numpy.lib.format`. Pickles are never loaded.
"""

from __future__ import annotations

import ast
import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embstore.dtypes import find_dtype, native
from embstore.encodings.plain import Plain
from embstore.errors import FormatError, StoreCorruptError
from embstore.formats.empty import empty_table
from embstore.formats.own import spec
from embstore.settle import shown
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.tables import Table
from embstore.wording import either, function, shape_text

if TYPE_CHECKING:
    from embstore.table.protocols import Files

PATTERNS = ("*.npy",)
MAGIC = b"\x93NUMPY"
# More than any array's header takes; `numpy.lib.format` calls this size safe to evaluate.
MAX_HEADER_BYTES = 10_000
# The size of the header's length, for each version of the format.
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
_KEYS = {"descr", "fortran_order", "shape"}


class Readable(Protocol):
    """What a header is read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a ``.npy`` file.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array.
    fortran : bool
        Whether the first axis varies fastest.
    dtype : numpy.dtype
        Dtype of its elements.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def matches(start: bytes, name: str) -> bool:  # Every format has this signature.
    """Return whether a file with these first bytes is a ``.npy``."""
    return start.startswith(MAGIC)


def main_file(files: Files) -> str:
    """Raise `FormatError`: a directory of ``.npy`` files cannot be opened as one table."""
    raise FormatError(
        f"{files.where('')} is a directory of .npy files; open one of them, or build a store from "
        f"all of them with {function('build')}"
    )


def describe(files: Files, name: str) -> Table:
    """Return the table of a ``.npy`` file.

    Parameters
    ----------
    files : Files
        The files of its directory.
    name : str
        The file.

    Raises
    ------
    StoreCorruptError
        If the header is wrong, or the file is shorter or longer than its array.
    FormatError
        If rows cannot be read in place: Fortran order, big-endian numbers, no rows.
    """
    where = files.where(name)
    start = io.BytesIO(files.read(name, 0, MAX_HEADER_BYTES + 64))
    header, header_bytes = read_header(start, where)
    if not header.shape:
        raise FormatError(f"{where} has shape (); a table needs rows, so shape (rows, ...)")
    if problem := _layout_problem(header):
        raise FormatError(f"{where} {problem}")
    check_size(where, header, header_bytes, files.size(name))
    encoding = Plain(native(header.dtype), header.shape[1:])
    return plain_table(files, name, header_bytes, header.shape[0], encoding)


def _layout_problem(header: Header) -> str | None:
    """Return why rows cannot be read in place, with a remedy; None if they can."""
    little = header.dtype.newbyteorder("<")
    if header.fortran and sum(axis > 1 for axis in header.shape) > 1:
        how = either(": numpy.save(path, numpy.ascontiguousarray(array))", "")
        return (
            "is in Fortran order, so a row is not contiguous; build a store from it with "
            f"{function('build')}, or save it in C order{how}"
        )
    if header.dtype != little:
        return (
            f"has big-endian numbers ({header.dtype.str}); build a store from it with "
            f"{function('build')}, or save it as {little.str}"
        )
    return None


def plain_table(files: Files, name: str, offset: int, rows: int, encoding: Plain) -> Table:
    """Return the table of consecutive rows in one file, after checking its length."""
    where = files.where(name)
    if not encoding.record_bytes:
        return empty_table(where, rows, encoding)
    if encoding.record_bytes > spec.MAX_ROW_BYTES:
        raise FormatError(
            f"{where}: a row takes {encoding.record_bytes} bytes, more than the "
            f"{spec.MAX_ROW_BYTES} that a table can hold"
        )
    needed, found = rows * encoding.record_bytes, files.size(name) - offset
    if found < needed:
        raise StoreCorruptError(
            f"{where}: {rows} rows of shape {shape_text(encoding.row_shape)} and dtype "
            f"{encoding.dtype} take {needed} bytes, but only {max(found, 0)} are in the file; is "
            "the download complete?"
        )
    column = Column((Extent(name, offset, rows),), encoding.record_bytes)
    return Table((column,), encoding, Numbering(rows))


def check_size(name: str, header: Header, header_bytes: int, size_bytes: int) -> None:
    """Check that a file ends with its array.

    Parameters
    ----------
    name : str
        The file's name in messages.
    header : Header
        Its header.
    header_bytes, size_bytes : int
        Bytes of the header, and of the file.

    Raises
    ------
    StoreCorruptError
        If it is shorter or longer.
    """
    needed, found = math.prod(header.shape) * header.dtype.itemsize, size_bytes - header_bytes
    lengths = shape_text(header.shape)
    array = f"an array of shape {lengths} and dtype {header.dtype} takes {needed} bytes"
    if found < needed:
        raise StoreCorruptError(
            f"{name}: {array}, but only {max(found, 0)} are in the file; is the download complete?"
        )
    if found > needed:
        raise StoreCorruptError(
            f"{name}: {array}, but {found - needed} more bytes follow it: a second array, or rows "
            "that the header does not count; save all rows as one array"
        )


def read_header(file: Readable, name: str, *, beside: str = "") -> tuple[Header, int]:
    """Read the header of a ``.npy`` file, and return it and its size in bytes.

    The file is then at the first element.

    Parameters
    ----------
    file : object with ``read``
        The file.
    name : str
        Its name in messages.
    beside : str
        Kinds of dtypes that are fine although no table can hold them, such as ``"U"``.

    Raises
    ------
    StoreCorruptError
        If the header is wrong.
    FormatError
        If a table cannot hold numbers of its dtype.
    """
    start = file.read(len(MAGIC) + 2)
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 2:
        raise StoreCorruptError(
            f"{name} is not a readable .npy: it does not start with the mark of one"
        )
    version = start[-2], start[-1]
    if version not in _LENGTH_BYTES:
        raise StoreCorruptError(
            f"{name} has version {version[0]}.{version[1]} of the .npy format, which "
            "embstore does not know"
        )
    length = int.from_bytes(file.read(_LENGTH_BYTES[version]), "little")
    text = file.read(min(length, MAX_HEADER_BYTES + 1))
    if not len(text) == length <= MAX_HEADER_BYTES:
        raise StoreCorruptError(
            f"{name} is not a readable .npy: its header has {length} bytes, expected up to "
            f"{MAX_HEADER_BYTES} and the end of the header in the file"
        )
    try:
        shape, fortran_order, described = _parse(text)
    # A header is Python source, whose parser raises all of these.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise StoreCorruptError(
            f"{name} is not a readable .npy: its header is damaged; is the download complete?"
        ) from error
    try:
        header = Header(shape, fortran_order, np.lib.format.descr_to_dtype(described))
    except (ValueError, TypeError) as error:
        raise StoreCorruptError(
            f"{name} is not a readable .npy: its header has the dtype {shown(described)}, which "
            "NumPy does not know; .npy does not keep the types bfloat16 and float8: save such an "
            "array as safetensors"
        ) from error
    if header.dtype.hasobject:
        raise FormatError(f"{name} holds Python objects (a pickle), which are never loaded")
    if min(header.shape, default=0) < 0 or math.prod(header.shape) >= 1 << 62:
        raise StoreCorruptError(
            f"{name} is not a readable .npy: its shape is {shape_text(header.shape)}"
        )
    if find_dtype(header.dtype) is None and header.dtype.kind not in beside:
        raise FormatError(
            f"{name} has dtype {header.dtype}, which a table cannot hold; .npy does not keep the "
            "types bfloat16 and float8: of such an array, "
            + either("pass np.load(...).view(dtype) to build, or save it", "save it")
            + " as safetensors"
            if header.dtype.kind == "V" and header.dtype.names is None
            else f"{name} has dtype {header.dtype}, which a table cannot hold"
        )
    return header, len(start) + _LENGTH_BYTES[version] + length


def _parse(text: bytes) -> tuple[tuple[int, ...], bool, Any]:
    """Return shape, order and the description of the dtype."""
    # Python 2 wrote the sizes of a shape as 4L.
    found = ast.literal_eval(re.sub(r"(?<=\d)L(?=[,)])", "", text.decode("utf-8").strip()))
    if not isinstance(found, dict) or found.keys() != _KEYS:
        raise ValueError("other keys")
    shape, fortran = found["shape"], found["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(size) is int for size in shape):
        raise ValueError("not a shape")
    if not isinstance(fortran, bool):
        raise ValueError("not a flag")
    return shape, fortran, found["descr"]
