"""Tensors of ``.safetensors`` files, one file or several with an index.

A file begins with the size of its header, 8 bytes, little-endian; the header is JSON: for each
tensor its dtype, shape, and where its bytes are behind the header. They lie uncompressed, in C
order, so a tensor is mapped; bfloat16 becomes the bfloat16 of ml_dtypes, which the safetensors
library does not give to NumPy.

Of a model cut into several files, ``model.safetensors.index.json`` says which file holds which
tensor.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import DTYPES
from embstore.errors import SourceError
from embstore.sources.arrays import ArraySource
from embstore.sources.mapped_file import MappedArray
from embstore.sources.npy import only_name

if TYPE_CHECKING:
    from embstore.sources.word_list import Words

INDEX_NAME = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # The safetensors library's own limit.
_DTYPES = {row.safetensors: row for row in DTYPES.values()}


@dataclass(frozen=True, slots=True)
class _Tensor:
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


def open_safetensors(
    path: Path, *, tensor: str | None = None, words: Words | None = None
) -> ArraySource:
    """Return the rows of a tensor.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, an index of several, or a directory with one of the two.
    tensor : str, optional
        The tensor's name; not needed if there is only one.
    words : str, Path, or iterable of str, optional
        The words of the rows.

    Raises
    ------
    SourceError
        If there is no such tensor, or it is not one that a store can hold.
    """
    file = _file_of_directory(path) if path.is_dir() else path
    if file.suffix == ".json":
        files = _read_index(file)
        name = only_name(str(file), tensor, list(files), "tensor")
        file = file.parent / files[name]
        if not file.is_file():
            raise SourceError(f"{path} says that the tensor {name!r} is in {file}: no such file")
        tensors = _read_header(file)
        if name not in tensors:
            raise SourceError(f"{file} has no tensor {name!r}, though {path} says so")
    else:
        tensors = _read_header(file)
        name = only_name(str(file), tensor, list(tensors), "tensor")
    found = tensors[name]
    if found.dtype not in _DTYPES:
        raise SourceError(
            f"{file}: the tensor {name!r} has dtype {found.dtype}; expected one of "
            f"{', '.join(_DTYPES)}"
        )
    dtype = _DTYPES[found.dtype].numpy.newbyteorder("<")
    return ArraySource(
        f"{file}[{name}]",
        [MappedArray(found.path, found.offset, found.shape, dtype)],
        words=words,
        origin={"file": f"{file.name}[{name}]", "format": "safetensors"},
        part_names=[f"{file}[{name}]"],
    )


def _file_of_directory(path: Path) -> Path:
    if (path / INDEX_NAME).is_file():
        return path / INDEX_NAME
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.safetensors.index.json")])
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:10]) or "none"
        raise SourceError(
            f"{path}: expected {INDEX_NAME} or one .safetensors file, found {names}; name the file"
        )
    return files[0]


def _read_index(path: Path) -> dict[str, str]:
    """Return the file name of each tensor."""
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise ValueError(f"it has more than {MAX_HEADER_BYTES} bytes")
        files = json.loads(path.read_bytes())["weight_map"]
        for tensor, name in files.items():
            # A name that leads elsewhere could make a model's download read any file.
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"tensor {tensor!r} is in {name!r}, which is no file name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{path} is not a readable index of safetensors files: {error!r}"
        ) from error
    return dict(files)


def _read_header(path: Path) -> dict[str, _Tensor]:
    """Return the tensors of a file."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > MAX_HEADER_BYTES:
                raise ValueError(f"its header has {size} bytes, more than {MAX_HEADER_BYTES}")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        return {name: _tensor(path, entry, 8 + size) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{path} is not a readable safetensors file: {error!r}; is the download complete?"
        ) from error


def _tensor(path: Path, entry: dict[str, Any], start: int) -> _Tensor:
    shape = tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError(f"shape {shape} and offsets {begin}, {end} are not whole numbers")
    dtype = str(entry["dtype"])
    if dtype in _DTYPES:
        item_bytes = np.dtype(_DTYPES[dtype].stored).itemsize
        if end - begin != math.prod(shape) * item_bytes:
            raise ValueError(f"{dtype} of shape {shape} does not take {end - begin} bytes")
    return _Tensor(path, dtype, shape, start + begin)
