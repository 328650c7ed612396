"""Codes of 8 and 4 bits, and the number that each of them stands for.

The float formats are those of `ml_dtypes`: ``fn`` has no infinities, ``uz`` has nan in place of the
negative zero. ``float8_e8m0fnu`` holds powers of two only, and serves as a scale. Of two codes in a
byte, the first one is the low nibble.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Codes:
    """A format of codes.

    Parameters
    ----------
    name : str
        Its name, that of `ml_dtypes` or NumPy.
    bits : {8, 4}
        Size of a code.
    """

    name: str
    bits: int

    def record_bytes(self, count: int) -> int:
        """Return the size of ``count`` codes.

        Examples
        --------
        >>> CODES["int4"].record_bytes(5)
        3
        """
        return -(-count * self.bits // 8)


# Persistent: the names stand in manifests.
CODES: Final = {
    codes.name: codes
    for codes in (
        Codes("float8_e4m3fn", 8),
        Codes("float8_e4m3fnuz", 8),
        Codes("float8_e5m2", 8),
        Codes("float8_e5m2fnuz", 8),
        Codes("float8_e8m0fnu", 8),
        Codes("int8", 8),
        Codes("uint8", 8),
        Codes("float4_e2m1fn", 4),
        Codes("int4", 4),
        Codes("uint4", 4),
    )
}


# Bits of the fraction, and what is subtracted from the exponent. ml_dtypes has these formats, too,
# but takes 20 ms to import, and older releases lack some.
_FLOATS: Final = {
    "float8_e4m3fn": (3, 7),
    "float8_e4m3fnuz": (3, 8),
    "float8_e5m2": (2, 15),
    "float8_e5m2fnuz": (2, 16),
    "float4_e2m1fn": (1, 1),
}


@cache
def numbers(name: str) -> NDArray[np.float32]:
    """Return the number of each code, shape (256,) or (16,); read-only.

    Examples
    --------
    >>> numbers("int4")[[1, 7, 8, 15]].tolist()
    [1.0, 7.0, -8.0, -1.0]
    >>> numbers("float8_e4m3fn")[[1, 126, 127, 128]].tolist()
    [0.001953125, 448.0, nan, -0.0]
    """
    count = 1 << CODES[name].bits
    every = np.arange(count)
    if name == "float8_e8m0fnu":
        found = np.full(256, np.nan, np.float32)
        found[:255] = np.ldexp(np.float32(1), every[:255] - 127)
    elif name in _FLOATS:
        found = _floats(name, every)
    else:
        if name in {"int8", "int4"}:
            every[count // 2 :] -= count
        found = every.astype(np.float32)
    found.flags.writeable = False
    return found


def _floats(name: str, every: NDArray[Any]) -> NDArray[np.float32]:
    """Return the numbers of all codes of a format with a sign, an exponent and a fraction."""
    fraction_bits, bias = _FLOATS[name]
    half = len(every) // 2
    exponent, fraction = np.divmod(every[:half], 1 << fraction_bits)
    # An exponent of 0 stands for that of 1, without the leading 1: subnormal numbers.
    significand = fraction + (np.minimum(exponent, 1) << fraction_bits)
    shift = np.maximum(exponent, 1) - bias - fraction_bits
    positive = np.ldexp(significand.astype(np.float32), shift)
    if name == "float8_e4m3fn":
        positive[127] = np.nan
    elif name == "float8_e5m2":
        positive[124:] = [np.inf, np.nan, np.nan, np.nan]
    found = np.concatenate([positive, -positive])
    if name.endswith("uz"):
        found[128] = -np.float32(np.nan)  # Where the negative zero would be.
    return found
