"""Which table is this? A short hash that goes with a store wherever it is moved or copied.

It is over what decides every row and word: rows, row shape, dtype, how ids are dealt out, the unk
word, and the checksum of each chunk. Where the store lies, and what built it when, are not in it,
so the same input built again in the same way gives the same fingerprint. Partitioned or chunked in
another way, the same rows have another one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from xxhash import xxh3_128_hexdigest

from embstore.formats.own.checks import check_array

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest


def fingerprint(path: Path, manifest: Manifest) -> str:
    """Return the fingerprint of the store at ``path``: 32 hexadecimal digits.

    Checkpoints of models hold it, so it is persistent: what is hashed must not change.

    Raises
    ------
    StoreCorruptError
        If the metadata of an array is missing or contradicts the manifest.
    """
    checksums = {array.name: check_array(path, array, manifest) for array in manifest.arrays()}
    table = {
        "rows": manifest.rows,
        "row_shape": list(manifest.row_shape),
        "dtype": manifest.dtype.name,
        "partition_count": manifest.partition_count,
        "strategy": manifest.strategy,
        "unk": manifest.unk,
        "checksums": checksums,
    }
    return xxh3_128_hexdigest(json.dumps(table, sort_keys=True).encode())
