"""The check of a shard file from start to end: its checksum, its index and every inner chunk."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

import google_crc32c
import numpy as np

from embstore.errors import EmbstoreError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import open_checked
from embstore.formats.own.checks import wrong_target
from embstore.formats.own.compression import decode
from embstore.formats.own.row_sums import RowSums
from embstore.formats.own.sharded import check_index

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.sharded import ListedChunks, ShardedArray


def check_shard(
    path: Path, array: ShardedArray, listed: ListedChunks, chunk: int, ids: range
) -> tuple[str | None, RowSums]:
    """Read a shard; return a message if it is damaged, or None, and the sums of its rows."""
    where = path / array.chunk_name(chunk)
    sums = RowSums()
    try:
        descriptor = open_checked(where, listed.sizes[chunk])
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            problem = _decode_shard(file, array, listed, chunk, ids, sums)
    except (EmbstoreError, OSError) as error:
        return str(error), sums
    if problem is not None:
        problem = wrong_target(where) if where.is_symlink() else f"{where}: {problem}"
    return problem, sums


def _decode_shard(
    file: IO[bytes],
    array: ShardedArray,
    listed: ListedChunks,
    chunk: int,
    ids: range,
    sums: RowSums,
) -> str | None:
    """Read an open shard from start to end; return what is wrong with it, or None."""
    end = listed.sizes[chunk] - array.index_bytes - spec.CHECKSUM_BYTES
    index = os.pread(file.fileno(), array.index_bytes + spec.CHECKSUM_BYTES, end)
    try:
        sizes = check_index(index, end)[:, 1]
    except ValueError as error:
        return f"its index is wrong: {error}: it is damaged"
    present = array.present_count(chunk)
    if (sizes[:present] < 0).any() or (sizes[present:] >= 0).any():
        return f"its index lists other inner chunks than the first {present}"
    computed, problem = 0, None
    rows = np.empty(array.inner_bytes, np.uint8)
    for number, size in enumerate(sizes[:present].tolist()):
        packed = file.read(size)
        computed = google_crc32c.extend(computed, packed)
        if problem is not None:
            continue  # The rest is read for the checksum.
        problem = _decode_inner(array, packed, number, rows)
        first = number * array.inner_rows
        if problem is None and (some := ids[first : first + array.inner_rows]):
            sums.add(rows.reshape(array.inner_rows, -1)[: len(some)], some)
    computed = google_crc32c.extend(computed, index)
    if problem is not None and computed != listed.checksums[chunk]:
        return f"{problem}: it is damaged"
    if computed != listed.checksums[chunk]:
        return (
            f"it has the checksum {computed:08x}, but {array.metadata_name} lists "
            f"{listed.checksums[chunk]:08x}: it belongs to another chunk or another build"
        )
    if int.from_bytes(index[-spec.CHECKSUM_BYTES :], "little") != listed.tails[chunk]:
        return f"its index has another checksum than {array.metadata_name} lists"
    return problem


def _decode_inner(
    array: ShardedArray, packed: bytes, number: int, rows: NDArray[np.uint8]
) -> str | None:
    """Decode an inner chunk into ``rows``; return what is wrong with it, or None."""
    try:
        decode(array.compression.codec, np.frombuffer(packed, np.uint8), rows)
    except ValueError as error:
        return f"its inner chunk {number} {error}"
    return None
