"""Tensors of ``.safetensors`` files: one file, or several with an index.

A file starts with 8 bytes, little-endian: the size of its header. The header is JSON, and gives the
dtype and shape of each tensor, and the range of its bytes behind the header. The tensors fill the
file, one after the other; their numbers are uncompressed, in C order. A model in several files has
an index, ``model.safetensors.index.json``, which names the file of each tensor. The format is
specified in the README of the safetensors library.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import DTYPES
from embstore.encodings.plain import Plain
from embstore.errors import FormatError, StoreCorruptError
from embstore.formats.npy import plain_table
from embstore.formats.options import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.table.protocols import Files
    from embstore.table.tables import Table

PATTERNS = ("*.safetensors", "*.safetensors.index.json")
INDEX_NAME = "model.safetensors.index.json"
INDEX_SUFFIX = ".index.json"
MAX_HEADER_BYTES = 100_000_000  # The safetensors library's own limit.
_SHARD = re.compile(r"-[0-9]+-of-([0-9]+)\.safetensors$")
_SIZE_BYTES = 8
_DTYPES = {row.safetensors: row for row in DTYPES.values()}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor, as the header of its file describes it.

    Attributes
    ----------
    dtype : str
        Its dtype, by the format's name.
    shape : tuple of int
        Its shape.
    offset, size_bytes : int
        First byte in the file, and number of bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The byte after its last."""
        return self.offset + self.size_bytes


def matches(start: bytes, name: str) -> bool:
    """Return whether a file is an index by its name, or a safetensors file by its first bytes."""
    if name.endswith(INDEX_SUFFIX):
        return True
    size = int.from_bytes(start[:_SIZE_BYTES], "little")
    return start[_SIZE_BYTES : _SIZE_BYTES + 1] == b"{" and size <= MAX_HEADER_BYTES


def main_file(directory: Path) -> Path:
    """Return the index or the only file of a directory."""
    if (directory / INDEX_NAME).is_file():
        return directory / INDEX_NAME
    found = sorted(
        file
        for pattern in PATTERNS
        for file in directory.glob(pattern)
        if not file.name.startswith((".", "_"))  # Such as an AppleDouble file, ._model.safetensors.
    )
    if len(found) == 1:
        if (shard := _SHARD.search(found[0].name)) and int(shard[1]) > 1:
            raise FormatError(
                f"{found[0]} is one of {int(shard[1])} files, and {INDEX_NAME} is missing; is the "
                "download complete? To read a tensor of this file alone, name the file"
            )
        return found[0]
    names = ", ".join(file.name for file in found[:10]) or "only hidden files"
    raise FormatError(
        f"{directory}: expected {INDEX_NAME} or one .safetensors file, found {names}; name the file"
    )


def describe(
    files: Files,
    name: str,
    *,
    tensor: str | None = None,
    scale: str | None = AUTO,
    scale_block: tuple[int, int] | None = None,
    encoding: str | None = None,
    zero_point: str | None = None,
) -> Table:
    """Return the table of a tensor.

    Parameters
    ----------
    files : Files
        The files of its directory.
    name : str
        A ``.safetensors`` file, or an index of several.
    tensor : str, optional
        Name of the tensor; not needed if there is only one.

    Raises
    ------
    StoreCorruptError
        If a header or an index is wrong, a file is shorter than its tensors, or bytes in it belong
        to no tensor or to several.
    FormatError
        If the tensor is missing or not named, or rows cannot be read in place.
    """
    given = tensor
    name, tensor, found = locate(files, name, tensor)
    where = f"{files.path(name)}: the tensor {tensor!r}"
    if found.dtype not in _DTYPES:
        raise FormatError(f"{where} has dtype {found.dtype}; expected one of {', '.join(_DTYPES)}")
    if not found.shape:
        raise FormatError(f"{where} has shape (); a table needs rows, so shape (rows, ...)")
    plain = Plain(_DTYPES[found.dtype].numpy, found.shape[1:])
    table = plain_table(files, name, found.offset, found.shape[0], plain)
    return replace(table, source=() if given is None else (("tensor", given),))


