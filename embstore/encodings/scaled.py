"""Scaled codes: numbers of 8 or 4 bits, times a scale.

A number of a row is ``(code - zero point) * scale``, computed in float32. A scale applies to the
whole table, or to a group of consecutive values of a row. The latter stand in records: in those of
a column of their own, or behind the codes in the codes' column (`Scaled.joined`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import as_dtype
from embstore.encodings.codes import CODES, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Groups:
    """Scales or zero points of a row, one for each group of consecutive values.

    Parameters
    ----------
    dtype : str
        Their dtype: "float32", "float16", "bfloat16", "float8_e8m0fnu", "float8_e4m3fn"; of zero
        points also an integer dtype.
    count : int
        Groups in a row.
    values : int
        Values in a group; the last one of a row may have fewer.
    """

    dtype: str
    count: int
    values: int

    @property
    def record_bytes(self) -> int:
        """Size of a row's scales."""
        return self.count * as_dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Scaled:
    """The encoding of codes with scales.

    Its columns are the codes; the scales, if ``scales`` is given; the zero points, if
    ``zero_points`` is given. If ``joined``, there is one column, and a record has these one after
    the other.

    Parameters
    ----------
    codes : str
        Format of the codes, a name of `embstore.encodings.codes.CODES`.
    row_shape : tuple of int
        Shape of a row.
    factor : float
        A scale of the whole table; multiplies ``scales``, too.
    scales : Groups, optional
        The scales of a row.
    zero : float
        A zero point of the whole table.
    zero_points : Groups, optional
        The zero points of a row; then ``zero`` is 0.
    joined : bool
        Whether all fields of a row are one record.
    """

    codes: str
    row_shape: tuple[int, ...]
    factor: float = 1.0
    scales: Groups | None = None
    zero: float = 0.0
    zero_points: Groups | None = None
    joined: bool = False

    @property
    def name(self) -> str:
        """Name of the encoding: that of the codes, and the values in a group if not a whole row."""
        if self.scales is None or self.scales.count == 1:
            return self.codes
        return f"{self.codes}:{self.scales.values}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of decoded rows: float32."""
        return np.dtype(np.float32)

    @property
    def values(self) -> int:
        """Numbers in a row."""
        return math.prod(self.row_shape)

    @property
    def field_bytes(self) -> tuple[int, ...]:
        """Size of each field of a row: codes, scales, zero points."""
        groups = [group for group in (self.scales, self.zero_points) if group is not None]
        return (
            CODES[self.codes].record_bytes(self.values),
            *(group.record_bytes for group in groups),
        )

    @property
    def record_bytes(self) -> int:
        """Bytes of a row in all columns."""
        return sum(self.field_bytes)

    def decode(self, records: tuple[NDArray[np.uint8], ...], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows; see `embstore.table.protocols.Encoding`."""
        fields = iter(self._split(records))
        codes = next(fields)
        if CODES[self.codes].bits == 4:
            codes = np.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1)
        rows = numbers(self.codes)[codes[:, : self.values]]
        scale: Any = np.float32(self.factor)
        if self.scales is not None:
            scale = self._spread(next(fields), self.scales) * scale
        if self.zero_points is not None:
            rows -= self._spread(next(fields), self.zero_points)
        elif self.zero:
            rows -= np.float32(self.zero)
        with np.errstate(over="ignore", invalid="ignore"):
            out[...] = (rows * scale).reshape(out.shape)

    def _split(self, records: tuple[NDArray[np.uint8], ...]) -> tuple[NDArray[np.uint8], ...]:
        if not self.joined:
            return records
        stops = np.cumsum(self.field_bytes)[:-1]
        return tuple(np.split(records[0], stops, axis=1))

    def _spread(self, field: NDArray[np.uint8], groups: Groups) -> NDArray[np.float32]:
        few = np.ascontiguousarray(field).view(as_dtype(groups.dtype)).astype(np.float32)
        return np.repeat(few, groups.values, axis=1)[:, : self.values]
