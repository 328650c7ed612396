"""Codes, scales and minima out of the blocks of quantised GGUF tensors.

A number of a block is ``code * scale``, where consecutive values share a scale. Some types subtract
a minimum from it, or add an offset. The layouts are those of ggml's ``ggml-quants.c``
(https://github.com/ggml-org/ggml).

1. The small codes of several values stand in one byte. They are taken apart eight bytes at a time,
   as lanes of an unsigned 64-bit integer: a shift, and a mask that drops what came from the
   neighbour.
2. Scales are float16, for small groups times an integer of 4 to 8 bits. Their product is a
   float32.

Each function takes n blocks, uint8 of shape (n, bytes), and fills an array of float32, shape
(n, values), with their codes; it returns what is left to do, or None if these are the numbers.
Arrays that NumPy goes through in one long loop are much faster than those with short rows, hence
the copies.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Terms(NamedTuple):
    """What the codes of n blocks are multiplied by, and what is subtracted or added then.

    Attributes
    ----------
    scales : ndarray of float32, shape (n, ..., 1)
        The scale of each group of consecutive values; the axes between are groups of a block.
    minima : ndarray of float32, of the same shape, or None
        What is subtracted from each group.
    offsets : ndarray of float32, of the same shape, or None
        What is added to each group. Adding ``-minima`` would give nan another sign.
    """

    scales: NDArray[np.float32]
    minima: NDArray[np.float32] | None = None
    offsets: NDArray[np.float32] | None = None


def _halves(blocks: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
    """Return the float16 from byte ``first`` on, shape (n, 1)."""
    return blocks[:, first : first + 2].view(np.float16).astype(np.float32)


def _lanes(blocks: NDArray[np.uint8], first: int, stop: int) -> NDArray[np.uint64]:
    """Return a copy of some bytes of each block as lanes, shape (n, bytes / 8)."""
    return blocks[:, first:stop].copy().view(np.uint64)


def _every(byte: int) -> np.uint64:
    """Return a mask with this byte in each lane."""
    return np.uint64(byte * 0x0101010101010101)


# NumPy casts as it multiplies, at a cost of 10 % for many blocks; for few, this saves a call.
_FEW: Final = 512
_LOW: Final = _every(0x0F)
_FOUR: Final = np.uint64(4)
_SIX_BITS: Final = np.uint32(0x3F3F3F3F)
_UPPER_BITS: Final = np.uint32(0x30303030)
_FOUR_BITS: Final = np.uint32(0x0F0F0F0F)
_NIBBLE_SHIFTS: Final = np.array([0, 4], np.uint32)
_TWO: Final = np.uint32(2)
_SHIFTS_OF_TWO: Final = np.arange(0, 8, 2, dtype=np.uint64)[:, None]
_SHIFTS_OF_ONE: Final = np.arange(8, dtype=np.uint64)[:, None]


def _nibbles(
    blocks: NDArray[np.uint8], first: int, count: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the low and the high nibbles of ``count`` bytes, each of shape (n, count / 8)."""
    high = _lanes(blocks, first, first + count)
    low = high & _LOW
    high >>= _FOUR
    high &= _LOW
    return low, high


def _crumbs(blocks: NDArray[np.uint8], first: int) -> NDArray[np.uint64]:
    """Return the codes of 2 bits in 64 bytes, shape (n, 2, 4, 4).

    Of each 32 bytes, first all lowest pairs of bits, then all next ones.
    """
    lanes = _lanes(blocks, first, first + 64).reshape(len(blocks), 2, 1, 4)
    found = lanes >> _SHIFTS_OF_TWO
    found &= _every(3)
    return found


def _bits(blocks: NDArray[np.uint8], first: int, place: int) -> NDArray[np.uint64]:
    """Return the bits of 32 bytes, each moved to ``place``, shape (n, 8, 4).

    First all lowest bits, then all next ones.
    """
    found = _lanes(blocks, first, first + 32)[:, None, :] >> _SHIFTS_OF_ONE
    found &= _every(1)
    found <<= np.uint64(place)
    return found


def _put(lanes: NDArray[np.uint64], out: NDArray[np.float32], offset: int | None = None) -> None:
    """Fill ``out`` with the codes in lanes, less an offset."""
    if offset is None:
        out[...] = lanes.view(np.uint8).reshape(out.shape)
        return
    codes = lanes.view(np.int8)
    codes -= np.int8(offset)
    out[...] = codes.reshape(out.shape)


