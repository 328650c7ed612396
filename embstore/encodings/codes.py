"""Codes of 8 and 4 bits, and the number that each of them stands for.

The float formats are those of `ml_dtypes`: ``fn`` has no infinities, ``uz`` no negative zero.
``float8_e8m0fnu`` holds powers of two only, and serves as a scale. Of two codes in a byte, the
first one is the low nibble.
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


@cache
def numbers(name: str) -> NDArray[np.float32]:
    """Return the number of each code, shape (256,) or (16,); read-only.

    Examples
    --------
    >>> numbers("int4")[[1, 7, 8, 15]].tolist()
    [1.0, 7.0, -8.0, -1.0]
    """
    count = 1 << CODES[name].bits
    every = np.arange(count, dtype=np.uint8)
    if name in {"int4", "uint4"}:
        found = every.astype(np.float32)
        if name == "int4":
            found[8:] -= 16
    else:
        found = every.view(_dtype(name)).astype(np.float32)
    found.flags.writeable = False
    return found


def _dtype(name: str) -> np.dtype[Any]:
    if name in {"int8", "uint8"}:
        return np.dtype(name)
    import ml_dtypes  # noqa: PLC0415  # 20 ms, and few tables need it.

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found
