"""NumPy's ``.npy`` files: one array, rows in C order behind a header.

The format is specified in `numpy.lib.format`. Pickles are never loaded.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import find_dtype
from embstore.encodings.plain import Plain
from embstore.errors import FormatError, StoreCorruptError, StoreError
from embstore.formats.own import spec
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.tables import Table

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.table.protocols import Files

PATTERNS = ("*.npy",)
MAGIC = b"\x93NUMPY"
# More than any array's header takes; `numpy.lib.format` calls this size safe to evaluate.
MAX_HEADER_BYTES = 10_000


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


def main_file(directory: Path) -> Path:
    """Raise `FormatError`: a directory of ``.npy`` files cannot be opened as one table."""
    raise FormatError(
        f"{directory} is a directory of .npy files; open one of them, or build a store from "
        "all of them with embstore.build"
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
        If the header is wrong, or the file is shorter than its array.
    FormatError
        If rows cannot be read in place: Fortran order, big-endian numbers, no rows.
    """
    where = files.path(name)
    start = io.BytesIO(files.read(name, 0, MAX_HEADER_BYTES + 64))
    header = read_header(start, str(where))
    if not header.shape:
        raise FormatError(f"{where} has shape (); a table needs rows, so shape (rows, ...)")
    if problem := _layout_problem(header):
        raise FormatError(f"{where} {problem}")
    encoding = Plain(header.dtype.newbyteorder("="), header.shape[1:])
    return plain_table(files, name, start.tell(), header.shape[0], encoding)


def addresses_rows(path: Path) -> bool:
    """Return whether the rows of a ``.npy`` file can be read in place."""
    with path.open("rb") as file:
        try:
            return _layout_problem(read_header(file, str(path))) is None
        except StoreError:
            return False


def _layout_problem(header: Header) -> str | None:
    """Return why rows cannot be read in place, with a remedy; None if they can."""
    little = header.dtype.newbyteorder("<")
    if header.fortran and sum(axis > 1 for axis in header.shape) > 1:
        return (
            "is in Fortran order, so a row is not contiguous; build a store from it with "
            "embstore.build, or save it in C order: "
            "numpy.save(path, numpy.ascontiguousarray(array))"
        )
    if header.dtype != little:
        return (
            f"has big-endian numbers ({header.dtype.str}); build a store from it with "
            f"embstore.build, or save it as {little.str}"
        )
    return None


def plain_table(files: Files, name: str, offset: int, rows: int, encoding: Plain) -> Table:
    """Return the table of consecutive rows in one file, after checking its length."""
    where = files.path(name)
    if not encoding.record_bytes:
        raise FormatError(f"{where}: rows of shape {encoding.row_shape} have no numbers")
    if encoding.record_bytes > spec.MAX_ROW_BYTES:
        raise FormatError(
            f"{where}: a row takes {encoding.record_bytes} bytes, more than the "
            f"{spec.MAX_ROW_BYTES} that a table can hold"
        )
    needed, found = rows * encoding.record_bytes, files.size(name) - offset
    if found < needed:
        raise StoreCorruptError(
            f"{where}: {rows} rows of shape {encoding.row_shape} and dtype {encoding.dtype} take "
            f"{needed} bytes, but only {max(found, 0)} are in the file; is the download complete?"
        )
    column = Column((Extent(name, offset, rows),), encoding.record_bytes)
    return Table((column,), encoding, Numbering(rows))


def read_header(file: IO[bytes], name: str) -> Header:
    """Read the header of a ``.npy`` file; the file is then at the first element.

    Raises
    ------
    StoreCorruptError
        If the header is wrong.
    FormatError
        If a table cannot hold numbers of its dtype.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        header = Header(*read(file, max_header_size=MAX_HEADER_BYTES))
    except KeyError as error:
        raise StoreCorruptError(
            f"{name} has version {error} of the .npy format, which embstore does not know"
        ) from error
    except ValueError as error:
        raise StoreCorruptError(f"{name} is not a readable .npy: {error}") from error
    if header.dtype.hasobject:
        raise FormatError(f"{name} holds Python objects (a pickle), which are never loaded")
    if min(header.shape, default=0) < 0 or math.prod(header.shape) >= 1 << 62:
        raise StoreCorruptError(f"{name} is not a readable .npy: its shape is {header.shape}")
    if find_dtype(header.dtype) is None:
        raise FormatError(f"{name} has dtype {header.dtype}, which a table cannot hold")
    return header
