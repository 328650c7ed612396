"""Caches of remote files on a local disk, as the readers of their records see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from embstore.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from embstore.progress import OnProgress
    from embstore.reading.present import Presence

Result = TypeVar("Result")

# A read by range costs as much as this many bytes beside its own: reads that are closer are joined.
REQUEST_BYTES = 64 << 10


class Cache(Protocol):
    """What brings the files of a column, and is told what its lookups use."""

    def used(self, extents: NDArray[np.int64] | int) -> None:
        """Note that records of mapped extents, repeats allowed, or of one, were used."""
        ...

    def missed(self, extents: NDArray[np.int64], costs: NDArray[np.float64]) -> None:
        """Note what was paid, in bytes, for reading from each of some extents by range."""
        ...

    def bring_cheap(self, extents: NDArray[np.int64], costs: NDArray[np.float64]) -> None:
        """Bring those of some extents whose whole files cost less than reading from them would."""
        ...

    def bring(self, extents: Sequence[int], progress: OnProgress | None = None) -> None:
        """Fetch and map extents, as far as that is possible, and return."""
        ...

    def has(self, extents: NDArray[np.int64]) -> bool:
        """Say whether some extents are all on the disk, checked and mapped or not."""
        ...

    def counts(self) -> dict[str, Any]:
        """Return the counts of `LookupStats` that tell of the cache."""
        ...

    def cached_bytes(self) -> int:
        """Return the bytes of the store's files that are in the cache, and mapped."""
        ...


class FileCache(Protocol):
    """A cache of the files of a remote store; see `embstore.remote.cache`."""

    def open(self, name: str, needed_bytes: int) -> int:
        """Return a descriptor of a file that has at least ``needed_bytes``."""
        ...

    def open_each(self, pieces: Sequence[tuple[str, int]]) -> Generator[int]:
        """Yield a descriptor of each of some files, given name and needed bytes; it is closed."""
        ...

    def where(self, name: str) -> str:
        """Return the path of a file, as messages show it."""
        ...

    def column(self, names: Sequence[str], presence: Presence) -> Cache:
        """Return what brings the files of a column's extents; ``""`` for one without a file."""
        ...


def or_from_disk(
    read: Callable[[], Result],
    read_mapped: Callable[[], Result],
    extents: NDArray[np.int64],
    presence: Presence,
    cache: Cache,
) -> Result:
    """Return what ``read()`` returns or, if the object store fails, what is on the disk.

    Files that are in the cache, but were not checked yet, are brought first.

    Parameters
    ----------
    read, read_mapped : callable
        Read by range, and from the mapping.
    extents : ndarray of int64, shape (n,)
        What they read from.
    presence, cache
        As of `CachedRecords`.
    """
    try:
        return read()
    except RemoteError:
        wanted = np.unique(extents)
        if not cache.has(wanted):
            raise
        cache.bring(wanted.tolist())
        version = presence.version
        if not presence.here[wanted].all():
            raise
        found = read_mapped()
        if presence.version != version:
            raise
        return found
