"""Files of a store as its metadata lists them, and the check of a whole file."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from embstore.formats.own import spec
from embstore.formats.own.sharded import covered_bytes
from embstore.formats.own.zero_checksums import extend_with_zeros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray

# Small enough to be still in the processor's cache when its checksum is computed.
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a store as its metadata lists it.

    Attributes
    ----------
    name : str
        Its path inside the store.
    size : int
        Its bytes.
    covered : int
        How many of them, from the first on, the checksum covers.
    checksum : int
        Their CRC-32C.
    tail : int or None
        The last four bytes of a chunk file; None for metadata.
    """

    name: str
    size: int
    covered: int
    checksum: int
    tail: int | None = None

    @property
    def is_chunk(self) -> bool:
        """Whether the file holds rows or words."""
        return self.tail is not None


class RunningCheck:
    """The check of a file whose bytes come in order, piece by piece.

    Parameters
    ----------
    file : ListedFile
        The file as it must be.

    Attributes
    ----------
    computed : int
        The checksum of the bytes so far.

    Examples
    --------
    >>> check = RunningCheck(ListedFile("c/0", 7, 3, google_crc32c.value(b"abc"), 0))
    >>> check.add(b"ab"); check.add(b"c" + bytes(4))
    >>> check.is_right()
    True
    """

    def __init__(self, file: ListedFile) -> None:
        self._file = file
        self.computed = self._size = 0
        self._end = b""

    def add(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the file."""
        left = self._file.covered - self._size
        if left > 0:
            covered = np.frombuffer(piece, np.uint8)[:left]
            self.computed = google_crc32c.extend(self.computed, covered)
        self._size += len(piece)
        self._end = (self._end + bytes(piece[-spec.CHECKSUM_BYTES :]))[-spec.CHECKSUM_BYTES :]

    def add_zeros(self, count: int) -> None:
        """Take zeros as the next bytes of the file, which need not be read."""
        if not count:
            return
        covered = max(min(self._file.covered - self._size, count), 0)
        self.computed = extend_with_zeros(self.computed, covered)
        self._size += count
        self._end = (self._end + bytes(min(count, spec.CHECKSUM_BYTES)))[-spec.CHECKSUM_BYTES :]

    def is_right(self) -> bool:
        """Say whether the bytes so far are the whole file, and right."""
        file = self._file
        if self._size != file.size or self.computed != file.checksum:
            return False
        return file.tail in (None, int.from_bytes(self._end, "little"))


def chunk_file(array: RawArray, listed: ListedChunks, chunk: int) -> ListedFile:
    """Return one chunk file of an array."""
    size = listed.sizes[chunk]
    return ListedFile(
        array.chunk_name(chunk),
        size,
        covered_bytes(array, size),
        listed.checksums[chunk],
        listed.tails[chunk],
    )


def chunk_files(array: RawArray, listed: ListedChunks) -> Iterator[ListedFile]:
    """Yield the chunk files of an array, in their order."""
    for chunk in range(len(listed.sizes)):
        yield chunk_file(array, listed, chunk)


def is_whole(file: ListedFile, descriptor: int) -> bool:
    """Read all of an open file but its holes, and say whether it is the listed one."""
    if os.fstat(descriptor).st_size != file.size:
        return False
    check, done, buffer = RunningCheck(file), 0, memoryview(bytearray(PIECE_BYTES))
    while done <= file.size:
        start = _next_data(descriptor, done, file.size)
        check.add_zeros(start - done)
        count = os.preadv(descriptor, [buffer], start)
        if not count:
            break
        check.add(buffer[:count])
        done = start + count
    return check.is_right()


def _next_data(descriptor: int, offset: int, size_bytes: int) -> int:
    """Return where the bytes of a file go on that are not a hole."""
    try:
        return max(os.lseek(descriptor, offset, os.SEEK_DATA), offset)
    except OSError as error:
        # Not every file system knows its holes.
        return size_bytes if error.errno == errno.ENXIO else offset
