"""Decoders of scaled codes into one dtype, with everything bound that is the same in each call.

1. With one scale for the whole table, a number depends on its code alone. A table of pairs has it
   in the dtype of the result, and decoding is one `take`.
2. Otherwise codes become float32, by such a table or by NumPy's cast of integers; zero points are
   subtracted, scales multiplied, in place; a result of another dtype is cast at the end.

Rows are decoded in pieces that stay in the processor's cache over these passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from embstore.encodings.groups import apply
from embstore.encodings.pairs import pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.encodings.groups import Groups

# Numbers of a piece: 128 KiB of float32.
PIECE_VALUES: Final = 1 << 15

_FLOAT32: Final = np.dtype(np.float32)


class Decoder(Protocol):
    """Decodes fields, as columns of their own."""

    def __call__(self, fields: Sequence[NDArray[np.uint8]], out: NDArray[Any]) -> None:
        """Fill ``out``, shape (n, values), with the numbers of n rows."""
        ...


class TableDecoder:
    """The decoder of codes with one scale and one zero point for the table."""

    __slots__ = ("_pairs", "_piece_rows", "_values")

    def __init__(
        self, codes: str, values: int, dtype: np.dtype[Any], zero: float, factor: float
    ) -> None:
        self._pairs = pairs(codes, dtype, zero, factor)
        self._values = values
        self._piece_rows = max(PIECE_VALUES // max(values, 1), 1)

    def __call__(self, fields: Sequence[NDArray[np.uint8]], out: NDArray[Any]) -> None:
        """Fill ``out``; see `Decoder`."""
        codes = fields[0]
        step = self._piece_rows
        if self._pairs.packed and self._values & 1:
            for first in range(0, len(out), step):
                piece = codes[first : first + step]
                padded = np.empty((len(piece), self._values + 1), out.dtype)
                self._pairs.fill(piece, padded)
                out[first : first + step] = padded[:, :-1]
        elif len(out) <= step:
            self._pairs.fill(codes, out)
        else:
            for first in range(0, len(out), step):
                self._pairs.fill(codes[first : first + step], out[first : first + step])


class GroupDecoder:
    """The decoder of codes with scales or zero points of groups."""

    __slots__ = ("_factor", "_integers", "_pairs", "_piece_rows", "_points", "_scales", "_values")

    def __init__(
        self,
        codes: str,
        values: int,
        zero: float,
        factor: float,
        scales: Groups | None,
        points: Groups | None,
    ) -> None:
        self._integers = np.dtype(codes) if codes in {"int8", "uint8"} and not zero else None
        self._pairs = None if self._integers is not None else pairs(codes, _FLOAT32, zero)
        self._values = values
        self._factor = np.float32(factor)
        self._scales = scales
        self._points = points
        self._piece_rows = max(PIECE_VALUES // max(values, 1), 1)

    def __call__(self, fields: Sequence[NDArray[np.uint8]], out: NDArray[Any]) -> None:
        """Fill ``out``; see `Decoder`."""
        step = self._piece_rows
        with np.errstate(over="ignore", invalid="ignore"):
            if len(out) <= step:
                self._decode(fields, out)
                return
            for first in range(0, len(out), step):
                piece = slice(first, first + step)
                self._decode([field[piece] for field in fields], out[piece])

    def _decode(self, fields: Sequence[NDArray[np.uint8]], out: NDArray[Any]) -> None:
        values = self._values
        rows = out if out.dtype == _FLOAT32 else np.empty(out.shape, np.float32)
        codes = fields[0]
        if self._integers is not None:
            rows[...] = codes.view(self._integers)
        elif self._pairs is not None:
            if self._pairs.packed and values & 1:
                padded = np.empty((len(rows), values + 1), np.float32)
                self._pairs.fill(codes, padded)
                rows[...] = padded[:, :-1]
            else:
                self._pairs.fill(codes, rows)
        if self._points is not None:
            apply(np.subtract, rows, self._points.read(fields[-1]), self._points.values)
        if self._scales is not None:
            scales = self._scales.read(fields[1])
            if self._factor != 1:
                scales *= self._factor
            apply(np.multiply, rows, scales, self._scales.values)
        elif self._factor != 1:
            rows *= self._factor
        if rows is not out:
            out[...] = rows


def make_decoder(
    codes: str,
    values: int,
    dtype: np.dtype[Any],
    *,
    zero: float,
    factor: float,
    scales: Groups | None,
    points: Groups | None,
) -> Decoder:
    """Return the decoder of codes with these scales and zero points into a dtype.

    Parameters
    ----------
    codes : str
        Format of the codes.
    values : int
        Numbers in a row.
    dtype : numpy.dtype
        Dtype of the result.
    zero, factor : float
        Zero point and scale of the table.
    scales, points : Groups or None
        Scales and zero points of groups; the fields of a row are codes, scales, points.
    """
    if scales is None and points is None:
        return TableDecoder(codes, values, dtype, zero, factor)
    return GroupDecoder(codes, values, zero, factor, scales, points)
