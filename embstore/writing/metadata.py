"""What does zarr say about an array or a group? Asked of zarr itself, in memory.

zarr makes the arrays and groups of a store in a dictionary, and what it puts there is written to
disk as it is: so the metadata is zarr's, and every step on disk is the build's own.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from embstore.formats.own import spec

if TYPE_CHECKING:
    from embstore.formats.own.spec import RawArray


def array_metadata(array: RawArray, checksums: list[int]) -> bytes:
    """Return the ``zarr.json`` of an array whose chunks have these checksums."""
    metadata = json.loads(_array_metadata(array.shape, array.dtype.str, array.chunk_rows))
    metadata["attributes"] = {spec.ATTRIBUTE: {spec.CHECKSUMS: checksums}}
    return json.dumps(metadata, indent=2).encode()


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """Return the ``zarr.json`` of a group."""
    import zarr  # noqa: PLC0415  # Slow to import, and not needed to look rows up.

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
