"""The ``zarr.json`` of arrays and groups, byte for byte as zarr writes them.

zarr itself would write them on an event loop in a thread. That fails under gevent, where no thread
can be started, and while the interpreter ends. A test compares the bytes with zarr's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from embstore.formats.own import spec
from embstore.formats.own.seals import checksum, seal_with
from embstore.writing.disk import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray

_PLACE = "(place)"


def write_metadata(
    path: Path, groups: Sequence[str], arrays: Iterable[tuple[Path, bytes]], manifest: Manifest
) -> None:
    """Write all metadata of a store at ``path``, the manifest last.

    Parameters
    ----------
    path : Path
        The directory of the store.
    groups : sequence of str
        The names of its groups; the first is the root.
    arrays : iterable of (Path, bytes)
        The path and the content of each array's ``zarr.json``.
    manifest : Manifest
        The manifest, which is sealed with the checksums of the other metadata.
    """
    group = group_metadata()
    checksums: dict[str, int] = {}
    root, *others = (path / name / spec.METADATA for name in groups)

    def summed() -> Iterator[tuple[Path, bytes]]:
        for where, data in chain(arrays, ((where, group) for where in others)):
            checksums[str(where)] = checksum(data)
            yield where, data

    files.write_files(summed())
    names = {name: checksums[f"{path}/{name}"] for name in manifest.metadata_names()}
    sealed = seal_with(manifest.to_json(), names)
    files.write_files([(root, group_metadata({spec.ATTRIBUTE: sealed}))])


def array_metadata(array: RawArray, chunks: ListedChunks) -> bytes:
    """Return the ``zarr.json`` of an array, with what it lists of its chunks."""
    alike = replace(array, name="", shape=(0, *array.shape[1:]))
    start, middle, end = _around_rows_and_attributes(alike)
    listed = ",\n".join(_lines(key, list_) for key, list_ in chunks.to_json(array).items())
    attributes = f'{{\n    "{spec.ATTRIBUTE}": {{\n{listed}\n    }}\n  }}'
    return f"{start}{array.shape[0]}{middle}{attributes}{end}".encode()


def _lines(key: str, numbers: list[int]) -> str:
    """Return the lines of a list of numbers, for `json` takes longer than all the rest."""
    if not numbers:
        return f'      "{key}": []'
    return f'      "{key}": [\n        ' + ",\n        ".join(map(str, numbers)) + "\n      ]"


@lru_cache(maxsize=16)
def _around_rows_and_attributes(array: RawArray) -> tuple[str, str, str]:
    """Return the text of an array's ``zarr.json`` around the number of rows and the attributes.

    It is the same for all partitions, and takes longer than the rest.
    """
    metadata = array.metadata({})
    metadata["shape"][0] = metadata["attributes"] = _PLACE
    start, middle, end = json.dumps(metadata, indent=2).split(f'"{_PLACE}"')
    return start, middle, end


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """Return the ``zarr.json`` of a group."""
    group = {"attributes": attributes or {}, "zarr_format": 3, "node_type": "group"}
    return _encoded(group)


def _encoded(metadata: dict[str, Any]) -> bytes:
    return json.dumps(metadata, indent=2).encode()
