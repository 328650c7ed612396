"""Tables of the numbers of two codes at a time.

Two codes of 8 bits are an index into 65,536 pairs of numbers; a byte with two codes of 4 bits is
one into 256. One `take` then moves both numbers. NaN and subnormal numbers need no case of their
own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embstore.encodings.codes import CODES, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    # Called with codes, shape (n, bytes of a row), and an array to fill, shape (n, values).
    Fill = Callable[[NDArray[np.uint8], NDArray[Any]], None]

# Dtypes of a pair of numbers, by the size of a number.
_WIDE: Final[dict[int, np.dtype[Any]]] = {
    2: np.dtype(np.uint32),
    4: np.dtype(np.uint64),
    8: np.dtype(np.complex128),
}
_TWO_BYTES: Final = np.dtype(np.uint16)


class Pairs:
    """The numbers of pairs of codes, less a zero point, times a factor.

    Parameters
    ----------
    codes : str
        Format of the codes.
    dtype : numpy.dtype
        A float dtype of 2, 4 or 8 bytes. The numbers are float32, rounded to it.
    zero : float
        The zero point.
    factor : float
        The factor.

    Examples
    --------
    >>> out = np.empty((1, 3), np.float16)
    >>> fill = Pairs("int4", np.dtype(np.float16), 0, 0.5).filler(3)
    >>> fill(np.array([[0x21, 0x0F]], np.uint8), out)
    >>> out.tolist()
    [[0.5, 1.0, -0.5]]
    """

    __slots__ = ("_bits", "_pairs", "_singles", "_take", "_wide")

    def __init__(self, codes: str, dtype: np.dtype[Any], zero: float, factor: float) -> None:
        self._bits = CODES[codes].bits
        with np.errstate(over="ignore", invalid="ignore"):
            singles = (numbers(codes) - np.float32(zero)) if zero else numbers(codes)
            self._singles = (singles * np.float32(factor)).astype(dtype)
        # In the order of bytes in memory, whatever that of the processor.
        if self._bits == 4:
            every = np.arange(256, dtype=np.uint8)
            both = np.stack([every & 15, every >> 4], axis=-1)
        else:
            both = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        self._wide = _WIDE[dtype.itemsize]
        self._pairs = self._singles[both].view(self._wide).reshape(-1)
        self._take = self._pairs.take

    def filler(self, values: int) -> Fill:
        """Return a function that fills an array with the numbers of rows.

        Its parameters are the codes, uint8 of shape (n, bytes of a row), where rows have any
        distance and the bytes of a row are adjacent; and the array, C-contiguous, of the dtype and
        shape (n, values).
        """
        if self._bits == 4:
            return self._fill_half_bytes_odd if values & 1 else self._fill_half_bytes
        return self._fill_bytes_odd if values & 1 else self._fill_bytes

    def _fill_bytes(self, codes: NDArray[np.uint8], out: NDArray[Any]) -> None:
        self._take(codes.view(_TWO_BYTES), 0, out.view(self._wide), "clip")

    def _fill_half_bytes(self, codes: NDArray[np.uint8], out: NDArray[Any]) -> None:
        self._take(codes, 0, out.view(self._wide), "clip")

    def _fill_bytes_odd(self, codes: NDArray[np.uint8], out: NDArray[Any]) -> None:
        # Pairs that cross the ends of rows, and maybe one code alone.
        flat, filled = np.ascontiguousarray(codes).reshape(-1), out.reshape(-1)
        even = len(flat) & ~1
        self._fill_bytes(flat[:even], filled[:even])
        filled[even:] = self._singles[flat[even:]]

    def _fill_half_bytes_odd(self, codes: NDArray[np.uint8], out: NDArray[Any]) -> None:
        # A row's last half byte is no code.
        padded = np.empty((len(codes), out.shape[1] + 1), out.dtype)
        self._fill_half_bytes(codes, padded)
        out[...] = padded[:, :-1]


@lru_cache(maxsize=16)  # Of up to 1 MiB each.
def pairs(codes: str, dtype: np.dtype[Any], zero: float = 0.0, factor: float = 1.0) -> Pairs:
    """Return the same `Pairs` for the same parameters."""
    return Pairs(codes, dtype, zero, factor)
