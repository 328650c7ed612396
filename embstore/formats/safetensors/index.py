"""The files of a model: the one or several that a path stands for, and the index of several.

A model in several files has an index, ``model.safetensors.index.json`` or another
``*.index.json``, which names the file of each tensor. Where a directory has none, every
``.safetensors`` file in it is looked into.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from embstore.errors import FormatError, StoreCorruptError
from embstore.formats.names import listing, quoted
from embstore.formats.safetensors.header import MAX_HEADER_BYTES, SIZE_BYTES, read_json

if TYPE_CHECKING:
    from embstore.table.protocols import Files

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".index.json"
PATTERNS = (f"*{SUFFIX}", f"*{SUFFIX}{INDEX_SUFFIX}")
INDEX_NAME = "model.safetensors.index.json"
# Indexes of files of other formats, which often lie in the same directory.
_OTHER_INDEXES = (".bin.index.json", ".h5.index.json", ".msgpack.index.json", ".pt.index.json")
_KEY = b'"weight_map"'
_START_BYTES = 1 << 20
_SHARD = re.compile(r"^(.*)-([0-9]{1,9})-of-([0-9]{1,9})\.safetensors$", re.DOTALL)
_MAX_NAME_BYTES = 255


def matches(start: bytes, name: str) -> bool:
    """Return whether a file is an index by its name, or a safetensors file by its first bytes."""
    if name.endswith(INDEX_SUFFIX):
        return True
    size = int.from_bytes(start[:SIZE_BYTES], "little")
    return start[SIZE_BYTES : SIZE_BYTES + 1] == b"{" and size <= MAX_HEADER_BYTES


def main_file(files: Files) -> str:
    """Return the index or the only file of a directory; ``""`` if it has several.

    Raises
    ------
    FormatError
        If it has several indexes, or only some of the files of a model.
    """
    if files.exists(INDEX_NAME):
        return INDEX_NAME
    found, directory = _names(files), files.where("")
    indexes = [name for name in found if name.endswith(f"{SUFFIX}{INDEX_SUFFIX}")]
    if not indexes:
        others = [name for name in found if name.endswith(INDEX_SUFFIX)]
        indexes = [name for name in others if _KEY in files.read(name, 0, _START_BYTES)]
        found = [name for name in found if name not in others or name in indexes]
    if len(indexes) == 1:
        return indexes[0]
    if indexes:
        raise FormatError(f"{directory} has several indexes: {listing(indexes)}; name one of them")
    if not found:
        raise FormatError(
            f"{directory}: expected {INDEX_NAME} or .safetensors files, found only hidden files; "
            "name the file"
        )
    check_complete(files, found)
    return found[0] if len(found) == 1 else ""


def model_files(files: Files) -> list[str]:
    """Return the names of the safetensors files in a directory."""
    return [name for name in _names(files) if name.endswith(SUFFIX)]


def _names(files: Files) -> list[str]:
    """Return the names of files that may hold tensors, or an index of them."""
    return sorted(
        name
        for name in files.names()
        if name.endswith((SUFFIX, INDEX_SUFFIX))
        and not name.endswith(_OTHER_INDEXES)
        and not name.startswith((".", "_"))  # Such as an AppleDouble file, ._model.safetensors.
    )


def check_complete(files: Files, names: list[str]) -> None:
    """Refuse files that are some of several, by their names."""
    sets: dict[tuple[str, int], set[int]] = {}
    for name in names:
        if found := _SHARD.match(name):
            sets.setdefault((found[1], int(found[3])), set()).add(int(found[2]))
    for (start, count), numbers in sets.items():
        if len(numbers) < count:
            here = [name for name in names if name.startswith(f"{start}-")]
            what = f"{files.where('')} has {len(here)} of {count} files of a model, {listing(here)}"
            if len(here) == 1:
                what = f"{files.where(here[0])} is one of {count} files"
            raise FormatError(
                f"{what}, and {INDEX_NAME} is missing; is the download complete? To read a tensor "
                "of one file alone, name the file"
            )


def sibling_count(name: str) -> int:
    """Return of how many files a file is one, by its name; 1 for other names.

    Examples
    --------
    >>> sibling_count("model-00001-of-00048.safetensors"), sibling_count("model.safetensors")
    (48, 1)
    """
    found = _SHARD.match(name)
    return int(found[3]) if found else 1


def read_index(files: Files, name: str) -> dict[str, str]:
    """Return the file name of each tensor in an index.

    Raises
    ------
    StoreCorruptError
        If the index cannot be read, or names what is not a file beside it.
    """
    where = files.where(name)
    try:
        if files.size(name) > MAX_HEADER_BYTES:
            raise ValueError(f"it has more than {MAX_HEADER_BYTES} bytes")
        weights = read_json(files.read(name, 0, MAX_HEADER_BYTES))["weight_map"]
        if not isinstance(weights, dict):
            raise TypeError("its weight_map is not an object")
        for file in set(weights.values()):
            if not _is_file_name(file):
                tensor = next(tensor for tensor, other in weights.items() if other == file)
                raise ValueError(
                    f"the tensor {quoted(tensor)} is in {quoted(str(file))}, which is not the name "
                    "of a file beside the index"
                )
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(error, StoreCorruptError):
            raise
        problem = error if isinstance(error, ValueError) else repr(error)
        raise StoreCorruptError(
            f"{where} is not a readable index of safetensors files: {problem}"
        ) from error
    return dict(weights)


def _is_file_name(name: object) -> bool:
    """Say whether a name in an index is one of a file beside it.

    A path with directories in it could make a downloaded model read any file.
    """
    if not isinstance(name, str) or name in {"", ".", ".."} or "/" in name or "\0" in name:
        return False
    try:
        return len(os.fsencode(name)) <= _MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False
