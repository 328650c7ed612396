"""The ``zarr.json`` of arrays and groups, byte for byte as zarr writes them.

zarr itself would write them on an event loop in a thread. That fails under gevent, where no thread
can be started, and while the interpreter ends. A test compares the bytes with zarr's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from embstore.formats.own import spec
from embstore.formats.own.seals import seal
from embstore.writing import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray


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
    files.write_files(arrays)
    group = group_metadata()
    root, *others = (path / name / spec.METADATA for name in groups)
    files.write_files((where, group) for where in others)
    sealed = seal(path, manifest.to_json(), manifest.metadata_names())
    files.write_files([(root, group_metadata({spec.ATTRIBUTE: sealed}))])


def array_metadata(array: RawArray, chunks: ListedChunks) -> bytes:
    """Return the ``zarr.json`` of an array, with what it lists of its chunks."""
    return _encoded(array.metadata({spec.ATTRIBUTE: chunks.to_json(array)}))


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """Return the ``zarr.json`` of a group."""
    group = {"attributes": attributes or {}, "zarr_format": 3, "node_type": "group"}
    return _encoded(group)


def _encoded(metadata: dict[str, Any]) -> bytes:
    return json.dumps(metadata, indent=2).encode()
