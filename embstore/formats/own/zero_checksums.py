"""The CRC-32C of many zeros, without reading them.

The padding behind the last row of an array is zeros, a hole in its chunk file, and may be most of
the file. To append ``n`` zero bytes to what has a checksum is to multiply a polynomial over GF(2)
by ``x ** (8 * n)``, modulo the polynomial of CRC-32C: one multiplication for each bit of ``n``.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

# The polynomial, and numbers below, in the reflected form: the highest bit is the coefficient of 1.
POLYNOMIAL: Final = 0x82F63B78
_ONE: Final = 1 << 31
_INVERTED: Final = 0xFFFFFFFF


def extend_with_zeros(checksum: int, count: int) -> int:
    """Return the checksum of what has ``checksum``, followed by ``count`` zero bytes.

    Examples
    --------
    >>> import google_crc32c
    >>> extend_with_zeros(google_crc32c.value(b"row"), 5) == google_crc32c.value(b"row" + bytes(5))
    True
    """
    return _product(_power(8 * count), checksum ^ _INVERTED) ^ _INVERTED


def _product(one: int, other: int) -> int:
    """Return the product of two polynomials."""
    total = 0
    while one:
        if one & _ONE:
            total ^= other
        one = (one << 1) & _INVERTED
        other = other >> 1 ^ (POLYNOMIAL if other & 1 else 0)
    return total


@lru_cache(maxsize=64)  # Most partitions of a table end with as many zeros.
def _power(exponent: int) -> int:
    """Return a power of x."""
    power, place = _ONE, 0
    while exponent >> place:
        if exponent >> place & 1:
            power = _product(_square(place), power)
        place += 1
    return power


@cache
def _square(times: int) -> int:
    """Return x, squared some times."""
    return _ONE >> 1 if not times else _product(_square(times - 1), _square(times - 1))
