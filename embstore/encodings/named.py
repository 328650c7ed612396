"""Names of encodings that rows can be stored in, such as ``"float8_e4m3fn:32"``.

A name is that of the codes. There is a scale for each row, or for each group of as many values as
the number behind the colon says. Both choose their scales to hold every number that float32 holds:

* a row's scale is a float32;
* a group's scale is a bfloat16, which has the range of float32 in 2 bytes: 6 % on top of groups of
  32 codes of 8 bits. A group's codes are chosen for the scale as it is stored, so that its few bits
  cost range (up to 0.8 % of the largest code), not accuracy.
"""

from __future__ import annotations

import math
import re
from typing import Final

from embstore.encodings.groups import Groups
from embstore.encodings.scaled import Scaled
from embstore.wording import shape_text

# Codes with a sign, and so without a zero point.
CHOICES: Final = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "int8",
    "float4_e2m1fn",
    "int4",
)
_PATTERN: Final = re.compile(r"([a-z0-9_]+)(?::([1-9][0-9]{0,8}))?")


def parse_encoding(name: str, row_shape: tuple[int, ...]) -> Scaled:
    """Return the encoding of rows that a name tells.

    Parameters
    ----------
    name : str
        A name of `CHOICES`; behind it, maybe a colon and the number of values in a group. A group
        that is not shorter than a row is the row.
    row_shape : tuple of int
        Shape of a row.

    Raises
    ------
    ValueError
        If there is no such name, or a row has no values.

    Examples
    --------
    >>> encoding = parse_encoding("float8_e4m3fn:32", (160,))
    >>> encoding.name, encoding.record_bytes, encoding.scales
    ('float8_e4m3fn:32', 170, Groups(dtype='bfloat16', count=5, values=32))
    >>> parse_encoding("int8", (160,)).record_bytes
    164
    """
    found = _PATTERN.fullmatch(name)
    if found is None or found[1] not in CHOICES:
        raise ValueError(
            f"unknown encoding {name!r}; expected one of {', '.join(CHOICES)}, with a scale for "
            f'each row, or for each group of values, as in "{CHOICES[0]}:32"'
        )
    values = math.prod(row_shape)
    if not values:
        raise ValueError(f"rows of shape {shape_text(row_shape)} have no numbers to encode")
    size = int(found[2]) if found[2] else values
    if size >= values:
        scales = Groups("float32", 1, values)
    else:
        scales = Groups("bfloat16", -(-values // size), size)
    return Scaled(found[1], row_shape, scales=scales, joined=True)
