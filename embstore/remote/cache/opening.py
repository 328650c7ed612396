"""The cache of a store that is being opened, and its words through it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from xxhash import xxh3_128_hexdigest

from embstore.formats.own.listed_files import chunk_files
from embstore.remote.cache.directory import CacheDirectory
from embstore.remote.cache.store_cache import StoreCache
from embstore.remote.cache.words import CachedVocabulary, CachedWordFiles
from embstore.settle import size_text
from embstore.vocabulary.mapped import map_vocabulary
from embstore.wording import parameter

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.contents import Contents
    from embstore.formats.own.manifest import Manifest
    from embstore.vocabulary import Vocabulary


def open_cache(contents: Contents, path: Path, limit: int | None) -> StoreCache:
    """Return the cache of a store.

    Parameters
    ----------
    contents : Contents
        The contents of the store, at a URL.
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
        raise ValueError(f"{parameter('cache_dir')} must be a directory; {path} is a file")
    files = contents.files
    chunks = [chunk for each in contents.listed for chunk in chunk_files(*each)]
    largest = max((chunk.size for chunk in chunks), default=0)
    if limit is not None and limit < largest:
        raise ValueError(
            f"{parameter('cache_limit')} is {size_text(limit)}, but files of this store have up to "
            f"{largest} bytes, and come to the cache whole; make it larger"
        )
    directory = CacheDirectory(path, limit)
    key = store_key(files.where(""), contents.manifest)
    return StoreCache(directory, key, chunks, files.read_many, files.where)


def cached_vocabulary(cache: StoreCache, contents: Contents) -> Vocabulary | None:
    """Return the words of a store: mapped if they are in the cache, else read by blocks.

    Words that are in the cache are checked first, as a whole.
    """
    manifest = contents.manifest.vocabulary
    if manifest is None:
        return None
    files = CachedWordFiles(contents.files, cache, manifest)
    if files.are_on_disk():
        cache.bring(files.numbers)
    if files.are_here():
        return map_vocabulary(cache, manifest)
    return CachedVocabulary(files, cache, manifest)


def store_key(url: str, manifest: Manifest) -> str:
    """Return the name of a store's directory in the cache.

    It tells apart what is at different URLs: checksums notice damage, but a writer at one URL
    could make files that have the checksums of another. It has no credentials in it.
    """
    facts = [url, manifest.fingerprint, manifest.metadata_checksums]
    hashed = xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())
    return hashed if manifest.fingerprint is None else f"{manifest.fingerprint}-{hashed}"
