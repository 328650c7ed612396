"""Known names: the scales and zero points that lie beside a tensor.

The scale of ``x.weight`` is ``x.weight_scale``, ``x.weight_scale_inv`` or ``x.scale``; of a tensor
``x``, it is ``x_scale``, ``x_scale_inv`` or ``x.scale``. Parts, such as ``x.shard_3.weight``, have
one each, or share that of ``x.weight``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from embstore.formats.safetensors.parts import NUMBER

_SCALES: Final = ("scale", "scale_inv", "scales")
_OTHERS: Final = (
    *("zero_point", "zero_points", "zeros", "qzeros", "biases", "global_scale"),
    *("absmax", "quant_map", "codebook"),
)
_ENDS: Final = (*_SCALES, *(f"{scale}_2" for scale in _SCALES), *_OTHERS)
# A component of a name that stands for a part of a table: shard_3, part-{}, 3.
_PART = re.compile(r"(?:[a-z_-]*(?:shard|part|chunk|split|slice)[a-z_-]*)(?:[0-9]+|\{\})", re.I)


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The names that tensors beside a tensor would have.

    Attributes
    ----------
    scales : tuple of str
        Of its scale.
    others : tuple of str
        Of what else is needed to decode it.
    """

    scales: tuple[str, ...]
    others: tuple[str, ...]


def known_names(name: str) -> KnownNames:
    """Return the names of what belongs to a tensor, or to the parts that fit a pattern.

    Examples
    --------
    >>> known_names("embed.weight").scales[:3]
    ('embed.weight_scale', 'embed.weight_scale_inv', 'embed.weight_scales')
    >>> "ngram.weight_scale" in known_names("ngram.shard_{}.weight").scales
    True
    """
    scales: list[str] = []
    others: list[str] = []
    for one in (name, *_shared(name)):
        for start in _starts(one):
            scales += [f"{start}{end}" for end in _SCALES]
            others += [f"{start}{end}" for end in _OTHERS]
    return KnownNames(tuple(dict.fromkeys(scales)), tuple(dict.fromkeys(others)))


def may_be_beside(name: str) -> bool:
    """Say whether a name ends as one of a scale, or of what else is needed to decode a tensor."""
    return name.endswith(_ENDS)


def is_part(name: str) -> bool:
    """Say whether a pattern is called one of parts, such as ``x.shard_{}.weight``."""
    return any(NUMBER in one and _PART.fullmatch(one) for one in name.split("."))


def _starts(name: str) -> list[str]:
    """Return what known names start with."""
    stem, dot, last = name.rpartition(".")
    stem += dot
    starts = [f"{name}_", f"{name}."]
    match last:
        case "weight":
            starts += [stem]
        case "weight_packed" | "qweight" | "weight_blocks":
            starts += [f"{stem}weight_", stem]
        case _:
            starts += [f"{name}.weight_"]
    if last.endswith("_blocks"):
        starts += [f"{name.removesuffix('blocks')}"]
    return starts


def _shared(name: str) -> list[str]:
    """Return the name of what parts have in common, without the number of the part."""
    components = name.split(".")
    for place in range(len(components) - 1, -1, -1):
        if NUMBER in components[place] or _PART.fullmatch(components[place]):
            left = components[:place] + components[place + 1 :]
            return [".".join(left)] if left else []
    return []
