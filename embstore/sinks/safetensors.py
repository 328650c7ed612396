"""Safetensors: one tensor of the rows, or of their codes, and beside it that of the scales.

A tensor has the dtype of the table, bfloat16 and float8 included. Encoded rows are not decoded: the
tensor ``weight`` has the codes, ``weight_scale`` the scales, shape ``[rows, groups]``, or ``[1]``
if there is one for the table, and ``weight_zero_point`` the zero points. Of rows of several axes,
the groups divide the last one: codes of shape ``[rows, 4, 64]`` have scales of ``[rows, 4, 2]``.
`embstore.open` finds the scales by that name. Codes of 4 bits are bytes of two, U8.

The largest numbers stand first, so that every tensor is aligned to its dtype; the header is padded
to a multiple of 8 bytes. The format is specified in the README of the safetensors library.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import DTYPES, as_dtype, storage_dtype
from embstore.encodings.codes import CODES
from embstore.encodings.opaque import Opaque
from embstore.encodings.scaled import Scaled
from embstore.errors import ExportError
from embstore.wording import option, shape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embstore.encodings.groups import Groups
    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

TENSOR = "weight"
_SIZE_BYTES = 8
_METADATA = {"format": "pt"}  # Loaders of models expect it.


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor to write.

    Attributes
    ----------
    name : str
        Its name.
    dtype : str
        Name of its dtype in `DTYPES`.
    shape : tuple of int
        Its shape, rows first, if each row has some of it.
    take : callable, optional
        Returns the numbers of some rows; None for one number of the whole table.
    number : float
        That number.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    take: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    number: float = 0.0

    @property
    def item_bytes(self) -> int:
        """Size of a number."""
        return np.dtype(DTYPES[self.dtype].stored).itemsize

    @property
    def size_bytes(self) -> int:
        """Size of all numbers."""
        return math.prod(self.shape) * self.item_bytes


def write_safetensors(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write the header, and the tensors of each block, each in its place."""
    parts = sorted(_parts(table), key=lambda part: -part.item_bytes)
    header: dict[str, Any] = {"__metadata__": _METADATA}
    starts: list[int] = []
    end = 0
    for part in parts:
        starts.append(end)
        end += part.size_bytes
        header[part.name] = {
            "dtype": DTYPES[part.dtype].safetensors,
            "shape": list(part.shape),
            "data_offsets": [starts[-1], end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _SIZE_BYTES)
    file.write(len(text).to_bytes(_SIZE_BYTES, "little") + text)
    first = _SIZE_BYTES + len(text)
    if len(parts) > 1 and not file.seekable():
        raise ExportError(
            f"the codes and the scales of {table.rows} rows are written side by side, which a pipe "
            "does not take; export to a file"
        )
    for part, start in zip(parts, starts, strict=True):
        if part.take is None:
            file.seek(first + start)
            file.write(np.array([part.number], DTYPES[part.dtype].stored).data)
    for block in blocks:
        for part, start in zip(parts, starts, strict=True):
            if part.take is not None:
                if len(parts) > 1:
                    file.seek(first + start + block.start * part.size_bytes // max(table.rows, 1))
                file.write(_little(part.take(block.rows)))
    if len(parts) > 1:
        file.seek(first + end)


def _little(numbers: NDArray[Any]) -> memoryview:
    """Return the bytes of numbers, little endian, in C order."""
    stored = storage_dtype(numbers.dtype)
    plain = np.ascontiguousarray(numbers).view(stored) if stored != numbers.dtype else numbers
    whole = np.ascontiguousarray(plain, stored.newbyteorder("<"))
    return whole.reshape(-1).view(np.uint8).data


def _parts(table: TableFacts) -> list[_Part]:
    """Return the tensors of a table.

    Raises
    ------
    ExportError
        If the format has no dtype for its encoding.
    """
    shape = (table.rows, *table.row_shape)
    encoding = table.encoding
    if encoding is None or isinstance(encoding, Opaque):
        return [_Part(TENSOR, table.dtype.name, shape, lambda rows: rows)]
    if not isinstance(encoding, Scaled):
        raise ExportError(
            f"the rows are {encoding.name}, for which safetensors has no dtype; pass "
            f"{option('dtype', 'float32')} to decode them"
        )
    codes, scales, zero_points = _fields(encoding)
    packed = CODES[encoding.codes].bits == 4
    if packed:
        if not table.row_shape or table.row_shape[-1] % 2:
            raise ExportError(
                f"rows of shape {shape_text(table.row_shape)} have an odd number of "
                f"{encoding.codes}, two of which are a byte; pass {option('dtype', 'float32')} to "
                "decode them"
            )
        shape = (*shape[:-1], shape[-1] // 2)
    parts = [_Part(TENSOR, "uint8" if packed else encoding.codes, shape, codes)]
    if encoding.scales is not None:
        dtype = encoding.scales.dtype if encoding.factor == 1 else "float32"
        size = (table.rows, *_groups_shape(encoding, encoding.scales))
        parts.append(_Part(f"{TENSOR}_scale", dtype, size, scales))
    else:
        parts.append(_Part(f"{TENSOR}_scale", "float32", (1,), number=encoding.factor))
    if encoding.zero_points is not None:
        size = (table.rows, *_groups_shape(encoding, encoding.zero_points))
        part = _Part(f"{TENSOR}_zero_point", encoding.zero_points.dtype, size, zero_points)
        parts.append(part)
    elif encoding.zero:
        parts.append(_Part(f"{TENSOR}_zero_point", "float32", (1,), number=encoding.zero))
    return parts


def _groups_shape(encoding: Scaled, groups: Groups) -> tuple[int, ...]:
    """Return the shape of a row's scales or zero points, as `embstore.open` reads it.

    Raises
    ------
    ExportError
        If groups do not divide the last of several axes.
    """
    *leading, last = encoding.row_shape or (1,)
    if not leading or groups.count == 1:
        return (groups.count,)
    if last % groups.values:
        raise ExportError(
            f"groups of {groups.values} values do not divide the last axis of rows of shape "
            f"{shape_text(encoding.row_shape)}; pass {option('dtype', 'float32')} to decode them"
        )
    return (*leading, last // groups.values)


def _fields(encoding: Scaled) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], ...]:
    """Return functions that take the codes, scales and zero points out of records."""
    sizes = encoding.field_bytes
    first = sizes[0] + (encoding.scales.record_bytes if encoding.scales is not None else 0)

    def codes(records: NDArray[Any]) -> NDArray[Any]:
        return records[:, : sizes[0]]

    def scales(records: NDArray[Any]) -> NDArray[Any]:
        assert encoding.scales is not None
        field = np.ascontiguousarray(records[:, sizes[0] : first])
        if encoding.factor == 1:
            return field.view(as_dtype(encoding.scales.dtype))
        # In float32, as a decoder multiplies them.
        return encoding.scales.read(field) * np.float32(encoding.factor)

    def zero_points(records: NDArray[Any]) -> NDArray[Any]:
        assert encoding.zero_points is not None
        field = np.ascontiguousarray(records[:, first:])
        return field.view(as_dtype(encoding.zero_points.dtype))

    return codes, scales, zero_points
