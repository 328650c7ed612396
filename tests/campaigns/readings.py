"""Independent readings of GGUF and safetensors files: whole files, by the simplest code.

They trust what they read, and check next to nothing; tensors that they cannot read are left out.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embstore.encodings.ggml_types import BY_NUMBER

# The records of a tensor by its name, or of all tensors for None; each (rows, record_bytes).
Tensors = list[NDArray[np.uint8]]
Reading = Callable[[str | None], Tensors | None]

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MOST_BYTES = 1 << 24  # Of a file; a longer one has its header in front.


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _records(data: bytes, offset: int, shape: tuple[int, ...], size: int) -> NDArray[np.uint8]:
    """Return the records of a tensor of ``size`` bytes."""
    if not shape or not shape[0]:
        return np.empty((0, 0), np.uint8)
    found = np.frombuffer(data, np.uint8, size, offset)
    return found.reshape(shape[0], -1)


class _Gguf:
    """A reading of a GGUF file from its first byte on."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4
        (self.version,) = self.take("<I")
        tensor_count, key_count = self.take("<QQ")
        self.keys = {self.text(): self.value(*self.take("<I")) for _ in range(key_count)}
        entries = [self.entry() for _ in range(tensor_count)]
        alignment = self.keys.get(b"general.alignment", 32)
        start = -(-self.at // alignment) * alignment
        self.tensors = {
            name: (shape, kind, start + offset) for name, shape, kind, offset in entries
        }

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def text(self) -> bytes:
        (size,) = self.take("<Q")
        self.at += size
        return self.data[self.at - size : self.at]

    def value(self, kind: int) -> Any:
        if kind == 8:
            return self.text()
        if kind == 9:
            kind, count = self.take("<IQ")
            if kind in _SIZES:
                self.at += count * _SIZES[kind]
                return None
            return [self.value(kind) for _ in range(count)]
        form = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}.get(kind)
        if form:
            return self.take(f"<{form}")[0]
        self.at += _SIZES[kind]
        return None

    def entry(self) -> tuple[bytes, tuple[int, ...], int, int]:
        name, (count,) = self.text(), self.take("<I")
        shape = self.take(f"<{count}Q")[::-1]
        return name, shape, *self.take("<IQ")


_ERRORS = (
    struct.error,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    AttributeError,
    StopIteration,
    OSError,
)


def gguf(path: Path, tensor: str | None) -> Tensors:
    """Return the records of tensors of a GGUF file."""
    try:
        read = _Gguf(data := _bytes(path))
    except _ERRORS:
        return []
    found = []
    for name, (shape, kind, offset) in read.tensors.items():
        if tensor is None or name == tensor.encode():
            with contextlib.suppress(*_ERRORS):
                block = BY_NUMBER[kind]
                size = math.prod(shape) // block.values * block.bytes
                found.append(_records(data, offset, shape, size))
    return found


def gguf_of_library(path: Path, tensor: str | None) -> Tensors | None:
    """Return the records of tensors of a GGUF file by gguf-py; None if it cannot read the file."""
    library = importlib.import_module("gguf")
    try:
        tensors = library.GGUFReader(path).tensors
    except Exception:  # It raises anything, also IndexError and KeyError.
        return None
    return [
        _records(found.data.tobytes(), 0, tuple(found.shape.tolist()[::-1]), found.data.nbytes)
        for found in tensors
        if tensor in (None, found.name)
    ]


def gguf_model(path: Path, tensor: str | None) -> Tensors:
    """Return the records of tensors of a GGUF model, from whichever part has them."""
    folder = path if path.is_dir() else path.parent
    files = [file for file in sorted(folder.glob("*.gguf")) if file.is_file()]
    return [records for file in files for records in gguf(file, tensor)]


def safetensors(path: Path, tensor: str | None) -> Tensors:
    """Return the records of tensors of a safetensors file."""
    try:
        data = _bytes(path)
        size = int.from_bytes(data[:8], "little")
        header = dict(json.loads(data[8 : 8 + size]))
    except _ERRORS:
        return []
    found = []
    for name, entry in header.items():
        if tensor in (None, name):
            with contextlib.suppress(*_ERRORS):
                shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
                found.append(_records(data, 8 + size + begin, shape, end - begin))
    return found


def safetensors_of_library(path: Path, tensor: str | None) -> Tensors | None:
    """Return the records of tensors by the safetensors library; None if it cannot read the file."""
    library = importlib.import_module("safetensors")
    if path.stat().st_size > _MOST_BYTES:
        return None
    try:
        tensors = library.deserialize(path.read_bytes())
    except library.SafetensorError:
        return None
    return [
        _records(bytes(entry["data"]), 0, tuple(entry["shape"]), len(entry["data"]))
        for name, entry in tensors
        if tensor in (None, name)
    ]


def safetensors_model(path: Path, tensor: str | None) -> Tensors:
    """Return the records of tensors of a safetensors model, or of the file that is named."""
    if path.suffix == ".safetensors":
        return safetensors(path, tensor)
    folder = path if path.is_dir() else path.parent
    files = [file for file in sorted(folder.glob("*.safetensors")) if file.is_file()]
    with contextlib.suppress(*_ERRORS):
        index = json.loads(next(iter(folder.glob("*.index.json"))).read_bytes())
        files = [folder / index["weight_map"][tensor]]
    return [records for file in files for records in safetensors(file, tensor)]


def index_bytes(weights: dict[str, str]) -> bytes:
    """Return an index of safetensors files."""
    return json.dumps({"metadata": {}, "weight_map": weights}).encode()
