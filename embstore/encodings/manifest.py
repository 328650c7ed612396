"""Encodings in a store's manifest: an object of plain JSON values, and back.

The key ``name`` tells what the others are:

* ``{"name": "scaled", "codes": "float8_e4m3fn", "scales": {"dtype": "float32", "values": 160}}``:
  `Scaled`, joined: a record has the codes, then the scales, then the zero points, each little
  endian. ``values`` is the size of a group; a row has as many groups as it needs. ``factor`` and
  ``zero`` are numbers, and 1 and 0 where they are missing. ``scales`` and ``zero_points`` may be
  missing.
* ``{"name": "gguf", "type": "Q4_K"}``: `GgufBlocks`.
* ``{"name": "opaque", "type": "IQ2_XS"}``: `Opaque`; the size of a record is that of a row.

What a manifest says is untrusted: an unknown key, type or name is refused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from embstore.encodings.gguf_blocks import GgufBlocks
from embstore.encodings.groups import Groups
from embstore.encodings.opaque import Opaque
from embstore.encodings.scaled import Scaled
from embstore.wording import shape_text

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from embstore.table.protocols import Encoding

# The largest float32: factors and zero points are computed with as float32.
_LARGEST = 3.4028234663852886e38
# For an array's shape. No type of blocks has a longer name.
_NAME_LENGTH = 64


def encoding_to_json(encoding: Encoding) -> dict[str, Any]:
    """Return an encoding as an object for a manifest. The row shape is not part of it.

    Raises
    ------
    ValueError
        If a manifest has no words for it: another encoding, fields that are not joined, a factor
        or zero point that is not finite.

    Examples
    --------
    >>> scales = Groups("bfloat16", 5, 32)
    >>> encoding_to_json(Scaled("int8", (160,), scales=scales, joined=True))
    {'name': 'scaled', 'codes': 'int8', 'scales': {'dtype': 'bfloat16', 'values': 32}}
    """
    if isinstance(encoding, GgufBlocks):
        return {"name": "gguf", "type": encoding.type}
    if isinstance(encoding, Opaque):
        return {"name": "opaque", "type": encoding.name}
    if not isinstance(encoding, Scaled):
        raise ValueError(f"a manifest cannot describe the encoding {encoding.name}")
    if not encoding.joined and len(encoding.field_bytes) > 1:
        raise ValueError("the fields of a row are columns of their own; a store needs them joined")
    made: dict[str, Any] = {"name": "scaled", "codes": encoding.codes}
    for key, number, usual in (("factor", encoding.factor, 1.0), ("zero", encoding.zero, 0.0)):
        if not math.isfinite(number):
            raise ValueError(f"the {key} of the table is {number}; expected a finite number")
        if number != usual:
            made[key] = float(number)
    for key, groups in (("scales", encoding.scales), ("zero_points", encoding.zero_points)):
        if groups is not None:
            made[key] = {"dtype": groups.dtype, "values": groups.values}
    return made


def encoding_from_json(given: object, row_shape: tuple[int, ...]) -> Encoding:
    """Return the encoding that an object of a manifest describes.

    Parameters
    ----------
    given : object
        What a JSON parser made of it; any value.
    row_shape : tuple of int
        Shape of a row, checked already.

    Raises
    ------
    ValueError
        If it is not an encoding; the message tells where.

    Examples
    --------
    >>> encoding_from_json({"name": "gguf", "type": "Q8_0"}, (64,))
    GgufBlocks(type='Q8_0', row_shape=(64,))
    """
    name = given.get("name") if isinstance(given, dict) else None
    if name == "gguf":
        found = _object(given, "encoding", {"name", "type"}, set())
        return GgufBlocks(_text(found["type"], "type"), row_shape)
    if name == "opaque":
        found = _object(given, "encoding", {"name", "type"}, set())
        if len(row_shape) != 1:
            raise ValueError(
                f"rows of bytes have one axis; the row shape is {shape_text(row_shape)}"
            )
        return Opaque(_text(found["type"], "type"), row_shape[0])
    if name == "scaled":
        return _scaled(given, row_shape)
    raise ValueError(
        f"the encoding is {_shown(given)}; expected an object whose name is scaled, gguf or opaque"
    )


def _scaled(given: object, row_shape: tuple[int, ...]) -> Scaled:
    found = _object(
        given, "encoding", {"name", "codes"}, {"factor", "scales", "zero", "zero_points"}
    )
    values = math.prod(row_shape)
    return Scaled(
        _text(found["codes"], "codes"),
        row_shape,
        factor=_number(found.get("factor", 1.0), "factor"),
        scales=_groups(found["scales"], "scales", values) if "scales" in found else None,
        zero=_number(found.get("zero", 0.0), "zero"),
        zero_points=(
            _groups(found["zero_points"], "zero_points", values) if "zero_points" in found else None
        ),
        joined=True,
    )


def _groups(given: object, key: str, values: int) -> Groups:
    found = _object(given, key, {"dtype", "values"}, set())
    size = found["values"]
    if type(size) is not int or not 1 <= size <= max(values, 1):
        raise ValueError(
            f"values of {key} is {_shown(size)}; expected an integer from 1 to the {values} values "
            "of a row"
        )
    return Groups(_text(found["dtype"], f"dtype of {key}"), -(-values // size), size)


def _object(
    given: object, key: str, needed: AbstractSet[str], allowed: AbstractSet[str]
) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{key} is {_shown(given)}; expected an object")
    missing = sorted(needed - set(given))
    unknown = [name for name in given if name not in needed | allowed]
    if missing:
        raise ValueError(f"{key} lacks {', '.join(missing)}")
    if unknown:
        raise ValueError(f"{key} has the unknown key {_shown(unknown[0])}")
    return given


def _text(given: object, key: str) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= _NAME_LENGTH:
        raise ValueError(f"{key} is {_shown(given)}; expected a name")
    return given


def _number(given: object, key: str) -> float:
    # Booleans are integers to Python. Comparing first keeps huge integers from overflowing.
    if type(given) not in (int, float) or not -_LARGEST <= given <= _LARGEST:  # type: ignore[operator]
        raise ValueError(f"{key} is {_shown(given)}; expected a number that a float32 can be")
    return float(given)  # type: ignore[arg-type]


def _shown(given: object) -> str:
    """Return a value for a message, truncated: it may be as large as the file."""
    try:
        text = repr(given)
    except ValueError:  # An integer of too many digits.
        text = "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."
