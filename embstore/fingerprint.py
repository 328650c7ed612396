"""Fingerprints: short hashes that identify a table, wherever it is stored.

The fingerprint of a store covers everything that determines its rows and words: rows, row shape,
dtype, partitions, the unk word, and the checksum of each chunk. It leaves out the store's place,
and when and by which program it was built, so the same input built again in the same way has the
same fingerprint. The same rows in other partitions or chunks have another one.

A foreign file has no checksums. Its fingerprint starts with ``f``, and covers its size, its start,
dtype and shape, and sampled rows. If all rows are read, the result is the fingerprint of the store
that a build would make of the file.

Checkpoints of models hold fingerprints, so they are persistent: what is hashed must not change.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from xxhash import xxh3_128_hexdigest

from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checks import check_array
from embstore.table.numbering import Numbering
from embstore.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.table.protocols import Files
    from embstore.table.tables import Table

    Lookup = Callable[[NDArray[np.int64]], NDArray[Any]]

SAMPLED_ROWS = 4096
START_BYTES = 64 << 10
_ROWS_AT_ONCE_BYTES = 8 << 20


def of_store(path: Path, manifest: Manifest, *, full: bool = False) -> str:
    """Return the fingerprint of the store at ``path``: 32 hexadecimal digits.

    Raises
    ------
    StoreCorruptError
        If the metadata of an array is missing or contradicts the manifest; under ``full``, if a
        checksum is wrong.
    """
    if full and (problems := verify(path).problems):
        raise StoreCorruptError(problems[0])
    numbering = manifest.numbering
    return _hash_store(
        numbering,
        manifest.row_shape,
        manifest.dtype.name,
        manifest.unk,
        {array.name: check_array(path, array, manifest) for array in manifest.arrays()},
    )


def of_file(table: Table, files: Files, lookup: Lookup) -> str:
    """Return the fingerprint of a foreign file: ``"f"`` and 32 hexadecimal digits."""
    rows = table.numbering.rows
    ids = np.linspace(0, max(rows - 1, 0), min(SAMPLED_ROWS, rows)).astype(np.int64)
    facts = {
        "row_shape": list(table.encoding.row_shape),
        "dtype": table.encoding.dtype.name,
        "extents": [
            [
                extent.offset,
                extent.rows,
                files.size(extent.file),
                xxh3_128_hexdigest(files.read(extent.file, 0, START_BYTES)),
            ]
            for extent in table.columns[0].extents
            if extent.file
        ],
        "rows": xxh3_128_hexdigest(lookup(ids).tobytes()),
    }
    return "f" + xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())


def of_rows(table: Table, lookup: Lookup) -> str:
    """Return the fingerprint of the store that a build would make of a table, reading all rows."""
    row_shape, dtype, rows = table.encoding.row_shape, table.encoding.dtype, table.numbering.rows
    row_bytes = math.prod(row_shape) * dtype.itemsize
    partitions = spec.choose_partition_count(rows * row_bytes)
    numbering = Numbering(rows, partitions)
    chunk_rows = spec.choose_chunk_rows(numbering.row_count(0), row_bytes)
    chunks = [_Chunks(chunk_rows, row_bytes) for _ in range(partitions)]
    step = max(_ROWS_AT_ONCE_BYTES // row_bytes, 1)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        some = lookup(np.arange(start, stop))
        for partition, piece in numbering.spread(start, stop):
            chunks[partition].extend(some[piece])
    checksums = {
        spec.partition_name(partition): own.finish() for partition, own in enumerate(chunks)
    }
    return _hash_store(numbering, row_shape, dtype.name, None, checksums)


class _Chunks:
    """The checksums of a partition's chunks, from rows in order."""

    def __init__(self, chunk_rows: int, row_bytes: int) -> None:
        self._chunk_rows, self._row_bytes = chunk_rows, row_bytes
        self._checksums: list[int] = []
        self._current, self._filled = 0, 0

    def extend(self, rows: NDArray[Any]) -> None:
        """Add the next rows."""
        while len(rows):
            part = rows[: self._chunk_rows - self._filled]
            data = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            self._current = google_crc32c.extend(self._current, data.tobytes())
            self._filled += len(part)
            rows = rows[len(part) :]
            if self._filled == self._chunk_rows:
                self._checksums.append(self._current)
                self._current, self._filled = 0, 0

    def finish(self) -> list[int]:
        """Fill the last chunk with zeros; return the checksums."""
        if self._filled:
            missing = (self._chunk_rows - self._filled) * self._row_bytes
            zeros = bytes(min(missing, _ROWS_AT_ONCE_BYTES))
            while missing:
                self._current = google_crc32c.extend(self._current, zeros[:missing])
                missing -= min(missing, len(zeros))
            self._checksums.append(self._current)
        return self._checksums


def _hash_store(
    numbering: Numbering,
    row_shape: tuple[int, ...],
    dtype: str,
    unk: str | None,
    checksums: dict[str, list[int]],
) -> str:
    table = {
        "rows": numbering.rows,
        "row_shape": list(row_shape),
        "dtype": dtype,
        "partition_count": numbering.partition_count,
        "strategy": numbering.strategy,
        "unk": unk,
        "checksums": checksums,
    }
    return xxh3_128_hexdigest(json.dumps(table, sort_keys=True).encode())
