"""NumPy's ``.npy`` files: one array, rows in C order behind a header.

The format is specified in `numpy.lib.format`. Pickles are never loaded.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import is_storable
from embstore.encodings.plain import Plain
from embstore.errors import FormatError, StoreCorruptError
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.tables import Table

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.table.protocols import Files

MAGIC = b"\x93NUMPY"
# More than the header of any array takes; `numpy.lib.format` calls this size safe to evaluate.
MAX_HEADER_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Header:
    """What a ``.npy`` file says about its array.

    Attributes
    ----------
    shape : tuple of int
        Its shape.
    fortran : bool
        Whether the first axis varies fastest.
    dtype : numpy.dtype
        Its dtype.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def find(path: Path) -> Path | None:
    """Return ``path`` if it is a ``.npy`` file, else None."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return path if file.read(len(MAGIC)) == MAGIC else None


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
    if header.fortran and sum(axis > 1 for axis in header.shape) > 1:
        raise FormatError(
            f"{where} is in Fortran order, so its rows lie apart; make a store of it with "
            "embstore.build, or save it in C order: numpy.save(path, numpy.ascontiguousarray(a))"
        )
    if header.dtype != header.dtype.newbyteorder("<"):
        raise FormatError(
            f"{where} has big-endian numbers ({header.dtype.str}); make a store of it with "
            f"embstore.build, or save it as {header.dtype.newbyteorder('<').str}"
        )
    encoding = Plain(header.dtype.newbyteorder("="), header.shape[1:])
    return plain_table(files, name, start.tell(), header.shape[0], encoding)


def plain_table(files: Files, name: str, offset: int, rows: int, encoding: Plain) -> Table:
    """Return the table of consecutive rows in one file, which must be long enough for them."""
    where = files.path(name)
    if not encoding.record_bytes:
        raise FormatError(f"{where}: rows of shape {encoding.row_shape} have no numbers")
    needed, found = offset + rows * encoding.record_bytes, files.size(name)
    if found < needed:
        raise StoreCorruptError(
            f"{where}: {rows} rows of shape {encoding.row_shape} and dtype {encoding.dtype} end at "
            f"byte {needed}, but the file has {found} bytes; is the download complete?"
        )
    column = Column((Extent(name, offset, rows),), encoding.record_bytes)
    return Table((column,), encoding, Numbering(rows))


def read_header(file: IO[bytes], name: str) -> Header:
    """Read the header of a ``.npy`` file, and leave the file at the first element.

    Raises
    ------
    StoreCorruptError
        If the header is wrong, or its dtype is not one that a table can hold.
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
            f"{name} has an unknown version of the .npy format: {error}"
        ) from error
    except ValueError as error:
        raise StoreCorruptError(f"{name} is not a readable .npy: {error}") from error
    if header.dtype.hasobject:
        raise StoreCorruptError(f"{name} holds Python objects (a pickle), which are never loaded")
    if min(header.shape, default=0) < 0 or math.prod(header.shape) >= 1 << 62:
        raise StoreCorruptError(f"{name} is not a readable .npy: its shape is {header.shape}")
    if not is_storable(header.dtype):
        raise StoreCorruptError(f"{name} has dtype {header.dtype}, which a table cannot hold")
    return header
