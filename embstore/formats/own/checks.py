"""What can be seen of a store without reading its rows?

1. Nothing inside it is a symbolic link, and every metadata file is the one that the manifest's
   checksums mean, and describes the manifest's arrays.
2. Every chunk file is there and has its size.
3. It ends in the checksum that is listed for it: another chunk's file, or one of another build,
   does not. Whether its rows have that checksum, only reading them tells: `embstore.verify`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, check_directories, open_checked, read_small
from embstore.formats.own.fields import Fields, parse_json
from embstore.formats.own.seals import checksum

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.spec import RawArray


def check_store(store: Path, manifest: Manifest) -> None:
    """Check all of a store that needs no reading of rows.

    Raises
    ------
    StoreCorruptError
        For the first thing that is not as it should be.
    """
    check_groups(store, manifest)
    for array in manifest.arrays():
        check_chunks(store, array, check_array(store, array, manifest))


def check_groups(store: Path, manifest: Manifest) -> None:
    """Check the metadata of the groups that the arrays are in; errors as `check_store`."""
    for name in manifest.group_names():
        check_directories(store, [name])
        read_metadata(store, f"{name}/{spec.METADATA}", manifest)


def check_chunks(store: Path, array: RawArray, checksums: list[int]) -> None:
    """Check that an array's chunk files are there, and end in their checksums.

    Raises
    ------
    StoreCorruptError
        For the first that is missing, of another size, or another chunk's.
    """
    check_directories(store, array.directory_names())
    chunk_bytes, file_bytes = array.chunk_bytes, array.file_bytes
    for chunk, listed in enumerate(checksums):
        where = f"{store}/{array.chunk_name(chunk)}"
        descriptor = open_checked(where, file_bytes)
        try:
            os.lseek(descriptor, chunk_bytes, os.SEEK_SET)
            tail = os.read(descriptor, spec.CHECKSUM_BYTES)
        finally:
            os.close(descriptor)
        found = int.from_bytes(tail, "little")
        if found != listed:
            raise StoreCorruptError(wrong_chunk(where, array, found, listed))


def wrong_chunk(where: Path | str, array: RawArray, found: int, listed: int) -> str:
    """Say that a chunk file has another checksum than the one that is listed for it."""
    return (
        f"{where}: its checksum is {found:08x}, but {array.metadata_name} lists {listed:08x}: it "
        f"is another chunk's, or another build's; {REBUILD}"
    )


def check_array(store: Path, array: RawArray, manifest: Manifest) -> list[int]:
    """Compare an array's metadata with what the manifest says; return its chunks' checksums.

    Raises
    ------
    StoreCorruptError
        If the metadata is missing or describes another array.
    """
    check_directories(store, [array.name])
    where = f"{store}/{array.metadata_name}"
    metadata = read_metadata(store, array.metadata_name, manifest)
    if not isinstance(metadata, dict):
        raise StoreCorruptError(f"{where} is not Zarr metadata; {REBUILD}")
    if differences := array.differences(metadata):
        raise StoreCorruptError(
            f"{where} is not the manifest's array: {'; '.join(differences)}; {REBUILD}"
        )
    attributes = metadata.get("attributes")
    own = attributes.get(spec.ATTRIBUTE) if isinstance(attributes, dict) else None
    checksums = Fields(own, where, spec.ATTRIBUTE).integers(spec.CHECKSUMS)
    if len(checksums) != array.chunk_count:
        raise StoreCorruptError(
            f"{where} lists {len(checksums)} checksums for {array.chunk_count} chunks; {REBUILD}"
        )
    return checksums


def read_metadata(store: Path, name: str, manifest: Manifest) -> Any:
    """Return what a metadata file beside the manifest holds, if it is the one that was written.

    Raises
    ------
    StoreCorruptError
        If it is missing, or not what it was.
    """
    # Not a Path: with many partitions, making those would take a third of the time of an open.
    where = f"{store}/{name}"
    data = read_small(where, spec.MAX_METADATA_BYTES)
    expected = manifest.metadata_checksums
    if checksum(data) != expected.get(name):
        listed = f"{expected[name]:08x}" if name in expected else "nothing of it"
        raise StoreCorruptError(
            f"{where} has the checksum {checksum(data):08x}, the manifest says {listed}: it is "
            f"damaged, or another build's; {REBUILD}"
        )
    return parse_json(where, data)
