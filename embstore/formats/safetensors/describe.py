"""Tables of ``.safetensors`` files: one file, several with an index, or all in a directory.

1. The tensor that was asked for, or the only one that can be a table, is found in the headers; so
   are the parts of a table that is in several tensors.
2. Its dtype, or ``encoding``, says what its rows hold; its scales and zero points are found.
3. Plain numbers become one column. So do codes, with a column for the scales and one for the zero
   points unless they are one number.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from embstore.dtypes import as_dtype
from embstore.encodings.codes import CODES
from embstore.encodings.opaque import Opaque
from embstore.encodings.plain import Plain
from embstore.encodings.scaled import Scaled
from embstore.errors import FormatError
from embstore.formats.empty import empty_table
from embstore.formats.names import quoted
from embstore.formats.options import AUTO, OPAQUE
from embstore.formats.own import spec
from embstore.formats.safetensors.catalog import Catalog
from embstore.formats.safetensors.index import PATTERNS, main_file, matches
from embstore.formats.safetensors.listed import choose_table, listed_tables
from embstore.formats.safetensors.numbers import (
    check_known,
    is_numeric,
    may_have_scale,
    name_of,
    numbers_of,
    record_bytes,
)
from embstore.formats.safetensors.parts import Parts, find_parts
from embstore.formats.safetensors.scales import (
    find_scale,
    find_second_scale,
    make_field,
    merged,
    named,
)
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.tables import Table
from embstore.wording import option, shape_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embstore.table.listed import ListedTable
    from embstore.table.protocols import Encoding, Files

__all__ = ["PATTERNS", "describe", "locate", "main_file", "matches", "tables"]


def describe(
    files: Files,
    name: str,
    *,
    tensor: str | None = None,
    scale: str | None = AUTO,
    scale_block: tuple[int, int] | None = None,
    encoding: str | None = None,
    zero_point: str | None = None,
) -> Table:
    """Return the table of a tensor, or of the tensors of a pattern.

    Parameters
    ----------
    files : Files
        The files of its directory.
    name : str
        A ``.safetensors`` file, or an index of several; ``""`` for all files of the directory.
    tensor, scale, scale_block, encoding, zero_point
        The options of `embstore.open`.

    Raises
    ------
    StoreCorruptError
        If a header or an index is wrong, a file is shorter than its tensors, or bytes in it belong
        to no tensor or to several.
    FormatError
        If the tensor is missing or not named, rows cannot be read in place, or it is in doubt how
        they are to be read.
    """
    catalog = Catalog(files, name)
    parts = find_parts(catalog, choose_table(catalog) if tensor is None else tensor)
    where = f"{catalog.where}: the tensor {quoted(parts.name)}"
    asked: dict[str, object] = {
        "scale": None if scale == AUTO else scale,
        "zero_point": zero_point,
        "scale_block": scale_block,
    }
    dtype = parts.first.dtype
    fields: dict[str, Parts] = {}
    if encoding == OPAQUE or (encoding is None and not is_numeric(dtype)):
        if encoding is None:
            check_known(parts.first, where)
        _refuse(where, "is opened as rows of bytes", asked)
        size = record_bytes(parts.first, where)
        table = _table(where, parts, size, Opaque(dtype, max(size, 1)))
    elif encoding is None and not may_have_scale(dtype):
        _refuse(where, f"holds {name_of(dtype)} and not codes", asked)
        size = record_bytes(parts.first, where)
        table = _table(where, parts, size, Plain(as_dtype(name_of(dtype)), parts.first.shape[1:]))
    else:
        table, fields = _coded(catalog, where, parts, scale, scale_block, encoding, zero_point)
    facts = {"tensor": parts.name} if tensor is not None or len(catalog.names) > 1 else {}
    facts |= {"encoding": encoding} if encoding is not None else {}
    facts |= {option: field.name for option, field in fields.items()}
    files_read = {part.file for field in fields.values() for part in field.tensors.values()}
    return replace(table, source=tuple(facts.items()), files=tuple(sorted(files_read)))


def tables(files: Files, name: str) -> list[ListedTable]:
    """Return the tables that `describe` could return; its parameters and errors."""
    return listed_tables(Catalog(files, name))


def locate(files: Files, name: str, tensor: str | None) -> tuple[str, str]:
    """Return the file of a table, ``""`` for several, and the name of its tensor or pattern.

    The parameters and errors are those of `describe`.
    """
    catalog = Catalog(files, name)
    parts = find_parts(catalog, choose_table(catalog) if tensor is None else tensor)
    found = {part.file for part in parts.tensors.values()}
    return found.pop() if len(found) == 1 else "", parts.name


def _coded(
    catalog: Catalog,
    where: str,
    parts: Parts,
    scale: str | None,
    scale_block: tuple[int, int] | None,
    encoding: str | None,
    zero_point: str | None,
) -> tuple[Table, dict[str, Parts]]:
    """Return the table of a tensor of codes, and the tensors of its scales and zero points."""
    found = find_scale(catalog, parts, scale, zero_point)
    scale_dtype = None if found is None else found.first.dtype
    numbers = numbers_of(parts.first, where, encoding, scale_dtype)
    codes, row_shape, size = numbers.codes, numbers.row_shape, numbers.record_bytes
    made: Encoding
    if found is None or codes is None:
        given = {"zero_point": zero_point, "scale_block": scale_block}
        _refuse(where, "has no scale", given)
        if codes is None or CODES[codes].bits == 8:
            name = name_of(parts.first.dtype) if codes is None else codes
            made = Plain(as_dtype(name), row_shape)
        else:
            made = Scaled(codes, row_shape)
        return _table(where, parts, size, made), {}
    fields = {"scale": found}
    scales = make_field(catalog, "scale", parts, row_shape, found, scale_block)
    factor = 1.0 if scales.factor is None else scales.factor
    if scale == AUTO and (second := find_second_scale(catalog, found)) is not None:
        fields["second_scale"], number = second
        factor *= number
    zeros = None
    if zero_point is not None:
        fields["zero_point"] = named(catalog, parts, zero_point, "zero_point")
        block = scale_block if scales.blocks is None else (scales.blocks.rows, scales.blocks.values)
        zeros = make_field(catalog, "zero_point", parts, row_shape, fields["zero_point"], block)
    zero = 0.0 if zeros is None or zeros.factor is None else zeros.factor
    points = None if zeros is None else zeros.groups
    try:
        made = Scaled(codes, row_shape, factor, scales.groups, zero, points)
    except ValueError as error:  # A number that float32 does not have.
        raise FormatError(f"{where}: {error}") from error
    columns = [field.column for field in (scales, zeros) if field is not None and field.column]
    return _table(where, parts, size, made, *columns), fields


def _refuse(where: str, what: str, options: Mapping[str, object]) -> None:
    """Refuse options that were given in vain."""
    for name, value in options.items():
        if value is not None:
            raise FormatError(f"{where} {what}, so leave out {option(name, value)}")


def _table(where: str, parts: Parts, size: int, encoding: Encoding, *beside: Column) -> Table:
    """Return a table of records of some size, after checking it."""
    row_bytes = math.prod(encoding.row_shape) * encoding.dtype.itemsize
    if not size and isinstance(encoding, Plain):
        return empty_table(where, parts.rows, encoding)
    if not size or not row_bytes:
        raise FormatError(
            f"{where}: rows of shape {shape_text(encoding.row_shape)} have no numbers"
        )
    if max(size, row_bytes) > spec.MAX_ROW_BYTES:
        raise FormatError(
            f"{where}: a row takes {max(size, row_bytes)} bytes, more than the "
            f"{spec.MAX_ROW_BYTES} that a table can hold"
        )
    extents = [
        Extent(tensor.file, tensor.offset, tensor.shape[0]) for tensor in parts.tensors.values()
    ]
    column = Column(merged(extents, size) or (extents[0],), size)
    return Table((column, *beside), encoding, Numbering(parts.rows))
