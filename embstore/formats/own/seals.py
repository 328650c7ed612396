"""Checksums of metadata: the manifest has those of the other files, and one of itself.

`embstore.formats.own.spec` specifies them. A build seals the manifest after everything else is
written. A reader checks the seal before it uses any field.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import google_crc32c

from embstore.formats.own import spec

if TYPE_CHECKING:
    from embstore.formats.own.fields import Fields


def seal_with(manifest: dict[str, Any], checksums: dict[str, int]) -> dict[str, Any]:
    """Return the manifest to be written, given the checksums of all other metadata.

    Raises
    ------
    ValueError
        If its ``source`` is not JSON, or too long.
    """
    text = json.dumps(manifest | {spec.METADATA_CHECKSUMS: checksums}, allow_nan=False)
    # Half of a reader's limit, because Zarr indents what it writes.
    if len(text) > spec.MAX_METADATA_BYTES // 2:
        raise ValueError(
            f"the manifest has {len(text)} bytes, more than {spec.MAX_METADATA_BYTES // 2}; make "
            "source= shorter"
        )
    fields: dict[str, Any] = json.loads(text)
    return fields | {spec.MANIFEST_CHECKSUM: manifest_checksum(fields)}


def manifest_checksum(fields: dict[str, Any]) -> int:
    """Return the CRC-32C of a manifest's canonical text, without the field that holds it.

    Examples
    --------
    >>> manifest_checksum({"rows": 3}) == manifest_checksum({"rows": 3, "manifest_crc32c": 7})
    True
    """
    covered = {key: value for key, value in fields.items() if key != spec.MANIFEST_CHECKSUM}
    return checksum(canonical_text(covered).encode("ascii"))


def canonical_text(value: Any) -> str:
    """Return the canonical text of a JSON value, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(data: bytes) -> int:
    """Return the CRC-32C of some bytes."""
    return int(google_crc32c.value(data))


def check_seal(fields: dict[str, Any], reader: Fields) -> dict[str, int]:
    """Check the manifest's own checksum; return those of the other metadata."""
    stated = reader.integer(spec.MANIFEST_CHECKSUM)
    try:
        computed = manifest_checksum(fields)
    except (ValueError, RecursionError) as error:
        raise reader.error(spec.MANIFEST_CHECKSUM, f"cannot be computed: {error}") from error
    if stated != computed:
        problem = f"is {stated:08x}, but its fields have {computed:08x}: it is damaged"
        raise reader.error(spec.MANIFEST_CHECKSUM, problem)
    checksums: dict[str, int] = reader.get(spec.METADATA_CHECKSUMS, dict)
    if any(type(number) is not int for number in checksums.values()):
        raise reader.error(spec.METADATA_CHECKSUMS, "is not an object of numbers")
    return checksums