def locate(files: Files, name: str, tensor: str | None) -> tuple[str, str, Tensor]:
    """Return the file of a tensor, its name, and its entry in the header.

    The parameters and errors are those of `describe`.
    """
    if not name.endswith(INDEX_SUFFIX):
        tensors = _read_header(files, name)
        tensor = _choose(str(files.path(name)), tensor, tensors)
        return name, tensor, tensors[tensor]
    index, index_path = _read_index(files, name), files.path(name)
    tensor = _choose(str(index_path), tensor, index)
    name = index[tensor]
    if not _exists(files, name):
        raise StoreCorruptError(
            f"{files.path(name)}, which {index_path} lists for the tensor {tensor!r}, is missing; "
            "is the download complete?"
        )
    tensors = _read_header(files, name)
    if tensor not in tensors:
        raise StoreCorruptError(
            f"{files.path(name)} has no tensor {tensor!r}, but {index_path} lists it there"
        )
    return name, tensor, tensors[tensor]


def _exists(files: Files, name: str) -> bool:
    path = files.path(name)
    return path is None or path.is_file()


def _choose(place: str, name: str | None, names: Iterable[str]) -> str:
    """Return the tensor that was asked for, or the only one."""
    names = list(names)
    listing = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    if name is None:
        if len(names) != 1:
            raise FormatError(
                f"{place} has {len(names)} tensors: {listing}; name the one to read (tensor=, or "
                "--tensor on the command line)"
            )
        return names[0]
    if name not in names:
        raise FormatError(f"{place} has no tensor {name!r}; it has: {listing}")
    return name


def _read_index(files: Files, name: str) -> dict[str, str]:
    """Return the file name of each tensor."""
    where = files.path(name)
    try:
        if files.size(name) > MAX_HEADER_BYTES:
            raise ValueError(f"it has more than {MAX_HEADER_BYTES} bytes")
        document = json.loads(files.read(name, 0, MAX_HEADER_BYTES), object_pairs_hook=_unique)
        for tensor, file in document["weight_map"].items():
            # A name with directories in it could make a downloaded model read any file.
            if not isinstance(file, str) or not file or Path(file).name != file:
                raise ValueError(f"tensor {tensor!r} is in {file!r}, which is not a file name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreCorruptError(
            f"{where} is not a readable index of safetensors files: {error!r}"
        ) from error
    return dict(document["weight_map"])


def _read_header(files: Files, name: str) -> dict[str, Tensor]:
    """Return the tensors of a file."""
    try:
        size = int.from_bytes(files.read(name, 0, _SIZE_BYTES), "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"its header has {size} bytes, more than {MAX_HEADER_BYTES}")
        header = json.loads(files.read(name, _SIZE_BYTES, size), object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        start = _SIZE_BYTES + size
        tensors = {tensor: _tensor(entry, start) for tensor, entry in header.items()}
        _check_cover(tensors, start, files.size(name))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        if isinstance(error, StoreCorruptError):
            raise
        problem = error if isinstance(error, ValueError) else repr(error)
        raise StoreCorruptError(
            f"{files.path(name)} is not a readable safetensors file: {problem}; is the download "
            "complete?"
        ) from error
    return tensors


def _check_cover(tensors: dict[str, Tensor], start: int, stop: int) -> None:
    """Check that the tensors follow each other from byte ``start`` on, and fill the file."""
    end, before = start, "the header"
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].end)):
        if tensor.offset != end:
            what = "overlap" if tensor.offset < end else "leave a gap"
            raise ValueError(
                f"the tensor {name!r} starts at byte {tensor.offset}, but {before} ends at byte "
                f"{end}: they {what}"
            )
        end, before = tensor.end, f"the tensor {name!r}"
    if end < stop:
        raise ValueError(f"{stop - end} bytes after {before} belong to no tensor")
    if end > stop:
        raise ValueError(f"{before} ends at byte {end}, but the file has {stop} bytes")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; refuse repeated names."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is repeated")
    return found


def _tensor(entry: dict[str, Any], start: int) -> Tensor:
    shape = tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError(f"shape {shape} and offsets {begin}, {end} are not whole numbers")
    if end < begin:
        raise ValueError(f"its bytes end at {end}, before they start at {begin}")
    dtype = str(entry["dtype"])
    known = _DTYPES.get(dtype)
    if known and end - begin != math.prod(shape) * np.dtype(known.stored).itemsize:
        raise ValueError(f"{dtype} of shape {shape} does not take {end - begin} bytes")
    return Tensor(dtype, shape, start + begin, end - begin)
