"""Scaled codes: numbers of 8 or 4 bits, times a scale.

A number of a row is ``(code - zero point) * scale``, computed in float32. A scale applies to the
whole table, or to a group of consecutive values of a row. The latter stand in records: in those of
a column of their own, or behind the codes in the codes' column (`Scaled.joined`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.encodings.codes import CODES
from embstore.encodings.decoder import make_decoder
from embstore.encodings.groups import SCALE_DTYPES, ZERO_DTYPES, Groups, apply, reduce_groups
from embstore.encodings.rounding import choose_scales, holds, largest, to_codes
from embstore.errors import RowError

__all__ = ["Groups", "Scaled"]

_LARGEST = float(np.finfo(np.float32).max)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.encodings.decoder import Decoder


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

    Raises
    ------
    ValueError
        If a name is unknown, groups do not fit the row, or a number is out of the range of float32.

    Examples
    --------
    >>> encoding = Scaled("int8", (2,), scales=Groups("float32", 1, 2), joined=True)
    >>> record = np.array([[3, 255, 0, 0, 0, 63]], np.uint8)  # 3 and -1, and the scale 0.5.
    >>> row = np.empty((1, 2), np.float32)
    >>> encoding.decode((record,), row)
    >>> row.tolist()
    [[1.5, -0.5]]
    """

    codes: str
    row_shape: tuple[int, ...]
    factor: float = 1.0
    scales: Groups | None = None
    zero: float = 0.0
    zero_points: Groups | None = None
    joined: bool = False
    _decoders: dict[np.dtype[Any], tuple[Decoder, tuple[slice, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.codes not in CODES:
            raise ValueError(f"the codes are {self.codes!r}; expected one of {', '.join(CODES)}")
        if self.zero and self.zero_points is not None:
            raise ValueError(f"there is a zero point of the table, {self.zero}, and one of groups")
        for key, number in (("factor", self.factor), ("zero point", self.zero)):
            if math.isfinite(number) and abs(number) > _LARGEST:
                raise ValueError(f"the {key} of the table is {number}; no float32 is as large")
        for groups, dtypes in ((self.scales, SCALE_DTYPES), (self.zero_points, ZERO_DTYPES)):
            if groups is None:
                continue
            if groups.dtype not in dtypes:
                raise ValueError(f"the dtype is {groups.dtype!r}; expected {', '.join(dtypes)}")
            if groups.count != -(-self.values // groups.values):
                raise ValueError(
                    f"{groups.count} groups of {groups.values} values do not fit a row of "
                    f"{self.values}"
                )

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
        """Fill ``out`` with rows; see `embstore.table.protocols.Encoding`.

        Parameters
        ----------
        records : tuple of ndarray of uint8, each of shape (n, bytes)
            The columns. Rows may lie apart; the bytes of a row are adjacent.
        out : ndarray, shape (n, *row_shape), C-contiguous
            Of float32, float16, bfloat16 or float64. Numbers are computed in float32 and, for
            another dtype, rounded to it at the end: to the nearest, ties to even, and to infinity
            beyond its range. So float64 has the numbers of float32.
        """
        bound = self._decoders.get(out.dtype)
        if bound is None:
            bound = self._decoders[out.dtype] = self._bind(out.dtype)
        decoder, cuts = bound
        if cuts:
            records = tuple([records[0][:, cut] for cut in cuts])
        decoder(records, out if out.ndim == 2 else out.reshape(len(out), self.values))

    def _bind(self, dtype: np.dtype[Any]) -> tuple[Decoder, tuple[slice, ...]]:
        """Return a decoder into a dtype, and where the fields of a joined record are."""
        decoder = make_decoder(
            self.codes,
            self.values,
            dtype,
            zero=self.zero,
            factor=self.factor,
            scales=self.scales,
            points=self.zero_points,
        )
        sizes = self.field_bytes
        if not self.joined or len(sizes) == 1:
            return decoder, ()
        stops = tuple(accumulate(sizes))
        return decoder, tuple(map(slice, (0, *stops), stops))

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the decoders, whose tables are large.
        given = (field.name for field in fields(self) if field.init)
        return type(self), tuple(getattr(self, name) for name in given)

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the joined records of rows.

        A group's scale is chosen for its largest number, and its codes for the scale as stored; see
        `embstore.encodings.rounding`. A group of zeros has the scale 1. ``nan`` and ``inf`` are
        kept where the codes have them: ``nan`` in all formats of float8, ``inf`` in float8_e5m2.

        Parameters
        ----------
        rows : ndarray of float32, shape (n, *row_shape)

        Returns
        -------
        ndarray of uint8, shape (n, record_bytes)

        Raises
        ------
        RowError
            If a number is nan or inf, and the codes have none.
        ValueError
            If the encoding is not one of `embstore.encodings.named`: joined, with scales of groups,
            without a factor or zero points.
        """
        scales = self.scales
        if not self.joined or scales is None or self.factor != 1 or self.zero or self.zero_points:
            raise ValueError(
                f"rows cannot be encoded as this kind of {self.name}; they need a scale for each "
                "group, in the record, and no zero point or factor"
            )
        rows = rows.reshape(len(rows), self.values)
        magnitudes = np.abs(rows)
        peaks = reduce_groups(np.maximum, magnitudes, scales.values)
        if not np.isfinite(peaks).all():
            self._refuse(rows)
            magnitudes[~np.isfinite(magnitudes)] = 0
            peaks = reduce_groups(np.maximum, magnitudes, scales.values)
        stored, numbers_of_groups = choose_scales(scales.dtype, peaks, largest(self.codes))
        quotients = magnitudes  # Its memory.
        with np.errstate(invalid="ignore"):
            apply(np.divide, rows, numbers_of_groups, scales.values, quotients)
        return np.hstack([to_codes(self.codes, quotients), stored.view(np.uint8)])

    def _refuse(self, rows: NDArray[np.float32]) -> None:
        """Raise RowError for the first row with a number that the codes do not have."""
        for test, has in zip((np.isnan, np.isinf), holds(self.codes), strict=True):
            bad = test(rows).any(axis=1)
            if not has and bad.any():
                row = int(bad.argmax())
                value = rows[row][test(rows[row])][0]
                raise RowError(
                    f"the value {value} has no code in {self.codes}; remove it, or choose another "
                    "encoding: all float8 formats have nan, float8_e5m2 has inf",
                    row,
                )
