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
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.store import EmbeddingStore
    from embstore.table.extents import Column
    from embstore.table.protocols import Files

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


def of_file(store: EmbeddingStore, column: Column, files: Files) -> str:
    """Return the fingerprint of a foreign file: ``"f"`` and 32 hexadecimal digits."""
    last = max(store.rows - 1, 0)
    ids = np.unique(np.linspace(0, last, min(SAMPLED_ROWS, store.rows)).astype(np.int64))
    table = {
        "row_shape": list(store.row_shape),
        "dtype": store.dtype.name,
        "extents": [
            [
                extent.offset,
                extent.rows,
                files.size(extent.file),
                xxh3_128_hexdigest(files.read(extent.file, 0, START_BYTES)),
            ]
            for extent in column.extents
            if extent.file
        ],
        "rows": xxh3_128_hexdigest(store.lookup(ids).tobytes()),
    }
    return "f" + xxh3_128_hexdigest(json.dumps(table, sort_keys=True).encode())


def of_rows(store: EmbeddingStore) -> str:
    """Return the fingerprint of the store that a build would make of this one, reading all rows."""
    row_bytes = _row_bytes(store)
    partitions = spec.choose_partition_count(store.rows * row_bytes)
    longest = -(-store.rows // partitions)
    chunk_rows = spec.choose_chunk_rows(longest, row_bytes)
    numbering = Numbering(store.rows, partitions, "mod")
    chunks = [_Chunks(chunk_rows, row_bytes) for _ in range(partitions)]
    step = max(_ROWS_AT_ONCE_BYTES // row_bytes, 1)
    for start in range(0, store.rows, step):
        stop = min(start + step, store.rows)
        rows = store.lookup(np.arange(start, stop))
        for partition, piece in numbering.spread(start, stop):
            chunks[partition].extend(rows[piece])
    checksums = {
        spec.partition_name(partition): own.finish() for partition, own in enumerate(chunks)
    }
    return _hash_store(numbering, store.row_shape, store.dtype.name, store.unk, checksums)


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


def _row_bytes(store: EmbeddingStore) -> int:
    return int(np.prod(store.row_shape, dtype=np.int64)) * store.dtype.itemsize


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
