"""Remote stores with a cache, over the files of a local store, that tests can count and break."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from embstore.contents import read_contents
from embstore.errors import RemoteError
from embstore.formats.own.listed_files import chunk_files
from embstore.reading.files import StoreFiles
from embstore.reading.readers import read_records
from embstore.remote.cache.directory import ROOT_NAME, CacheDirectory
from embstore.remote.cache.opening import store_key
from embstore.remote.cache.store_cache import StoreCache
from embstore.store import EmbeddingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


class FarFiles(StoreFiles):
    """Files of a store that are read by range, as from an object store.

    Attributes
    ----------
    requests : list of (str, int, int)
        What was read: names, first bytes and byte counts.
    is_down : bool
        Whether reads fail.
    on_read : callable or None
        Called with the name, first byte and bytes of each read; returns those to give instead.
    """

    checked = False

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.requests: list[tuple[str, int, int]] = []
        self.is_down = False
        self.on_read: Callable[[str, int, bytes], bytes] | None = None

    def read(self, name: str, first: int, count: int) -> bytes:
        if self.is_down:
            raise RemoteError(f"{self.where(name)} cannot be reached")
        self.requests.append((name, first, count))
        data = super().read(name, first, count)
        return data if self.on_read is None else self.on_read(name, first, data)

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, bytes]]:
        # The last one first: nothing may depend on their order.
        for at in reversed(range(len(ranges))):
            yield at, self.read(*ranges[at])

    @property
    def read_bytes(self) -> int:
        """Bytes read so far."""
        return sum(count for _, _, count in self.requests)

    def whole_reads(self, chunk_bytes: int) -> Counter[str]:
        """Return how often each file was read as a whole, in one piece."""
        return Counter(
            name for name, first, count in self.requests if not first and count >= chunk_bytes
        )


class Inline:
    """Threads that do their work when it is handed over."""

    def get(self) -> Inline:
        return self

    def submit(self, work: Any) -> None:
        work()


class Far:
    """A store that was opened through a cache.

    Attributes
    ----------
    store : EmbeddingStore
        The store.
    files : FarFiles
        Its files.
    cache : StoreCache
        Its cache.
    """

    def __init__(
        self, path: Path, cache_dir: Path, limit: int | None = None, **options: Any
    ) -> None:
        contents = read_contents(StoreFiles(path))
        manifest = contents.manifest
        self.files = files = FarFiles(path, manifest)
        chunks = [chunk for each in contents.listed for chunk in chunk_files(*each)]
        self.cache = StoreCache(
            CacheDirectory(cache_dir, limit),
            store_key("s3://far/away", manifest),
            chunks,
            files.read_many,
            files.where,
        )
        records = read_records(contents.table, files, cache=self.cache, **options)
        self.store = EmbeddingStore(
            path,
            contents.table,
            files,
            records,
            (_not_pickled, ()),
            manifest=manifest,
            vocabulary=contents.vocabulary,
        )


def _not_pickled(*_: Any) -> EmbeddingStore:
    raise NotImplementedError


def files_in(cache_dir: Path) -> list[Path]:
    """Return the chunk files of a cache, those that are being fetched included."""
    root = cache_dir / ROOT_NAME
    found = root.rglob("*") if root.exists() else iter(())
    return sorted(path for path in found if path.is_file() and path.name != "lock")


def size_of(cache_dir: Path) -> int:
    """Return the bytes of all files of a cache, while no process adds or removes any."""
    return sum(entry.size for entry in CacheDirectory(cache_dir).entries())
