"""Rows of the old version of a store, read from its chunk files, which are compared first.

A file that is going to be rewritten is compared with the checksum that the metadata lists, or
its damage would get a right checksum. A link is followed only to a file that has this checksum.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, open_regular
from embstore.formats.own.checks import wrong_target
from embstore.formats.own.compression import decode
from embstore.formats.own.listed_files import PIECE_BYTES, chunk_file, is_whole
from embstore.formats.own.sharded import ShardedArray, check_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray


# Device, inode, size, and the times of the last changes of a file.
Identity = tuple[int, ...]


def check_chunk(root: Path, array: RawArray, listed: ListedChunks, chunk: int) -> Identity:
    """Read a chunk file whole; return what tells later whether it is still the same one.

    Raises
    ------
    StoreCorruptError
        As `open_chunk`.
    """
    descriptor, identity = open_chunk(root, array, listed, chunk)
    os.close(descriptor)
    return identity


def open_chunk(
    root: Path,
    array: RawArray,
    listed: ListedChunks,
    chunk: int,
    checked: Identity | None = None,
) -> tuple[int, Identity]:
    """Read a chunk file whole, unless it is the one that was ``checked``.

    Returns
    -------
    descriptor : int
        Of the open file.
    identity : tuple of int
        What tells later whether it is still the same one.

    Raises
    ------
    StoreCorruptError
        If it is missing, or is not the listed one.
    """
    where = root / array.chunk_name(chunk)
    descriptor, _, is_link = open_regular(where)
    try:
        identity = _identity(descriptor)  # Before it is read, so that no change is missed.
        if identity == checked or is_whole(chunk_file(array, listed, chunk), descriptor):
            return descriptor, identity
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    if is_link:  # Its bytes may be anyone's.
        raise StoreCorruptError(wrong_target(where))
    raise StoreCorruptError(
        f"{where} does not have the size and the checksum that {array.metadata_name} lists: it is "
        f"damaged, so nothing is changed; {REBUILD}"
    )


def read_chunk(
    root: Path,
    array: RawArray,
    listed: ListedChunks,
    chunk: int,
    checked: Identity | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of a chunk, shape (n, row_bytes), piece by piece.

    Errors are those of `open_chunk`. All pieces are in the same memory: one is valid, and may be
    changed, until the next one.
    """
    row_bytes = array.chunk_bytes // array.chunk_rows
    rows = min(array.chunk_rows, array.shape[0] - chunk * array.chunk_rows)
    descriptor, _ = open_chunk(root, array, listed, chunk, checked)
    try:
        if isinstance(array, ShardedArray):
            end = listed.sizes[chunk] - array.index_bytes - spec.CHECKSUM_BYTES
            for inner in _inner_chunks(descriptor, array, end, root / array.chunk_name(chunk)):
                piece = inner.reshape(-1, row_bytes)[:rows]
                rows -= len(piece)
                yield piece
            return
        step = max(PIECE_BYTES // row_bytes, 1)
        memory = np.empty((min(step, rows), row_bytes), np.uint8)
        for first in range(0, rows, step):
            piece = memory[: rows - first]
            _read(descriptor, first * row_bytes, piece.reshape(-1))
            yield piece
    finally:
        os.close(descriptor)


def _identity(descriptor: int) -> Identity:
    status = os.fstat(descriptor)
    return (
        *(status.st_dev, status.st_ino, status.st_size),
        *(status.st_mtime_ns, status.st_ctime_ns),
    )


def _inner_chunks(
    descriptor: int, array: ShardedArray, end: int, where: Path
) -> Iterator[NDArray[np.uint8]]:
    """Yield the decoded inner chunks of a shard, whose index starts at ``end``."""
    index = _read(descriptor, end, np.empty(array.index_bytes + spec.CHECKSUM_BYTES, np.uint8))
    rows = np.empty(array.inner_bytes, np.uint8)
    try:
        for offset, size in check_index(index.tobytes(), end).tolist():
            if size < 0:
                return
            packed = _read(descriptor, offset, np.empty(size, np.uint8))
            decode(array.compression.codec, packed, rows)
            yield rows
    except ValueError as error:
        raise StoreCorruptError(f"{where}: {error}; {REBUILD}") from error


def _read(descriptor: int, offset: int, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill an array with bytes of a file, and return it."""
    done = 0
    while done < len(data):
        got = os.preadv(descriptor, [data.data[done:]], offset + done)
        if not got:
            raise StoreCorruptError("a chunk file became shorter while it was read")
        done += got
    return data