def _put_nibbles(
    low: NDArray[np.uint64],
    high: NDArray[np.uint64],
    run: int,
    out: NDArray[np.float32],
    offset: int | None = None,
) -> None:
    """Fill ``out`` with nibbles; of ``run`` bytes, first all low ones, then all high ones."""
    runs = out.reshape(len(out), -1, 2, run)
    _put(low, runs[:, :, 0], offset)
    _put(high, runs[:, :, 1], offset)


def _q8_0(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    codes, scales = blocks[:, 2:].view(np.int8), _halves(blocks, 0)
    if len(blocks) <= _FEW:
        np.multiply(codes, scales, out)
    else:
        out[...] = codes
        out *= scales


def _q4_0(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put_nibbles(*_nibbles(blocks, 2, 16), 16, out, 8)
    return Terms(_halves(blocks, 0))


def _q4_1(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put_nibbles(*_nibbles(blocks, 4, 16), 16, out)
    return Terms(_halves(blocks, 0), offsets=_halves(blocks, 2))


def _five_bits(blocks: NDArray[np.uint8], first: int) -> NDArray[np.uint64]:
    """Return the codes of 32 values: 4 bytes with their highest bits, 16 with the others."""
    codes = np.empty((len(blocks), 4), np.uint64)
    codes[:, :2], codes[:, 2:] = _nibbles(blocks, first + 4, 16)
    high = np.unpackbits(blocks[:, first : first + 4], axis=1, bitorder="little").view(np.uint64)
    high <<= _FOUR
    codes |= high
    return codes


def _q5_0(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put(_five_bits(blocks, 2), out, 16)
    return Terms(_halves(blocks, 0))


def _q5_1(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put(_five_bits(blocks, 4), out)
    return Terms(_halves(blocks, 0), offsets=_halves(blocks, 2))


def _q2_k(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put(_crumbs(blocks, 16), out)
    few = blocks[:, :16]
    return Terms(
        (_halves(blocks, 80) * (few & np.uint8(15)))[:, :, None],
        (_halves(blocks, 82) * (few >> np.uint8(4)))[:, :, None],
    )


def _q3_k(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    codes = _crumbs(blocks, 32).reshape(len(blocks), 8, 4)
    codes |= _bits(blocks, 0, 2)
    _put(codes, out, 4)
    # 16 scales of 6 bits: the low nibbles of 8 bytes, the high ones, and 2 bits each from 4 bytes.
    packed = blocks[:, 96:108].copy().view(np.uint32)
    scales = np.empty((len(blocks), 4), np.uint32)
    np.bitwise_and(packed[:, :2], np.uint32(0x0F0F0F0F), out=scales[:, :2])
    np.bitwise_and(packed[:, :2] >> np.uint32(4), np.uint32(0x0F0F0F0F), out=scales[:, 2:])
    high = packed[:, 2:] >> np.arange(0, 8, 2, dtype=np.uint32)
    scales |= (high & np.uint32(0x03030303)) << np.uint32(4)
    few = scales.view(np.int8)
    few -= np.int8(32)
    return Terms((_halves(blocks, 108) * few)[:, :, None])


def _scales_and_minima(blocks: NDArray[np.uint8]) -> Terms:
    """Return the scales and minima of 8 groups in Q4_K and Q5_K.

    Of each 4 bytes of 12: the first 4 scales, the first 4 minima, the low nibbles of the other
    scales, and the high ones of the other minima. Those have their upper 2 bits in the first 8.
    """
    packed = blocks[:, 4:16].copy().view(np.uint32)
    few = np.empty((len(blocks), 2, 2), np.uint32)
    np.bitwise_and(packed[:, :2], _SIX_BITS, out=few[:, 0])
    lower = packed[:, 2:] >> _NIBBLE_SHIFTS
    lower &= _FOUR_BITS
    upper = packed[:, :2] >> _TWO
    upper &= _UPPER_BITS
    np.bitwise_or(upper, lower, out=few[:, 1])
    # The first four scales, the first four minima, the other scales, the other minima.
    integers = few.view(np.uint8).reshape(len(blocks), 2, 2, 4).astype(np.float32)
    integers *= blocks[:, :4].view(np.float16).astype(np.float32)[:, None, :, None]
    return Terms(integers[:, :, 0, :, None], integers[:, :, 1, :, None])


def _q4_k(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put_nibbles(*_nibbles(blocks, 16, 128), 32, out)
    return _scales_and_minima(blocks)


def _q5_k(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    codes = _bits(blocks, 16, 4).reshape(len(blocks), 4, 2, 4)
    low, high = _nibbles(blocks, 48, 128)
    codes[:, :, 0] |= low.reshape(len(blocks), 4, 4)
    codes[:, :, 1] |= high.reshape(len(blocks), 4, 4)
    _put(codes, out)
    return _scales_and_minima(blocks)


def _q6_k(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    codes = _crumbs(blocks, 128).reshape(len(blocks), 2, 2, 8)
    codes <<= _FOUR
    low, high = _nibbles(blocks, 0, 128)
    codes[:, :, 0] |= low.reshape(len(blocks), 2, 8)
    codes[:, :, 1] |= high.reshape(len(blocks), 2, 8)
    _put(codes, out, 32)
    return Terms((_halves(blocks, 208) * blocks[:, 192:208].view(np.int8))[:, :, None])


def _put_looked_up(
    blocks: NDArray[np.uint8],
    first: int,
    run: int,
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fill ``out`` with the numbers of nibbles, which start at byte ``first``."""
    runs = out.reshape(len(out), -1, 2, run)
    for place, lanes in enumerate(_nibbles(blocks, first, out.shape[1] // 2)):
        runs[:, :, place] = table.take(lanes.view(np.uint8)).reshape(len(out), -1, run)


# The numbers of 16 codes, closer together near 0.
_UNEVEN: Final = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
# Twice those of float4_e2m1fn; the negative zero is 0 here.
_FLOAT4: Final = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def _iq4_nl(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put_looked_up(blocks, 2, 16, _UNEVEN, out)
    return Terms(_halves(blocks, 0))


def _iq4_xs(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put_looked_up(blocks, 8, 16, _UNEVEN, out)
    # 8 scales of 6 bits: a nibble each from 4 bytes, and 2 bits each from 2 bytes.
    few = np.empty((len(blocks), 8), np.uint8)
    few[:, ::2] = blocks[:, 4:8] & np.uint8(15)
    few[:, 1::2] = blocks[:, 4:8] >> np.uint8(4)
    upper = blocks[:, 2:4].copy().view(np.uint16) >> np.arange(0, 16, 2, dtype=np.uint16)
    few |= (upper << np.uint16(4)).astype(np.uint8) & np.uint8(0x30)
    scales = few.view(np.int8) - np.int8(32)
    return Terms((_halves(blocks, 0) * scales)[:, :, None])


@cache
def _half_powers() -> NDArray[np.float32]:
    """Return half of the power of two of each byte; none of them is nan."""
    found: NDArray[np.float32] = np.ldexp(np.float32(1), np.arange(256) - 128)
    return found


@cache
def _half_float8() -> NDArray[np.float32]:
    """Return half of the unsigned float8 of each byte; 0x7F is 0, the highest bit is ignored."""
    exponent, fraction = np.divmod(np.arange(256) & 127, 8)
    significand = fraction + 8 * np.minimum(exponent, 1)
    found: NDArray[np.float32] = np.ldexp(
        significand.astype(np.float32), np.maximum(exponent, 1) - 11
    )
    found[127] = 0
    return found


def _mxfp4(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put_looked_up(blocks, 1, 16, _FLOAT4, out)
    return Terms(_half_powers().take(blocks[:, :1]))


def _nvfp4(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put_looked_up(blocks, 4, 8, _FLOAT4, out)
    return Terms(_half_float8().take(blocks[:, :4])[:, :, None])


def _tq2_0(blocks: NDArray[np.uint8], out: NDArray[np.float32]) -> Terms:
    _put(_crumbs(blocks, 0), out, 1)
    return Terms(_halves(blocks, 64))


UNPACK: Final[dict[str, Callable[[NDArray[np.uint8], NDArray[np.float32]], Terms | None]]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
    "MXFP4": _mxfp4,
    "NVFP4": _nvfp4,
    "TQ2_0": _tq2_0,
}
