"""Tensors of GGUF files, the models of llama.cpp: one file, or several parts.

1. `embstore.formats.gguf.header` reads the header of a file, with `cursor`.
2. `embstore.formats.gguf.parts` finds the parts of a model, and the tensors in all of them.
3. `describe` makes a table of a tensor: one of shape (rows, ...) has rows of the remaining shape,
   which are whole blocks.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from embstore.dtypes import DTYPES
from embstore.encodings.ggml_codes import UNPACK
from embstore.encodings.gguf_blocks import GgufBlocks
from embstore.encodings.opaque import Opaque
from embstore.encodings.plain import Plain
from embstore.errors import FormatError
from embstore.formats.gguf.header import MAGIC, Tensor
from embstore.formats.gguf.parts import PATTERNS, find_tensors, main_file
from embstore.formats.names import listing, nearest, quoted
from embstore.formats.options import OPAQUE
from embstore.formats.own import spec
from embstore.table.extents import Column, Extent
from embstore.table.listed import ListedTable
from embstore.table.numbering import Numbering
from embstore.table.tables import Table
from embstore.wording import option, shape_text

if TYPE_CHECKING:
    from embstore.encodings.ggml_types import Block
    from embstore.table.protocols import Encoding, Files

__all__ = ["PATTERNS", "describe", "main_file", "matches", "tables"]

# The version follows, in one byte order or the other; it tells the file from a word in a text.
_START = re.compile(MAGIC + rb"(?:..\0\0|\0\0..)", re.DOTALL)
# The types whose rows are numbers as they are.
_PLAIN = {row.safetensors: row for row in DTYPES.values()}


def matches(start: bytes, name: str) -> bool:  # Every format has this signature.
    """Return whether a file with these first bytes is a GGUF file."""
    return _START.match(start) is not None


def describe(
    files: Files, name: str, *, tensor: str | None = None, encoding: str | None = None
) -> Table:
    """Return the table of a tensor.

    Parameters
    ----------
    files : Files
        The files of its directory.
    name : str
        The model's file, or any part.
    tensor : str, optional
        Name of the tensor; not needed if there is only one with two dimensions.
    encoding : str, optional
        ``"opaque"`` for rows of bytes. Others are refused: the header tells the type of a tensor.

    Raises
    ------
    StoreCorruptError
        If a header is wrong, a file is shorter than its tensors, or a part is missing.
    FormatError
        If the tensor is missing or not named, or its rows cannot be read in place.
    """
    place = files.where(name)
    if encoding not in (None, OPAQUE):
        raise FormatError(
            f"{place} is a GGUF file, whose header tells the types of its tensors; leave out "
            f"{option('encoding', encoding)}, or give {option('encoding', 'opaque')} for rows of "
            "bytes"
        )
    tensors = find_tensors(files, name)
    tensor = _choose(place, tensor, {name: entry for name, (_, entry) in tensors.items()})
    file, entry = tensors[tensor]
    where = f"{files.where(file)}: the tensor {quoted(tensor)}"
    if not entry.shape:
        raise FormatError(f"{where} has shape (); a table needs rows, so shape (rows, ...)")
    described = _encoding(where, entry, opaque=encoding == OPAQUE)
    if not described.record_bytes:
        raise FormatError(f"{where} has rows of shape {entry.shape[1:]}, without numbers")
    if described.record_bytes > spec.MAX_ROW_BYTES:
        raise FormatError(
            f"{where}: a row takes {described.record_bytes} bytes, more than the "
            f"{spec.MAX_ROW_BYTES} that a table can hold"
        )
    rows = entry.shape[0]
    column = Column((Extent(file, entry.offset, rows),), described.record_bytes)
    return Table((column,), described, Numbering(rows), (("tensor", tensor),))


def tables(files: Files, name: str) -> list[ListedTable]:
    """Return the tables that `describe` could return; its parameters and errors."""
    return [
        ListedTable(tensor, entry.shape, _dtype_name(entry.block), 1, entry.size_bytes or 0)
        for tensor, (_, entry) in find_tensors(files, name).items()
        if could_be_table(entry)
    ]


def could_be_table(tensor: Tensor) -> bool:
    """Return whether a tensor has the shape of a table, and a known type."""
    return len(tensor.shape) == 2 and tensor.block is not None


def _choose(place: str, name: str | None, tensors: dict[str, Tensor]) -> str:
    """Return the tensor that was asked for, or the only one that could be a table."""
    found = [other for other, entry in tensors.items() if could_be_table(entry)]
    found.sort(key=lambda other: -tensors[other].shape[0])
    if name is None:
        if len(found) == 1:
            return found[0]
        raise FormatError(
            f"{place} has {len(found)} tensors that could be a table"
            f"{f': {listing(found)}' if found else ''}; name the one to read "
            f"({option('tensor')})"
        )
    if name not in tensors:
        near = nearest(name, list(tensors))
        more = f". The nearest names: {listing(near)}" if near else ""
        raise FormatError(
            f"{place} has no tensor {quoted(name)}; it has: "
            f"{listing(found) or 'none that could be a table'}{more}"
        )
    return name


def _dtype_name(block: Block | None) -> str:
    """Return the name of a type: that of its dtype, or else ggml's."""
    if block is None:
        return ""
    return _PLAIN[block.name].name if block.values == 1 else block.name


def _encoding(where: str, tensor: Tensor, *, opaque: bool) -> Encoding:
    """Return the encoding of a tensor's rows."""
    block, row_shape = tensor.block, tensor.shape[1:]
    if block is None:
        raise FormatError(
            f"{where} has the type {tensor.type}, whose rows have an unknown size; a newer "
            "embstore may know it"
        )
    is_plain = block.values == 1
    if is_plain and not opaque:
        return Plain(_PLAIN[block.name].numpy, row_shape)
    if not row_shape and not is_plain:
        raise FormatError(
            f"{where} has shape {shape_text(tensor.shape)} and type {block.name}, whose numbers "
            f"stand in blocks of {block.values}; a table needs rows, so shape (rows, width)"
        )
    if block.name in UNPACK and not opaque:
        return GgufBlocks(block.name, row_shape)
    return Opaque(block.name, math.prod(row_shape) // block.values * block.bytes)
