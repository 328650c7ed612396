"""The cache of a store that is being opened: what of its metadata the cache needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from xxhash import xxh3_128_hexdigest

from embstore.formats.own.checks import check_array
from embstore.remote.cache.chunk_files import list_chunk_files
from embstore.remote.cache.directory import CacheDirectory
from embstore.remote.cache.store_cache import StoreCache
from embstore.settle import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest


class RemoteStoreFiles(Protocol):
    """The files of a store on an object store."""

    def where(self, name: str) -> str:
        """Return the URL of a file; of ``""``, that of them all."""
        ...

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each range and its bytes."""
        ...


def open_cache(
    files: RemoteStoreFiles, manifest: Manifest, path: Path, limit: int | None
) -> StoreCache:
    """Return the cache of a store.

    Parameters
    ----------
    files : RemoteFiles
        The files of the store.
    manifest : Manifest
        Its manifest.
    path : Path
        The directory of the cache; it is made when the first file comes.
    limit : int, optional
        Most bytes of all files in it.

    Raises
    ------
    ValueError
        If the path is not a directory, or the limit is smaller than a file of the store.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"cache_dir must be a directory; {path} is a file")
    chunks = [
        chunk
        for array in manifest.arrays()
        for chunk in list_chunk_files(array, check_array(files, array, manifest))
    ]
    largest = max((chunk.size for chunk in chunks), default=0)
    if limit is not None and limit < largest:
        raise ValueError(
            f"cache_limit is {size_text(limit)}, but files of this store have up to {largest} "
            "bytes, and come to the cache whole; make it larger"
        )
    directory = CacheDirectory(path, limit)
    return StoreCache(
        directory, store_key(files.where(""), manifest), chunks, files.read_many, files.where
    )


def store_key(url: str, manifest: Manifest) -> str:
    """Return the name of a store's directory in the cache.

    It tells apart what is at different URLs: checksums notice damage, but whoever writes to one URL
    could make files that have the checksums of another. It has no credentials in it.
    """
    facts = [url, manifest.fingerprint, manifest.metadata_checksums]
    hashed = xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())
    return hashed if manifest.fingerprint is None else f"{manifest.fingerprint}-{hashed}"
