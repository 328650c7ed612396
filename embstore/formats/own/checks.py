"""Checks of a store that need no reading of rows: its metadata, and the ends of its chunk files.

1. No directory inside it is a symbolic link. Every metadata file has the checksum that the manifest
   lists, and describes the manifest's arrays.
2. Every chunk file exists and has the expected size.
3. It ends with the checksum that is listed for it, so a file of another chunk or build is noticed.
   Whether its rows have that checksum is checked by `embstore.verify`, which reads them.
4. A chunk file that is a link is read whole before any of it is used: see `check_linked_chunk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.errors import StoreCorruptError, StoreVersionError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, UPGRADE
from embstore.formats.own.fields import Fields, parse_json
from embstore.formats.own.listed_files import chunk_file, is_whole
from embstore.formats.own.seals import checksum
from embstore.formats.own.sharded import parse_listed

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray
    from embstore.table.protocols import CheckedFiles, StoredFiles


def check_store(
    files: StoredFiles, manifest: Manifest
) -> tuple[tuple[RawArray, ListedChunks], ...]:
    """Check everything in a store but its rows and words.

    Of chunk files, the files get what is listed: `StoredFiles.expect` says when they are checked.

    Returns
    -------
    tuple of (RawArray, ListedChunks)
        Each array, and what its metadata lists of its chunk files.

    Raises
    ------
    StoreCorruptError
        For the first problem found.
    """
    files.announce(manifest.metadata_names())
    check_groups(files, manifest)
    found = []
    for array in manifest.arrays():
        listed = check_array(files, array, manifest)
        files.check_chunk_directories(array)
        files.expect(array.chunk_names(), listed)
        found.append((array, listed))
    return tuple(found)


def check_known(manifest: Manifest, where: Path | str) -> None:
    """Refuse a store with files that this embstore does not know: a new version would lack them.

    Raises
    ------
    StoreVersionError
        If the manifest lists other metadata than that of its own arrays.
    """
    unknown = sorted(manifest.metadata_checksums.keys() - set(manifest.metadata_names()))
    if unknown:
        raise StoreVersionError(
            f"{where} has files that this embstore does not know, such as "
            f"{spec.shown(unknown[0])}; {UPGRADE}"
        )


def check_groups(files: CheckedFiles, manifest: Manifest) -> None:
    """Check the metadata of the arrays' groups; errors as `check_store`."""
    for name in manifest.group_names():
        files.check_directories([name])
        read_metadata(files, f"{name}/{spec.METADATA}", manifest)


def wrong_chunk(where: str, array: RawArray, found: int, listed: int) -> str:
    """Return the message for a chunk file whose checksum is not the listed one."""
    return (
        f"{where}: its checksum is {found:08x}, but {array.metadata_name} lists {listed:08x}: the "
        f"file belongs to another chunk or another build; {REBUILD}"
    )


def wrong_target(where: Path | str) -> str:
    """Return the message for a link to a file with another checksum than the listed one."""
    return (
        f"{where} is a symbolic link to a file that does not have the checksum that the store "
        f"lists: the file is damaged, or another one; {REBUILD}"
    )


def check_linked_chunk(
    where: str, descriptor: int, array: RawArray, chunks: ListedChunks, chunk: int
) -> None:
    """Read the whole target of a link, and compare it with the listed size and checksum.

    Parameters
    ----------
    where : str
        The chunk file that is a link, for messages.
    descriptor : int
        Its open target; the same descriptor is then mapped or read.
    array : RawArray
        The array of the chunk.
    chunks, chunk : ListedChunks, int
        What the array's metadata lists, and the number of the chunk.

    Raises
    ------
    StoreCorruptError
        If the size or the checksum differs.
    """
    if not is_whole(chunk_file(array, chunks, chunk), descriptor):
        raise StoreCorruptError(wrong_target(where))


def check_array(files: CheckedFiles, array: RawArray, manifest: Manifest) -> ListedChunks:
    """Compare an array's metadata with the manifest; return what it lists of its chunks.

    Raises
    ------
    StoreCorruptError
        If the metadata is missing or describes another array.
    """
    files.check_directories([array.name])
    where = files.where(array.metadata_name)
    metadata = read_metadata(files, array.metadata_name, manifest)
    if not isinstance(metadata, dict):
        raise StoreCorruptError(f"{where} is not Zarr metadata; {REBUILD}")
    if differences := array.differences(metadata):
        raise StoreCorruptError(
            f"{where} does not match the manifest: {'; '.join(differences)}; {REBUILD}"
        )
    attributes = metadata.get("attributes")
    own = attributes.get(spec.ATTRIBUTE) if isinstance(attributes, dict) else None
    return parse_listed(array, Fields(own, where, spec.ATTRIBUTE))


def read_metadata(files: CheckedFiles, name: str, manifest: Manifest) -> Any:
    """Return the content of a metadata file, whose checksum the manifest must list.

    Raises
    ------
    StoreCorruptError
        If it is missing, or its checksum differs.
    """
    data, where = files.read_small(name, spec.MAX_METADATA_BYTES), files.where(name)
    expected = manifest.metadata_checksums
    if checksum(data) != expected.get(name):
        if files.is_link(name):  # Its bytes may be anyone's.
            raise StoreCorruptError(wrong_target(where))
        listed = f"{expected[name]:08x}" if name in expected else "none"
        raise StoreCorruptError(
            f"{where} has the checksum {checksum(data):08x}, but the manifest lists {listed}: "
            f"it is damaged, or from another build; {REBUILD}"
        )
    return parse_json(where, data)
