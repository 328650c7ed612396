"""Decoders of scaled codes into one dtype, with everything bound that is the same in each call.

1. With one scale for the whole table, a number depends on its code alone. A table of pairs has it
   in the dtype of the result, and decoding is one `take`.
2. Otherwise codes become float32, by such a table or by NumPy's cast of integers; zero points are
   subtracted, in place; the products with the scales are cast to the dtype of the result.

Rows are decoded in pieces that stay in the processor's cache over these passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embstore.encodings.groups import apply
from embstore.encodings.pairs import pairs
from embstore.encodings.scratch import borrow, give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.encodings.groups import Groups
    from embstore.encodings.pairs import Fill

    # Called with the fields of n rows, each uint8 of shape (n, bytes), and an array to fill, of
    # shape (n, values).
    Decoder = Callable[[Sequence[NDArray[np.uint8]], NDArray[Any]], None]

# Numbers of a piece. Fewer would be a little faster on one thread, and several times slower on
# eight: after each call of NumPy, a thread waits for the GIL.
PIECE_VALUES: Final = 240 << 10

_FLOAT32: Final = np.dtype(np.float32)


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
        fill = pairs(codes, dtype, zero, factor).filler(values)
        rows = max(PIECE_VALUES // max(values, 1), 1)
        return _in_pieces(lambda fields, out: fill(fields[0], out), rows)
    if codes in {"int8", "uint8"} and not zero:
        fill = _filler_of_integers(np.dtype(codes))
    else:
        fill = pairs(codes, _FLOAT32, zero).filler(values)
    rows = max(PIECE_VALUES // max(values, 1), 1)
    return _in_pieces(_grouped(fill, np.float32(factor), scales, points), rows)


def _in_pieces(decode: Decoder, step: int) -> Decoder:
    """Return a decoder that passes at most ``step`` rows at a time to another."""

    def decode_all(fields: Sequence[NDArray[np.uint8]], out: NDArray[Any]) -> None:
        if len(out) <= step:
            decode(fields, out)
            return
        for first in range(0, len(out), step):
            piece = slice(first, first + step)
            decode([field[piece] for field in fields], out[piece])

    return decode_all


def _filler_of_integers(dtype: np.dtype[Any]) -> Fill:
    def fill(codes: NDArray[np.uint8], out: NDArray[Any]) -> None:
        out[...] = codes.view(dtype)

    return fill


def _grouped(
    fill: Fill, factor: np.float32, scales: Groups | None, points: Groups | None
) -> Decoder:
    """Return the decoder of codes with scales or zero points of groups."""

    # As a decorator, this costs half of what a block costs: 0.7 us.
    @np.errstate(over="ignore", invalid="ignore")
    def decode(fields: Sequence[NDArray[np.uint8]], out: NDArray[Any]) -> None:
        rows = out if out.dtype is _FLOAT32 else borrow(out.shape, _FLOAT32)
        fill(fields[0], rows)
        if points is not None:
            apply(np.subtract, rows, points.read(fields[-1]), points.values, rows)
        if scales is not None:
            few = scales.read(fields[1])
            if factor != 1:
                few = few * factor
            apply(np.multiply, rows, few, scales.values, rows)
        else:
            np.multiply(rows, factor, rows)
        if rows is not out:
            out[...] = rows
            give_back(rows)

    return decode
