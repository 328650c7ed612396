"""Stores of terabytes on a small disk: chunk files that are holes, but for a few rows.

    python -m tools.sparse_store big.embstore --bytes 10TB --written 4096

Metadata, sizes and checksums are true, so such a store opens, verifies and looks up like any other;
rows that were not written read as zeros. The checksum of zeros is computed, not read. A chunk file
takes 8 KiB of disk: a block for its checksum, and its directory. Nothing is flushed.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

import embstore
from embstore.formats.own import spec
from embstore.formats.own.manifest import Manifest
from embstore.formats.own.seals import checksum, seal_with
from embstore.formats.own.sharded import ListedChunks
from embstore.formats.own.zero_checksums import extend_with_zeros
from embstore.writing.metadata import array_metadata, group_metadata
from tools.make_table import as_bytes, table_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.formats.own.spec import RawArray
    from embstore.table.numbering import Strategy

# The rows of a chunk that were written, by their place in it.
_Written = dict[int, bytes]


def make_sparse_store(
    path: str | Path,
    ids: NDArray[np.int64],
    values: NDArray[Any],
    *,
    rows: int,
    partitions: int | None = None,
    strategy: Strategy = "mod",
    chunk_rows: int | None = None,
) -> Manifest:
    """Write a store whose rows are zeros, but for those of some ids; return its manifest.

    Parameters
    ----------
    path : str or Path
        Where the store will be. Its directory is made.
    ids : ndarray of int64, shape (n,)
        The ids of the rows that are written, each once.
    values : ndarray, shape (n, *row_shape)
        Their values. With ``n = 0``, these still give the shape and the dtype of a row.
    rows : int
        Number of rows of the table.
    partitions, strategy, chunk_rows
        As for `embstore.StoreWriter`, with the same defaults.
    """
    root = Path(path)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    row_bytes = math.prod(values.shape[1:]) * values.dtype.itemsize
    if partitions is None:
        partitions = spec.choose_partition_count(rows * row_bytes)
    if chunk_rows is None:
        most = spec.choose_chunk_bytes(rows * row_bytes)
        chunk_rows = spec.choose_chunk_rows(-(-rows // partitions), row_bytes, most, partitions)
    manifest = Manifest(
        rows=rows,
        row_shape=values.shape[1:],
        dtype=values.dtype,
        partition_count=partitions,
        strategy=strategy,
        chunk_rows=chunk_rows,
        source={"generator": "zeros"},
        created_by="embstore tools/sparse_store.py",
    )
    written = _by_chunk(manifest, ids, values)
    checksums: dict[str, int] = {}
    for array in manifest.arrays():
        for name in array.directory_names():
            (root / name).mkdir(parents=True)
        listed = _write_chunks(root, array, written.pop(array.name, {}))
        _write_metadata(root, array.metadata_name, array_metadata(array, listed), checksums)
    for group in manifest.group_names():
        _write_metadata(root, f"{group}/{spec.METADATA}", group_metadata(), checksums)
    sealed = seal_with(manifest.to_json(), checksums)
    (root / spec.METADATA).write_bytes(group_metadata({spec.ATTRIBUTE: sealed}))
    return manifest


def _by_chunk(
    manifest: Manifest, ids: NDArray[np.int64], values: NDArray[Any]
) -> dict[str, dict[int, _Written]]:
    """Return the rows to write, by array and chunk."""
    found: dict[str, dict[int, _Written]] = {}
    numbering, chunk_rows = manifest.numbering, manifest.chunk_rows
    for number, row in zip(ids.tolist(), values, strict=True):
        partition, place = numbering.locate_one(number)
        chunks = found.setdefault(spec.partition_name(partition), {})
        chunks.setdefault(place // chunk_rows, {})[place % chunk_rows] = row.tobytes()
    return found


def _write_chunks(root: Path, array: RawArray, written: dict[int, _Written]) -> ListedChunks:
    """Write the chunk files of an array; return what its metadata lists of them."""
    zeros = extend_with_zeros(0, array.chunk_bytes)
    row_bytes = array.chunk_bytes // array.chunk_rows
    found: list[int] = []
    for chunk in range(array.chunk_count):
        computed = zeros
        descriptor = os.open(f"{root}/{array.chunk_name(chunk)}", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            if chunk in written:
                computed = _write_rows(descriptor, written[chunk], row_bytes, array.chunk_bytes)
            end = computed.to_bytes(spec.CHECKSUM_BYTES, "little")
            os.pwrite(descriptor, end, array.chunk_bytes)
        finally:
            os.close(descriptor)
        found.append(computed)
    return ListedChunks(found, found, [array.file_bytes] * len(found))


def _write_rows(descriptor: int, written: _Written, row_bytes: int, chunk_bytes: int) -> int:
    """Write some rows of a chunk file; return the checksum of all of its rows."""
    computed = end = 0
    for place, row in sorted(written.items()):
        computed = extend_with_zeros(computed, place * row_bytes - end)
        computed = google_crc32c.extend(computed, row)
        end = (place + 1) * row_bytes
        os.pwrite(descriptor, row, place * row_bytes)
    return extend_with_zeros(computed, chunk_bytes - end)


def _write_metadata(root: Path, name: str, content: bytes, checksums: dict[str, int]) -> None:
    """Write the metadata of an array or a group, and note its checksum."""
    (root / name).write_bytes(content)
    checksums[name] = checksum(content)


def main() -> None:
    """Read the arguments and make the store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--bytes", type=as_bytes, default=10**13, help="size of all rows (10TB)")
    parser.add_argument("--dimension", type=int, default=300, help="float32 numbers of a row (300)")
    parser.add_argument("--partitions", type=int)
    parser.add_argument("--strategy", choices=["mod", "div"], default="mod")
    parser.add_argument("--chunk-rows", type=int, help="rows in a chunk, a power of two")
    parser.add_argument("--written", type=int, default=4096, help="rows that are not zeros (4096)")
    given = parser.parse_args()
    rows = given.bytes // (4 * given.dimension)
    ids = np.unique(np.random.default_rng(0).integers(0, rows, given.written))
    try:
        manifest = make_sparse_store(
            given.path,
            ids,
            table_rows(ids, given.dimension),
            rows=rows,
            partitions=given.partitions,
            strategy=given.strategy,
            chunk_rows=given.chunk_rows,
        )
    except (embstore.EmbstoreError, OSError, ValueError) as error:
        sys.exit(f"sparse_store: {error}")
    chunks = sum(array.chunk_count for array in manifest.arrays())
    print(f"{rows:,} rows in {chunks:,} chunks; written ids: default_rng(0), {len(ids):,} of them")


if __name__ == "__main__":
    main()
