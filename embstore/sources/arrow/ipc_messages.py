"""Messages of Arrow IPC streams and files: where a stream ends, and how large record batches are.

pyarrow takes the end of a file for the end of a stream, and does not tell the size of a record
batch before it has read it. Both are written around the data, as the Arrow columnar format
specifies (https://arrow.apache.org/docs/format/Columnar.html):

* A message of a stream is ``0xFFFFFFFF``, the size of its metadata as int32, the metadata, and a
  body. Size 0 ends the stream. Before Arrow 0.15 there was no ``0xFFFFFFFF``.
* A file ends in its footer, the footer's size as int32, and ``ARROW1``. The footer lists a block
  for each record batch.

Metadata and footer are flatbuffers; only a few fields of them are looked at.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

_CONTINUATION = 0xFFFFFFFF
_MAX_METADATA_BYTES = 1 << 28
# The positions of fields in their tables.
_HEADER_TYPE = 1
_BODY_LENGTH = 3
_RECORD_BATCHES = 3
_RECORD_BATCH = 3  # A header type.
_BLOCK = struct.Struct("<qi4xq")  # Offset, size of the metadata, size of the body.


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Facts about a whole stream.

    Attributes
    ----------
    end : int
        The place behind its end mark.
    largest_body : int
        The size of its largest body in bytes.
    batch_count : int
        Its record batches.
    """

    end: int
    largest_body: int
    batch_count: int


def walk_stream(file: IO[bytes]) -> StreamFacts | None:
    """Return facts about a stream; None if it has no end mark.

    Parameters
    ----------
    file : binary file
        The stream, from its first byte on.
    """
    size = os.fstat(file.fileno()).st_size
    place = largest = batches = 0
    try:
        while place < size:
            file.seek(place)
            (length,) = struct.unpack("<I", file.read(4))
            place += 4
            if length == _CONTINUATION:
                (length,) = struct.unpack("<I", file.read(4))
                place += 4
            if length == 0:
                return StreamFacts(place, largest, batches)
            if length > _MAX_METADATA_BYTES:
                return None
            kind, body = _message(file.read(length))
            if body < 0:
                return None
            largest = max(largest, body)
            batches += kind == _RECORD_BATCH
            place += length + body
    except struct.error:  # The file ends, or these are not messages.
        pass
    return None


def largest_batch(file: IO[bytes]) -> int:
    """Return the size in bytes of the largest record batch of a file; 0 if it cannot be told."""
    try:
        file.seek(-10, os.SEEK_END)
        (length,) = struct.unpack("<i", file.read(4))
        file.seek(-10 - length, os.SEEK_END)
        footer = file.read(length)
        place = _field(footer, _RECORD_BATCHES)
        if place is None:
            return 0
        vector = place + _unpack("<I", footer, place)
        count = _unpack("<I", footer, vector)
        blocks = footer[vector + 4 :][: count * _BLOCK.size]
        return max((body for _, _, body in _BLOCK.iter_unpack(blocks)), default=0)
    except (OSError, ValueError, struct.error):
        return 0


def _message(metadata: bytes) -> tuple[int, int]:
    """Return the type of a message's header, and the size of its body."""
    kind, body = (_field(metadata, number) for number in (_HEADER_TYPE, _BODY_LENGTH))
    return (
        0 if kind is None else _unpack("<B", metadata, kind),
        0 if body is None else _unpack("<q", metadata, body),
    )


def _field(buffer: bytes, number: int) -> int | None:
    """Return where a field of a flatbuffer's root table is; None if it has its default."""
    table = _unpack("<I", buffer, 0)
    offsets = table - _unpack("<i", buffer, table)
    if 4 + 2 * number >= _unpack("<H", buffer, offsets):
        return None
    offset = _unpack("<H", buffer, offsets + 4 + 2 * number)
    return table + offset if offset else None


def _unpack(format: str, buffer: bytes, place: int) -> int:
    if place < 0:
        raise struct.error("a place before the buffer")
    value: int = struct.unpack_from(format, buffer, place)[0]
    return value
