"""Scales and zero points: the tensors beside a table's codes, as columns and factors.

1. A name that was given is that tensor, or with ``{}`` one for each part. ``"auto"`` looks for
   known names (`embstore.formats.safetensors.names`).
2. One number for the whole table is read when the table is opened. Parts that have a number each
   are a column with a record for each part.
3. Other scales are a column; `embstore.formats.safetensors.blocks` tells which rows share a record.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from embstore.dtypes import as_dtype
from embstore.encodings.scaled import Groups
from embstore.errors import FormatError
from embstore.formats.names import listing, quoted
from embstore.formats.options import AUTO
from embstore.formats.safetensors.blocks import Blocks, find_blocks
from embstore.formats.safetensors.header import BITS, Tensor
from embstore.formats.safetensors.names import KnownNames, known_names
from embstore.formats.safetensors.numbers import name_of
from embstore.formats.safetensors.parts import NUMBER, Parts, find_parts
from embstore.table.extents import Column, Extent
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.formats.safetensors.catalog import Catalog

_SCALE_DTYPES: Final = ("F32", "F16", "BF16", "F8_E8M0", "F8_E4M3")
_ZERO_DTYPES: Final = (*_SCALE_DTYPES, "I8", "U8", "I16", "U16", "I32")
_FACTOR_DTYPES: Final = ("F64",)  # Of one number only.


@dataclass(frozen=True, slots=True)
class Field:
    """The scales, or the zero points, of a table.

    Attributes
    ----------
    parts : Parts
        Their tensors.
    factor : float or None
        The number, if there is one for the whole table.
    groups : Groups or None
        The numbers of a row, if there are several.
    column : Column or None
        Where these are.
    blocks : Blocks or None
        Which rows and values share one.
    """

    parts: Parts
    factor: float | None = None
    groups: Groups | None = None
    column: Column | None = None
    blocks: Blocks | None = None


def find_scale(catalog: Catalog, table: Parts, scale: str | None, zero: str | None) -> Parts | None:
    """Return the tensors of a table's scales; None if there are none.

    Parameters
    ----------
    catalog : Catalog
        All tensors.
    table : Parts
        The table's tensors.
    scale, zero : str, optional
        The options ``scale`` and ``zero_point`` of `embstore.open`.

    Raises
    ------
    StoreCorruptError, FormatError
        As `find_parts`; if ``"auto"`` finds two, or what else is needed to decode the table.
    """
    if scale is None:
        return None
    if scale != AUTO:
        return named(catalog, table, scale, "scale")
    known = known_names(table.name)
    found = find_known(catalog, table, known.scales)
    if len(found) > 1:
        raise FormatError(
            f"{catalog.where}: {quoted(table.name)} may have one of several scales: "
            f"{listing(found)}; name the one to take with {option('scale')}, or give "
            f"{option('scale', None)} for none"
        )
    _refuse_others(catalog, table, known, zero)
    if not found:
        return None
    return named(catalog, table, found[0], "scale")


def find_known(catalog: Catalog, table: Parts, names: Iterable[str]) -> list[str]:
    """Return the names that tensors have, and the patterns that a part of the table has."""
    known, digits = catalog.names, table.digits
    return [
        name
        for name in names
        if name in known
        or (NUMBER in name and any(name.replace(NUMBER, one) in known for one in digits))
    ]


def find_second_scale(catalog: Catalog, scale: Parts) -> tuple[Parts, float] | None:
    """Return the scale of scales, such as ``x.weight_scale_2`` of ``x.weight_scale``.

    Raises
    ------
    FormatError
        If it is not one number.
    """
    name = f"{scale.name}_2"
    if not find_known(catalog, scale, [name]):
        return None
    parts = find_parts(catalog, name)
    factors = [_number(catalog, tensor, "scale") for tensor in parts.tensors.values()]
    factor = factors[0]
    if factor is None or len(set(map(repr, factors))) > 1:
        raise FormatError(
            f"{catalog.where}: {quoted(name)} scales {quoted(scale.name)}, but is not one number; "
            f"give {option('scale')} to leave it out"
        )
    return parts, factor


def named(catalog: Catalog, table: Parts, name: str, role: str) -> Parts:
    """Return the tensors that an option names, one for the table or one for each part.

    Raises
    ------
    StoreCorruptError, FormatError
        As `find_parts`; if there is not one for each part.
    """
    if name == table.name:
        raise FormatError(f"{option(role, name)} is the table itself; name another tensor")
    if NUMBER in name and not table.is_pattern and name not in catalog.names:
        raise FormatError(
            f"{option(role, name)} has {NUMBER}, but the tensor {quoted(table.name)} has not; "
            "name one tensor"
        )
    parts = find_parts(catalog, name)
    if parts.is_pattern and parts.tensors.keys() != table.tensors.keys():
        unequal = sorted(parts.tensors.keys() ^ table.tensors.keys())
        names = [
            (table.name if number in parts.tensors else name).replace(NUMBER, str(number))
            for number in unequal
        ]
        raise FormatError(
            f"{catalog.where}: {quoted(table.name)} and {quoted(name)} have different parts; "
            f"missing: {listing(names)}"
        )
    return parts


def _refuse_others(catalog: Catalog, table: Parts, known: KnownNames, zero: str | None) -> None:
    """Refuse a table beside which lies what else is needed to decode it."""
    others = [name for name in find_known(catalog, table, known.others) if name != zero]
    if zero is None and others:
        raise FormatError(
            f"{catalog.where}: beside {quoted(table.name)} lies {listing(others)}, which may be "
            "needed to decode it. If it is subtracted from the codes, give it as "
            f"{option('zero_point')}; to leave it out, name the scale with {option('scale')}, or "
            f"give {option('scale', None)} for none"
        )


def make_field(
    catalog: Catalog,
    role: str,
    table: Parts,
    width: tuple[int, ...],
    parts: Parts,
    block: tuple[int, int] | None,
) -> Field:
    """Return scales or zero points as a column, or as one number.

    Parameters
    ----------
    catalog : Catalog
        All tensors.
    role : {"scale", "zero_point"}
        What they are.
    table, parts : Parts
        The tensors of the table, and those of the scales or zero points.
    width : tuple of int
        Shape of a row of the table.
    block : tuple of two int, optional
        The rows and values of a block, where that is known.

    Raises
    ------
    FormatError
        If their dtype or shape does not fit.
    """
    allowed = _SCALE_DTYPES if role == "scale" else _ZERO_DTYPES
    dtype = parts.first.dtype
    numbers = [_number(catalog, tensor, role) for tensor in parts.tensors.values()]
    values = math.prod(width)
    is_whole = block is None or (table.rows <= block[0] and values <= block[1])
    if None not in numbers and (is_whole or role == "zero_point"):
        if len(set(map(repr, numbers))) == 1:  # By repr, so that nan equals nan.
            return Field(parts, numbers[0])
        if dtype in allowed:
            return _one_each(catalog, role, table, values, parts)
    if dtype not in allowed:
        raise FormatError(
            f"{catalog.where}: the {_words(role)} {quoted(parts.name)} has dtype {dtype}; "
            f"expected {', '.join(allowed)}"
        )
    blocks = _blocks(catalog, role, table, width, parts, block)
    groups = Groups(name_of(dtype), blocks.value_count, blocks.values)
    size = blocks.value_count * (BITS[dtype] // 8)
    extents = [
        Extent(tensor.file, tensor.offset, tensor.size_bytes // size)
        for tensor in parts.tensors.values()
    ]
    column = Column(merged(extents, size), size, max(blocks.rows, 1))
    return Field(parts, None, groups, column, blocks)


def _number(catalog: Catalog, tensor: Tensor, role: str) -> float | None:
    """Return the number of a tensor of one number; None for others."""
    if tensor.count != 1:
        return None
    if tensor.dtype not in (*_ZERO_DTYPES, *_FACTOR_DTYPES):
        raise FormatError(
            f"{catalog.where}: the {_words(role)} {quoted(tensor.name)} has dtype "
            f"{tensor.dtype}; expected {', '.join((*_SCALE_DTYPES, *_FACTOR_DTYPES))}"
        )
    data = catalog.files.read(tensor.file, tensor.offset, tensor.size_bytes)
    dtype = as_dtype(name_of(tensor.dtype))
    return float(np.frombuffer(data, dtype).astype(np.float64)[0])


def _one_each(catalog: Catalog, role: str, table: Parts, values: int, parts: Parts) -> Field:
    """Return the field of parts that have one number each: a record for each part."""
    rows, *_ = table.row_counts or [1]
    if any(count != rows for count in table.row_counts[:-1]) or table.row_counts[-1:] > [rows]:
        raise FormatError(
            f"{catalog.where}: each part of {quoted(table.name)} has a {_words(role)} of its own "
            f"({quoted(parts.name)}), but they have different numbers of rows: "
            f"{', '.join(map(str, table.row_counts[:20]))}; open them one by one"
        )
    size = BITS[parts.first.dtype] // 8
    extents = [
        Extent(tensor.file, tensor.offset, 1)
        for number, tensor in parts.tensors.items()
        if table.tensors[number].shape[0]
    ]
    column = Column(merged(extents, size), size, rows)
    groups = Groups(name_of(parts.first.dtype), 1, values)
    return Field(parts, None, groups, column, Blocks(rows, values, len(extents), 1))


def _blocks(
    catalog: Catalog,
    role: str,
    table: Parts,
    width: tuple[int, ...],
    parts: Parts,
    block: tuple[int, int] | None,
) -> Blocks:
    """Return the blocks of scales that are not one number for the table or for a part."""
    where = f"{catalog.where}: the {_words(role)} {quoted(parts.name)}"
    if not parts.is_pattern:
        tensor = parts.first
        what = f"{where}, {tensor.summary}, of {_table_text(table, width)}"
        shape, values = _flat(what, tensor.shape, width)
        found = find_blocks(what, table.rows, values, shape, block)
        if block is None and found.row_count > 1:
            _refuse_stacked(what, table, found)
        return found
    pairs: list[tuple[Tensor, Tensor]] = []
    for number, tensor in parts.tensors.items():
        part = table.tensors[number]
        if part.shape[0]:
            pairs.append((tensor, part))
        elif tensor.count:
            raise FormatError(
                f"{where}: {quoted(tensor.name)} is {tensor.summary}, but {quoted(part.name)} has "
                "no rows; expected a tensor without numbers, or one number"
            )
    first: Blocks | None = None
    for place, (tensor, part) in enumerate(pairs):
        what = f"{where}, {quoted(tensor.name)} {tensor.summary}, of {part.summary}"
        shape, values = _flat(what, tensor.shape, width)
        one = find_blocks(what, part.shape[0], values, shape, block)
        if first is None:
            first, block = one, (one.rows, one.values)
        elif one.value_count != first.value_count:
            raise FormatError(f"{what}: its groups are not those of the first part")
        if part.shape[0] % first.rows and place < len(pairs) - 1:
            raise FormatError(
                f"{what}: blocks of {first.rows} rows do not fill this part, and another one "
                "follows; open the parts one by one"
            )
    if first is None:  # No rows.
        shape, values = _flat(where, parts.first.shape, width)
        return find_blocks(where, 0, values, shape, block)
    return first


def _refuse_stacked(what: str, table: Parts, found: Blocks) -> None:
    """Refuse as many blocks of rows as there are parts, if the parts are other blocks."""
    counts = table.row_counts
    is_as_blocks = set(counts[:-1]) <= {found.rows} and counts[-1] <= found.rows
    if found.row_count in {len(counts), len(table.tensors)} and not is_as_blocks:
        raise FormatError(
            f"{what}: it is in doubt which rows share a scale. They may be the {found.row_count} "
            f"parts, of {', '.join(map(str, counts[:20]))} rows, or blocks of {found.rows} rows. "
            f"Give {option('scale_block', (found.rows, found.values))} for these, or open the "
            "parts one by one"
        )


def _flat(
    what: str, shape: tuple[int, ...], row_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    """Return the shape of scales and the number of values of a row, as if rows had one axis."""
    values = math.prod(row_shape)
    leading, last = row_shape[:-1], row_shape[-1] if row_shape else 1
    if not leading or all(length == 1 for length in shape[1:]):
        return shape, values
    groups = shape[-1]
    if shape[1:-1] != leading or not groups or last % groups:
        raise FormatError(
            f"{what}: expected one scale, one for each row, or groups that divide the {last} "
            "values of the last axis evenly"
        )
    return (shape[0], values // last * groups), values


def merged(extents: Iterable[Extent], record_bytes: int) -> tuple[Extent, ...]:
    """Return extents, those that follow each other in a file as one; without empty ones.

    Examples
    --------
    >>> merged([Extent("a", 8, 2), Extent("a", 16, 3), Extent("b", 8, 1)], 4)
    (Extent(file='a', offset=8, rows=5), Extent(file='b', offset=8, rows=1))
    """
    result: list[Extent] = []
    for extent in extents:
        before = result[-1] if result else None
        if not extent.rows:
            continue
        if (
            before is not None
            and before.file == extent.file
            and before.offset + before.rows * record_bytes == extent.offset
        ):
            result[-1] = Extent(before.file, before.offset, before.rows + extent.rows)
        else:
            result.append(extent)
    return tuple(result)


def _words(role: str) -> str:
    return role.replace("_", " ")


def _table_text(table: Parts, width: tuple[int, ...]) -> str:
    return f"{quoted(table.name)} with {table.rows} rows of {list(width)}"
