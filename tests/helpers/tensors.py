"""Safetensors files for tests, and a model of the tables in them: ndarrays, without embstore."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from embstore.reading.files import ForeignFiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.table.tables import Table

NAMES = {
    np.dtype(dtype): name
    for name, dtype in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
        "F8_E8M0": ml_dtypes.float8_e8m0fnu,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
        "C64": np.complex64,
    }.items()
}


class Packed:
    """A tensor whose dtype NumPy does not have, such as F4: its bytes and its shape."""

    def __init__(self, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
        self.dtype, self.shape, self.data = dtype, shape, data


def save(path: Path, tensors: dict[str, Any], pad: int = 0) -> Path:
    """Write a safetensors file; ``pad`` shifts the data."""
    header: dict[str, Any] = {}
    pieces: list[bytes] = []
    done = 0
    for name, tensor in tensors.items():
        data = tensor.data if isinstance(tensor, Packed) else tensor.tobytes()
        dtype = tensor.dtype if isinstance(tensor, Packed) else NAMES[tensor.dtype]
        offsets = [done, done + len(data)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        pieces.append(data)
        done += len(data)
    text = json.dumps(header).encode() + b" " * pad
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(pieces))
    return path


def save_model(folder: Path, files: dict[str, dict[str, Any]], index: str | None = None) -> Path:
    """Write several files, and an index of that name."""
    folder.mkdir(exist_ok=True)
    for number, (name, tensors) in enumerate(files.items()):
        save(folder / name, tensors, number)
    if index is not None:
        weights = {tensor: name for name, tensors in files.items() for tensor in tensors}
        (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    return folder


def rows_of(table: Table, root: Path) -> NDArray[Any]:
    """Return all rows of a table as the encoding decodes them, from the files' own bytes."""
    files = ForeignFiles(root)
    rows = table.numbering.rows
    fields = []
    for column in table.columns:
        data = b"".join(
            files.read(extent.file, extent.offset, extent.rows * column.record_bytes)
            for extent in column.extents
        )
        records = np.frombuffer(data, np.uint8).reshape(-1, column.record_bytes)
        fields.append(records[np.arange(rows) // column.rows_per_record])
    out = np.empty((rows, *table.encoding.row_shape), table.encoding.dtype)
    table.encoding.decode(tuple(fields), out)
    return out


def unpacked(codes: NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    """Return the numbers of 4 bits in some bytes, the low nibble first."""
    nibbles = np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:-1], -1)
    if kind == "uint4":
        return nibbles.astype(np.float32)
    if kind == "int4":
        return ((nibbles.astype(np.int8) ^ 8) - 8).astype(np.float32)
    every = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    return np.asarray(every[nibbles], np.float32)
