"""Published versions as they are found on an object store: what they hold, and what of it is whole.

Nothing that is read here is trusted: metadata must have the checksums that the root metadata lists,
and the root metadata its own. A version that cannot be understood is of no use for copies.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from embstore.errors import RemoteError, StoreCorruptError, StoreError, StoreNotFoundError
from embstore.formats.own import spec
from embstore.formats.own.fields import Fields, parse_json
from embstore.formats.own.layout import layout_of
from embstore.formats.own.listed_files import chunk_files
from embstore.formats.own.manifest import parse_manifest
from embstore.formats.own.seals import checksum
from embstore.formats.own.sharded import parse_listed
from embstore.remote.objects import Request
from embstore.remote.pointer import root_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embstore.formats.own.listed_files import ListedFile
    from embstore.remote.local_store import LocalStore
    from embstore.remote.objects import ObjectInfo, Objects

# Copies are looked for in this many versions, the newest ones.
MAX_SEARCHED = 8
_REMEDY = "delete it and all objects beside and below it, and publish again"


def check_same(objects: Objects, store: LocalStore) -> None:
    """Check that the version of a store's name, which is complete, is that store.

    Raises
    ------
    StoreCorruptError
        If its root metadata is damaged, or is that of another store.
    """
    name = root_name(store.version)
    info = objects.head(name)
    if info is None:
        return  # Removed meanwhile.
    try:
        data = _read_root(objects, info)
    except StoreNotFoundError:
        return  # As above.
    try:
        manifest = parse_manifest(parse_json(objects.where(name), data), objects.where(name))
    except StoreError as error:
        raise StoreCorruptError(f"{error}; or {_REMEDY}") from error
    if layout_of(manifest) != layout_of(store.manifest) or manifest.fingerprint not in (
        None,
        store.fingerprint,
    ):
        raise StoreCorruptError(
            f"{objects.where(name)} is not of the store that its name says; {_REMEDY}"
        )


def whole_files(objects: Objects, store: LocalStore, found: dict[str, ObjectInfo]) -> set[str]:
    """Return the names of chunk files that an unfinished publish has left, and that can be used.

    An object has the bytes of one upload, and only stores with the same bytes have the same name.
    So the size, and the last four bytes, which are a checksum, tell whether an object is the file.

    Parameters
    ----------
    objects : Objects
        Where they are.
    store : LocalStore
        The store.
    found : dict of str to ObjectInfo
        The objects that were found below its name, by their names inside the store.
    """
    chunks = (file for file in store.files if file.is_chunk)
    return set(_with_tails(objects, {one: found[one.name] for one in chunks if one.name in found}))


def find_copies(
    objects: Objects, store: LocalStore, wanted: Iterable[ListedFile], roots: list[ObjectInfo]
) -> dict[str, str]:
    """Return where published versions have chunks of a store, by their names inside the store.

    Parameters
    ----------
    objects : Objects
        Where the versions are.
    store : LocalStore
        The store.
    wanted : iterable of ListedFile
        The chunks to look for.
    roots : list of ObjectInfo
        The root metadata of the versions, those to prefer first.
    """
    left = {file for file in wanted if file.is_chunk}
    copies: dict[str, str] = {}
    for root in roots[:MAX_SEARCHED]:
        if not left:
            break
        version = root.name.partition("/")[0]
        # Another version may be damaged, newer than this embstore, or be removed meanwhile.
        with suppress(RemoteError, StoreError):
            same = left & set(_chunks(objects, store, root))
            found = {info.name: info for info in objects.find(f"{version}/")} if same else {}
            sources = {chunk: found.get(f"{version}/{chunk.name}") for chunk in same}
            there = {chunk: info for chunk, info in sources.items() if info is not None}
            copies |= _with_tails(objects, there)
            left = {chunk for chunk in left if chunk.name not in copies}
    return copies


def _with_tails(objects: Objects, found: dict[ListedFile, ObjectInfo]) -> dict[str, str]:
    """Return the objects that have the size and the last four bytes of a chunk, by its name."""
    some = [(chunk, info) for chunk, info in found.items() if info.size == chunk.size]
    requests = [
        Request(info.name, info.size - spec.CHECKSUM_BYTES, spec.CHECKSUM_BYTES, info.etag)
        for _, info in some
    ]
    same = {}
    # An object that has changed meanwhile, or cannot be read, is uploaded again, as all others.
    with suppress(RemoteError, StoreError):
        for place, data in objects.read_many(requests):
            chunk, info = some[place]
            if int.from_bytes(data, "little") == chunk.tail:
                same[chunk.name] = info.name
    return same


def _chunks(objects: Objects, store: LocalStore, root: ObjectInfo) -> Iterator[ListedFile]:
    """Yield the chunks of a version, of the arrays that the store has too."""
    version = root.name.partition("/")[0]
    manifest = parse_manifest(parse_json(root.name, _read_root(objects, root)), root.name)
    ours, theirs = store.manifest.metadata_checksums, manifest.metadata_checksums
    arrays = {array.name: array for array in store.manifest.arrays()}
    others = []
    for array in manifest.arrays():
        name = array.metadata_name
        if array.name not in arrays:
            continue
        if theirs.get(name) == ours[name]:  # Then the lists of their chunks are equal, too.
            yield from chunk_files(arrays[array.name], store.chunks[array.name])
            continue
        info = objects.head(f"{version}/{name}")
        if info is not None and info.size <= spec.MAX_METADATA_BYTES:
            others.append((array, Request(info.name, 0, info.size, info.etag)))
    for place, data in objects.read_many([request for _, request in others]):
        array, request = others[place]
        if checksum(data) == theirs.get(array.metadata_name):
            where = objects.where(request.name)
            metadata = parse_json(where, data)
            listed = parse_listed(array, Fields(_own(metadata), where, spec.ATTRIBUTE))
            yield from chunk_files(array, listed)


def _own(metadata: object) -> object:
    attributes = metadata.get("attributes") if isinstance(metadata, dict) else None
    return attributes.get(spec.ATTRIBUTE) if isinstance(attributes, dict) else None


def _read_root(objects: Objects, root: ObjectInfo) -> bytes:
    if root.size > spec.MAX_METADATA_BYTES:
        raise StoreCorruptError(
            f"{objects.where(root.name)} has {root.size} bytes, more than the "
            f"{spec.MAX_METADATA_BYTES} allowed; {_REMEDY}"
        )
    return objects.read(root.name, 0, root.size, etag=root.etag)
