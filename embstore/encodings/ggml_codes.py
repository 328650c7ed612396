"""Codes, scales and minima out of the blocks of quantised GGUF tensors.

A number of a block is ``code * scale``, where consecutive values share a scale. Some types subtract
a minimum from it, or add an offset. The layouts are those of ggml's ``ggml-quants.c``
(https://github.com/ggml-org/ggml).

1. The small codes of several values stand in one byte. They are taken apart eight bytes at a time,
   as lanes of an unsigned 64-bit integer: a shift, and a mask that drops what came from the
   neighbour.
2. Scales are float16, for small groups times an integer of 4 to 8 bits. Their product is a
   float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Parts(NamedTuple):
    """What n blocks hold.

    Attributes
    ----------
    codes : ndarray of int8 or uint8, shape (n, ...)
        The codes of a block in order, along all further axes.
    scales : ndarray of float32, shape (n, groups)
        The scale of each group of consecutive values.
    minima : ndarray of float32, shape (n, groups), or None
        What is subtracted from each group.
    offsets : ndarray of float32, shape (n, groups), or None
        What is added to each group. Adding ``-minima`` would give nan another sign.
    """

    codes: NDArray[Any]
    scales: NDArray[np.float32]
    minima: NDArray[np.float32] | None = None
    offsets: NDArray[np.float32] | None = None


def _halves(blocks: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
    """Return the float16 from byte ``first`` on, shape (n, 1)."""
    return blocks[:, first : first + 2].view(np.float16).astype(np.float32)


def _lanes(blocks: NDArray[np.uint8], first: int, stop: int) -> NDArray[np.uint64]:
    """Return some bytes of each block as lanes, shape (n, bytes / 8)."""
    return np.ascontiguousarray(blocks[:, first:stop]).view(np.uint64)


def _every(byte: int) -> np.uint64:
    """Return a mask with this byte in each lane."""
    return np.uint64(byte * 0x0101010101010101)


_LOW: Final = _every(0x0F)
_SHIFTS_OF_TWO: Final = np.arange(0, 8, 2, dtype=np.uint64)[:, None]
_SHIFTS_OF_ONE: Final = np.arange(8, dtype=np.uint64)[:, None]


def _nibbles(blocks: NDArray[np.uint8], first: int, count: int, run: int) -> NDArray[np.uint64]:
    """Return the nibbles of ``count`` bytes, shape (n, count / run, 2, run / 8).

    Of each run of bytes, first all low nibbles, then all high ones.
    """
    lanes = _lanes(blocks, first, first + count).reshape(len(blocks), count // run, run // 8)
    found = np.empty((len(blocks), count // run, 2, run // 8), np.uint64)
    np.bitwise_and(lanes, _LOW, out=found[:, :, 0])
    lanes >>= np.uint64(4)
    np.bitwise_and(lanes, _LOW, out=found[:, :, 1])
    return found


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


def _signed(lanes: NDArray[np.uint64], offset: int) -> NDArray[np.int8]:
    """Return the codes in lanes less an offset."""
    codes = lanes.reshape(len(lanes), -1).view(np.int8)
    codes -= np.int8(offset)
    return codes


def _codes(lanes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return lanes.reshape(len(lanes), -1).view(np.uint8)


def _q8_0(blocks: NDArray[np.uint8]) -> Parts:
    return Parts(blocks[:, 2:].view(np.int8), _halves(blocks, 0))


def _q4_0(blocks: NDArray[np.uint8]) -> Parts:
    return Parts(_signed(_nibbles(blocks, 2, 16, 16), 8), _halves(blocks, 0))


def _q4_1(blocks: NDArray[np.uint8]) -> Parts:
    codes = _codes(_nibbles(blocks, 4, 16, 16))
    return Parts(codes, _halves(blocks, 0), offsets=_halves(blocks, 2))


def _five_bits(blocks: NDArray[np.uint8], first: int) -> NDArray[np.uint64]:
    """Return the codes of 32 values: 4 bytes with their highest bits, 16 with the others."""
    codes = _nibbles(blocks, first + 4, 16, 16).reshape(len(blocks), 4)
    high = np.unpackbits(blocks[:, first : first + 4], axis=1, bitorder="little")
    high <<= np.uint8(4)
    codes |= high.view(np.uint64)
    return codes


def _q5_0(blocks: NDArray[np.uint8]) -> Parts:
    return Parts(_signed(_five_bits(blocks, 2), 16), _halves(blocks, 0))


def _q5_1(blocks: NDArray[np.uint8]) -> Parts:
    return Parts(_codes(_five_bits(blocks, 4)), _halves(blocks, 0), offsets=_halves(blocks, 2))


def _q2_k(blocks: NDArray[np.uint8]) -> Parts:
    few = blocks[:, :16]
    return Parts(
        _codes(_crumbs(blocks, 16)),
        _halves(blocks, 80) * (few & np.uint8(15)),
        _halves(blocks, 82) * (few >> np.uint8(4)),
    )


def _q3_k(blocks: NDArray[np.uint8]) -> Parts:
    codes = _crumbs(blocks, 32).reshape(len(blocks), 8, 4)
    codes |= _bits(blocks, 0, 2)
    # 16 scales of 6 bits: the low nibbles of 8 bytes, the high ones, and 2 bits each from 4 bytes.
    packed = np.ascontiguousarray(blocks[:, 96:108]).view(np.uint32)
    scales = np.empty((len(blocks), 4), np.uint32)
    np.bitwise_and(packed[:, :2], np.uint32(0x0F0F0F0F), out=scales[:, :2])
    np.bitwise_and(packed[:, :2] >> np.uint32(4), np.uint32(0x0F0F0F0F), out=scales[:, 2:])
    high = packed[:, 2:] >> np.arange(0, 8, 2, dtype=np.uint32)
    scales |= (high & np.uint32(0x03030303)) << np.uint32(4)
    few = scales.view(np.int8)
    few -= np.int8(32)
    return Parts(_signed(codes, 4), _halves(blocks, 108) * few)


def _scales_and_minima(blocks: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the scales and minima of 8 groups in Q4_K and Q5_K, each of shape (n, 8).

    Of each 4 bytes of 12: the first 4 scales, the first 4 minima, the low nibbles of the other
    scales, and the high ones of the other minima. Those have their upper 2 bits in the first 8.
    """
    packed = np.ascontiguousarray(blocks[:, 4:16]).view(np.uint32)
    few = np.empty((len(blocks), 2, 2), np.uint32)
    np.bitwise_and(packed[:, :2], np.uint32(0x3F3F3F3F), out=few[:, :, 0])
    upper = (packed[:, :2] >> np.uint32(2)) & np.uint32(0x30303030)
    lower = packed[:, 2:] >> np.array([0, 4], np.uint32)
    lower &= np.uint32(0x0F0F0F0F)
    np.bitwise_or(upper, lower, out=few[:, :, 1])
    integers = few.view(np.uint8)
    return _halves(blocks, 0) * integers[:, 0], _halves(blocks, 2) * integers[:, 1]


def _q4_k(blocks: NDArray[np.uint8]) -> Parts:
    return Parts(_codes(_nibbles(blocks, 16, 128, 32)), *_scales_and_minima(blocks))


def _q5_k(blocks: NDArray[np.uint8]) -> Parts:
    codes = _nibbles(blocks, 48, 128, 32).reshape(len(blocks), 8, 4)
    codes |= _bits(blocks, 16, 4)
    return Parts(_codes(codes), *_scales_and_minima(blocks))


def _q6_k(blocks: NDArray[np.uint8]) -> Parts:
    codes = _nibbles(blocks, 0, 128, 64).reshape(len(blocks), 2, 4, 4)
    high = _crumbs(blocks, 128)
    high <<= np.uint64(4)
    codes |= high
    return Parts(_signed(codes, 32), _halves(blocks, 208) * blocks[:, 192:208].view(np.int8))


UNPACK: Final[dict[str, Callable[[NDArray[np.uint8]], Parts]]] = {
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
}
