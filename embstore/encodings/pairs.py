"""Tables of the numbers of two codes at a time.

Two codes of 8 bits are an index into 65,536 pairs of numbers; a byte with two codes of 4 bits is
one into 256. One `take` then moves both numbers. NaN and subnormal numbers need no case of their
own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.encodings.codes import CODES, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Dtypes of a pair of numbers, by the size of a number.
_WIDE: dict[int, np.dtype[Any]] = {
    2: np.dtype(np.uint32),
    4: np.dtype(np.uint64),
    8: np.dtype(np.complex128),
}


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
    >>> out = np.empty((1, 4), np.float16)
    >>> Pairs("int4", np.dtype(np.float16), 0, 0.5).fill(np.array([[0x21, 0xF3]], np.uint8), out)
    >>> out.tolist()
    [[0.5, 1.0, 1.5, -0.5]]
    """

    __slots__ = ("_pairs", "_singles", "_wide", "packed")

    def __init__(self, codes: str, dtype: np.dtype[Any], zero: float, factor: float) -> None:
        self.packed = CODES[codes].bits == 4
        with np.errstate(over="ignore", invalid="ignore"):
            singles = (numbers(codes) - np.float32(zero)) if zero else numbers(codes)
            self._singles = (singles * np.float32(factor)).astype(dtype)
        # In the order of bytes in memory, whatever that of the processor.
        if self.packed:
            every = np.arange(256, dtype=np.uint8)
            both = np.stack([every & 15, every >> 4], axis=-1)
        else:
            both = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        self._wide = _WIDE[dtype.itemsize]
        self._pairs = self._singles[both].view(self._wide).reshape(-1)

    def fill(self, codes: NDArray[np.uint8], out: NDArray[Any]) -> None:
        """Fill ``out`` with the numbers of codes.

        Parameters
        ----------
        codes : ndarray of uint8, shape (n, width)
            Rows with any distance between them; the bytes of a row are adjacent.
        out : ndarray of the dtype, shape (n, width), or (n, 2 * width) of packed codes
            C-contiguous.
        """
        if self.packed:
            self._pairs.take(codes, 0, out.view(self._wide), "clip")
        elif not codes.shape[1] & 1:
            self._pairs.take(codes.view(np.uint16), 0, out.view(self._wide), "clip")
        else:
            # Pairs that cross the ends of rows, and maybe one code alone.
            flat, numbers_of_codes = np.ascontiguousarray(codes).reshape(-1), out.reshape(-1)
            even = len(flat) & ~1
            self._pairs.take(
                flat[:even].view(np.uint16), 0, numbers_of_codes[:even].view(self._wide), "clip"
            )
            numbers_of_codes[even:] = self._singles[flat[even:]]


@lru_cache(maxsize=16)  # Of up to 1 MiB.
def pairs(codes: str, dtype: np.dtype[Any], zero: float = 0.0, factor: float = 1.0) -> Pairs:
    """Return the same `Pairs` for the same parameters."""
    return Pairs(codes, dtype, zero, factor)
