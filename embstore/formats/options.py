"""The options of `embstore.open` that say what a table is made of."""

from __future__ import annotations

from typing import Any, Final

from embstore.encodings.codes import CODES
from embstore.settle import as_count, as_shape
from embstore.wording import parameter, shape_text

TABLE_OPTIONS: Final = ("tensor", "scale", "scale_block", "encoding", "zero_point")
# The value of ``scale`` that looks for a tensor of a known name.
AUTO: Final = "auto"
MAX_BLOCK: Final = 1 << 62  # More than the rows of any table.
OPAQUE: Final = "opaque"
# The values of ``encoding``.
OPENED_AS: Final = (*CODES, OPAQUE)


def as_block(value: Any) -> tuple[int, int] | None:
    """Return ``scale_block``: the rows, and the values of a row, that share a scale.

    Raises
    ------
    TypeError, ValueError
        If it is not two integers, each 1 or more.

    Examples
    --------
    >>> as_block([128, 128])
    (128, 128)
    """
    if value is None:
        return None
    block = as_shape(value, "scale_block")
    if len(block) != 2:
        raise ValueError(
            f"{parameter('scale_block')} must be two integers, the rows and the values of a row "
            f"that share a scale, not {shape_text(block)}"
        )
    rows, values = (as_count(axis, "scale_block", low=1, high=MAX_BLOCK) for axis in block)
    return rows, values
