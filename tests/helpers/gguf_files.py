"""GGUF files, byte by byte: right ones, and wrong ones that no library would write."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

from embstore.encodings.ggml_types import BLOCKS

U16, U32, I32, TEXT, ARRAY, U64 = 2, 4, 5, 8, 9, 10


def text(value: str | bytes) -> bytes:
    """Return a text with its length."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def array(kind: int, count: int, items: bytes) -> bytes:
    """Return the value of an array."""
    return struct.pack("<IQ", kind, count) + items


def texts(*values: str | bytes) -> bytes:
    """Return the value of an array of texts."""
    return array(TEXT, len(values), b"".join(map(text, values)))


def split_keys(number: int, count: int, tensor_count: int) -> list[Key]:
    """Return the keys of a part."""
    return [
        Key("split.no", U16, struct.pack("<H", number)),
        Key("split.count", U16, struct.pack("<H", count)),
        Key("split.tensors.count", I32, struct.pack("<i", tensor_count)),
    ]


@dataclass
class Key:
    """A key: its name, and the type and bytes of its value."""

    name: str | bytes
    kind: int
    value: bytes


@dataclass
class Entry:
    """A tensor: its name, ggml's name or number of its type, its shape, its bytes.

    The length of a row is the last number of the shape. An offset of None is the next free one.
    """

    name: str | bytes
    kind: str | int
    shape: tuple[int, ...]
    data: bytes = b""
    offset: int | None = None


@dataclass
class GgufFile:
    """A file."""

    tensors: list[Entry]
    keys: list[Key] = field(default_factory=list)
    version: int = 3
    alignment: int | None = None
    tensor_count: int | None = None
    key_count: int | None = None
    magic: bytes = b"GGUF"
    tail: bytes = b""

    def header(self) -> bytes:
        """Return all before the data."""
        keys = list(self.keys)
        if self.alignment is not None:
            value = struct.pack("<I", self.alignment)
            keys.append(Key("general.alignment", U32, value))
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        key_count = len(keys) if self.key_count is None else self.key_count
        start = self.magic + struct.pack("<IQQ", self.version, tensor_count, key_count)
        pieces = [text(key.name) + struct.pack("<I", key.kind) + key.value for key in keys]
        for entry, offset in zip(self.tensors, self.offsets(), strict=True):
            kind = BLOCKS[entry.kind].number if isinstance(entry.kind, str) else entry.kind
            count = len(entry.shape)
            pieces.append(text(entry.name) + struct.pack("<I", count))
            pieces.append(struct.pack(f"<{count}Q", *entry.shape[::-1]))
            pieces.append(struct.pack("<IQ", kind, offset))
        return start + b"".join(pieces)

    def offsets(self) -> list[int]:
        """Return the offset of each tensor."""
        end, found = 0, []
        for entry in self.tensors:
            found.append(end if entry.offset is None else entry.offset)
            end = self._padded(found[-1] + len(entry.data))
        return found

    def __bytes__(self) -> bytes:
        data = bytearray(self.header())
        data += bytes(self._padded(len(data)) - len(data))
        start = len(data)
        for entry, offset in zip(self.tensors, self.offsets(), strict=True):
            # A wrong offset may be anything; a test gives the file its length by `tail`.
            if offset < 1 << 26:
                data += bytes(max(self._padded(start + offset) - len(data), 0))
                data[start + offset : start + offset + len(entry.data)] = entry.data
        data += bytes(self._padded(len(data)) - len(data))
        return bytes(data) + self.tail

    def _padded(self, place: int) -> int:
        alignment = self.alignment or 32
        return -(-place // alignment) * alignment


def tensor_bytes(kind: str, shape: tuple[int, ...]) -> int:
    """Return the size of a tensor."""
    block = BLOCKS[kind]
    return math.prod(shape) // block.values * block.bytes
