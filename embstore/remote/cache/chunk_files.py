"""Chunk files as they must be: their names, sizes and checksums, and a check of whole files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import google_crc32c

from embstore.formats.own import spec
from embstore.formats.own.sharded import covered_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray

# Small enough to be still in the processor's cache when its checksum is computed.
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ChunkFile:
    """A chunk file as the metadata of a store lists it.

    Attributes
    ----------
    name : str
        Its path inside the store.
    size : int
        Its bytes.
    covered : int
        How many of them, from the first on, the checksum covers.
    checksum, tail : int
        Their checksum, and the last four bytes of the file.
    """

    name: str
    size: int
    covered: int
    checksum: int
    tail: int


class RunningCheck:
    """A check of a chunk file whose bytes come in order, piece by piece.

    Parameters
    ----------
    chunk : ChunkFile
        The file as it must be.

    Examples
    --------
    >>> check = RunningCheck(ChunkFile("c/0", 7, 3, google_crc32c.value(b"abc"), 0))
    >>> check.add(b"ab"); check.add(b"c" + bytes(4))
    >>> check.is_right()
    True
    """

    def __init__(self, chunk: ChunkFile) -> None:
        self._chunk = chunk
        self._computed = self._size = 0
        self._end = b""

    def add(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the file."""
        left = self._chunk.covered - self._size
        if left > 0:
            covered = bytes(piece) if len(piece) <= left else bytes(piece[:left])
            self._computed = google_crc32c.extend(self._computed, covered)
        self._size += len(piece)
        self._end = (self._end + bytes(piece[-spec.CHECKSUM_BYTES :]))[-spec.CHECKSUM_BYTES :]

    def is_right(self) -> bool:
        """Say whether the bytes so far are the whole file, and right."""
        chunk = self._chunk
        if self._size != chunk.size or self._computed != chunk.checksum:
            return False
        return int.from_bytes(self._end, "little") == chunk.tail


def list_chunk_files(array: RawArray, listed: ListedChunks) -> Iterator[ChunkFile]:
    """Yield the chunk files of an array, in their order."""
    each = zip(listed.sizes, listed.checksums, listed.tails, strict=True)
    for chunk, (size, checksum, tail) in enumerate(each):
        covered = covered_bytes(array, size)
        yield ChunkFile(array.chunk_name(chunk), size, covered, checksum, tail)


def is_whole(chunk: ChunkFile, descriptor: int) -> bool:
    """Read all of an open file, and say whether it is the chunk file."""
    if os.fstat(descriptor).st_size != chunk.size:
        return False
    check, done = RunningCheck(chunk), 0
    while piece := os.pread(descriptor, PIECE_BYTES, done):
        check.add(piece)
        done += len(piece)
    return check.is_right()
