"""Safetensors files, byte by byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def safetensors_file(tensors: dict[str, tuple[str, NDArray[Any]]], pad: int = 0) -> bytes:
    """Return a file of tensors, given by dtype and bytes; ``pad`` spaces follow the header."""
    header, data = {}, b""
    for name, (dtype, tensor) in tensors.items():
        end = len(data) + tensor.nbytes
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [len(data), end],
        }
        data += tensor.tobytes()
    text = json.dumps(header).encode() + b" " * pad
    return len(text).to_bytes(8, "little") + text + data
