"""Encodings in a manifest, which `embstore.formats.own.spec` specifies, and in a fingerprint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embstore.encodings.codes import CODES
from embstore.encodings.ggml_codes import UNPACK
from embstore.encodings.groups import SCALE_DTYPES, ZERO_DTYPES
from embstore.encodings.manifest import encoding_from_json, encoding_to_json
from embstore.encodings.plain import Plain
from embstore.encodings.scaled import Scaled
from embstore.errors import StoreVersionError
from embstore.formats.own.seals import canonical_text
from embstore.formats.own.spec import shown

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from embstore.table.protocols import Encoding

# The keys of each encoding, and the names that this version knows; none where any name will do.
_NAMES: dict[str, dict[str, Any]] = {
    "scaled": {"codes": CODES, "scales": SCALE_DTYPES, "zero_points": ZERO_DTYPES},
    "gguf": {"type": UNPACK},
    "opaque": {},
}
_KEYS = {
    "scaled": {"name", "codes", "factor", "scales", "zero", "zero_points"},
    "gguf": {"name", "type"},
    "opaque": {"name", "type"},
}


def parse_encoding_field(
    given: dict[str, Any], row_shape: tuple[int, ...], where: Path | str
) -> Encoding:
    """Return the encoding in a manifest.

    Parameters
    ----------
    given : dict
        The value of the manifest's field ``encoding``.
    row_shape : tuple of int
        Shape of a row.
    where : Path or str
        The file of the manifest, for messages.

    Raises
    ------
    StoreVersionError
        If a name or a key is not known: a later version may have it.
    ValueError
        If what is known contradicts itself.
    """
    unknown = _unknown(given)
    if unknown:
        raise StoreVersionError(
            f"{where} has rows with {unknown}, which this embstore does not know: upgrade it with "
            "pip install -U embstore"
        )
    return encoding_from_json(given, row_shape)


def _unknown(given: dict[str, Any]) -> str | None:
    """Return what an encoding has that this version does not know; None if it knows everything."""
    name = given.get("name")
    if not isinstance(name, str):
        return None  # An error that the parser names.
    if name not in _NAMES:
        return f"the encoding {shown(name)}"
    for key in given:
        if key not in _KEYS[name]:
            return f"{shown(key)} in their encoding"
    for key, known in _NAMES[name].items():
        found = given.get(key)
        if isinstance(found, dict):
            found = found.get("dtype")
        if isinstance(found, str) and found not in known:
            return f"{key} of {shown(found)}"
    return None


def as_stored(encoding: Encoding) -> Encoding | None:
    """Return the encoding of a table's rows in a store, where the fields of a row are one record.

    None stands for plain rows.
    """
    if isinstance(encoding, Plain):
        return None
    return replace(encoding, joined=True) if isinstance(encoding, Scaled) else encoding


def check_stored(encoding: Encoding) -> None:
    """Raise ValueError if a manifest cannot describe an encoding, such as one with a scale of nan.

    A build checks this first; else it would fail after the last row.
    """
    read_back = encoding_from_json(encoding_to_json(encoding), encoding.row_shape)
    if read_back != encoding:
        raise ValueError(f"a manifest describes {encoding} as {read_back}")


def dtype_line(dtype: np.dtype[Any], encoding: Encoding | None) -> str:
    """Return what stands for the dtype of a table in the heading of its fingerprint.

    Examples
    --------
    >>> import numpy as np
    >>> from embstore.encodings.gguf_blocks import GgufBlocks
    >>> dtype_line(np.dtype(np.float32), None)
    'float32'
    >>> dtype_line(np.dtype(np.float32), GgufBlocks("Q8_0", (64,)))
    'float32 {"name":"gguf","type":"Q8_0"}'
    """
    if encoding is None:
        return dtype.name
    return f"{dtype.name} {canonical_text(encoding_to_json(encoding))}"
