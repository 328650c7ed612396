"""The ``zarr.json`` of arrays and groups, as zarr itself writes them.

zarr creates each array or group in a dictionary in memory, and a build writes the resulting bytes
to disk. So the metadata is exactly zarr's, while every step on disk is a function of
`embstore.writing.files`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from embstore.formats.own import spec
from embstore.formats.own.seals import seal
from embstore.writing import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
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


def array_metadata(array: RawArray, checksums: list[int]) -> bytes:
    """Return the ``zarr.json`` of an array, with the checksums of its chunks."""
    metadata = json.loads(_array_metadata(array.shape, array.dtype.str, array.chunk_rows))
    metadata["attributes"] = {spec.ATTRIBUTE: {spec.CHECKSUMS: checksums}}
    return json.dumps(metadata, indent=2).encode()


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """Return the ``zarr.json`` of a group."""
    import zarr  # noqa: PLC0415  # Slow to import, and not needed for lookups.

    files: dict[str, Any] = {}
    zarr.create_group(files, zarr_format=3, attributes=attributes)
    return bytes(files[spec.METADATA].to_bytes())


@lru_cache(maxsize=8)  # The partitions of a store have one of two lengths.
def _array_metadata(shape: tuple[int, ...], dtype: str, chunk_rows: int) -> bytes:
    import zarr  # noqa: PLC0415
    from zarr.codecs import BytesCodec, Crc32cCodec  # noqa: PLC0415

    files: dict[str, Any] = {}
    zarr.create_array(
        files,
        shape=shape,
        chunks=(chunk_rows, *shape[1:]),
        dtype=dtype,
        filters=None,
        serializer=BytesCodec(endian=None if dtype[1:] in ("i1", "u1") else "little"),
        compressors=[Crc32cCodec()],
        fill_value=0,
        zarr_format=3,
    )
    return bytes(files[spec.METADATA].to_bytes())
