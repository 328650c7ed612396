"""The layout of a store: a short hash of all that decides the bytes of its files.

`embstore.formats.own.spec` specifies it, in "Published stores".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xxhash import xxh3_128_hexdigest

from embstore.formats.own import spec
from embstore.formats.own.seals import canonical_text

if TYPE_CHECKING:
    from embstore.formats.own.manifest import Manifest

FIELDS = (
    *("requires", "rows", "row_shape", "dtype", "partition_count", "strategy", "layout"),
    *("chunk_rows", spec.ENCODING, spec.RECORD_BYTES, spec.COMPRESSION, spec.INNER_ROWS),
    *("unk", "vocabulary", spec.ATTRIBUTES),
)


def layout_of(manifest: Manifest) -> str:
    """Return eight hexadecimal digits, equal for stores whose files have the same bytes.

    The root metadata alone may differ: it also says where the rows came from.
    """
    fields = manifest.to_json()
    covered = {name: fields[name] for name in FIELDS if name in fields}
    covered[spec.METADATA_CHECKSUMS] = manifest.metadata_checksums
    return xxh3_128_hexdigest(canonical_text(covered).encode("ascii"))[: spec.LAYOUT_DIGITS]
