"""Files on an object store: those of a store, or of a model, below one prefix.

1. One listing gives the sizes and the ETags of all. A web server lists nothing: there, files are
   looked at one by one, and the sizes of a store's chunks are those that its metadata states.
2. Every read carries the ETag, so a file that was replaced is an error, and never mixed rows.
3. Small files that will all be read are requested together.
"""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from embstore.errors import StoreCorruptError, StoreNotFoundError
from embstore.formats.own.checked_files import REBUILD
from embstore.formats.own.spec import METADATA
from embstore.remote.objects import ObjectInfo, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.sharded import ListedChunks
    from embstore.remote.objects import Objects

# After looking at so many files one by one, all are listed.
MOST_LOOKS = 4
# Bytes of small files that are kept until they are asked for.
MOST_AHEAD_BYTES = 64 << 20
_UNLISTED = ("http:", "https:")

# One for all counts, since it is seldom taken. A forked child gets a new one, because a thread that
# it does not have may hold the inherited one.
_lock = Lock()


class RemoteFiles:
    """Files below a prefix of some objects.

    Parameters
    ----------
    objects : Objects
        The objects.
    prefix : str
        What their names start with; ``""``, or ends with a slash.
    chosen : tuple of str
        The files whose sizes and ETags are the `identity`.

    Attributes
    ----------
    request_count : int
        Requests for bytes so far, without those that were made again after an error.
    """

    remedy = "is the upload complete?"
    checked = False
    is_remote = True

    def __init__(self, objects: Objects, prefix: str = "", chosen: tuple[str, ...] = ()) -> None:
        self._objects, self._prefix, self.chosen = objects, prefix, chosen
        self._seen: dict[str, ObjectInfo | None] = {}
        self._listed = False
        self._ahead: dict[str, bytes] = {}
        self._counts = [0]

    def __repr__(self) -> str:
        return f"<RemoteFiles {self.where('')}>"

    @property
    def url(self) -> str:
        """The URL of the prefix, without credentials."""
        return self.where("")

    @property
    def request_count(self) -> int:
        """Requests for bytes so far."""
        return self._counts[0]

    @property
    def identity(self) -> tuple[tuple[str, int, str | None], ...]:
        """Name, size and ETag of each of the chosen files."""
        found = ((name, self._found(name)) for name in self.chosen)
        return tuple((name, info.size, info.etag) for name, info in found)

    def check_identity(self, expected: object) -> None:
        """Do nothing: every read carries the ETag of the file."""

    def of(self, names: tuple[str, ...]) -> RemoteFiles:
        """Return the files that a table is in, with what was found of them so far."""
        files = RemoteFiles(self._objects, self._prefix, names)
        files._seen, files._listed = self._seen, self._listed
        return files

    def with_manifest(self, manifest: Manifest) -> RemoteFiles:
        """Return the files of a store whose manifest has been read."""
        return self.of((METADATA,))

    def path(self, name: str) -> None:
        """Return None: no file is on a local disk."""

    def where(self, name: str) -> str:
        """Return the URL of a file."""
        return self._objects.where(f"{self._prefix}{name}".rstrip("/"))

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        return self._look(name) is not None

    def is_link(self, name: str) -> bool:
        """Return False: objects are no links."""
        return False

    def check_directories(self, names: Iterable[str]) -> None:
        """Do nothing: there are no directories."""

    def check_chunk_directories(self, array: object) -> None:
        """Do nothing: there are no directories."""

    def names(self) -> list[str]:
        """Return the names of the files that stand directly below the prefix."""
        self._list()
        return [name for name, info in self._seen.items() if info is not None and "/" not in name]

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file at any depth, by its name."""
        self._list()
        return {name: info.size for name, info in self._seen.items() if info is not None}

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return self._found(name).size

    def read(self, name: str, first: int, count: int) -> bytes:
        """Return ``count`` bytes of a file from byte ``first`` on; fewer where the file ends."""
        ((_, data),) = self.read_many([(name, first, count)])
        return data

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each range and its bytes, as they arrive."""
        requests, places = [], []
        for place, (name, first, count) in enumerate(ranges):
            info = self._found(name)
            there = min(count, info.size - first)
            if there > 0:
                places.append(place)
                requests.append(Request(f"{self._prefix}{name}", first, there, info.etag))
            else:
                yield place, b""
        if not requests:
            return
        with _lock:
            self._counts[0] += len(requests)
        try:
            for at, data in self._objects.read_many(requests):
                yield places[at], data
        except StoreNotFoundError as error:
            raise StoreNotFoundError(
                f"{error}; it was removed since the store was opened: open {self._objects.url} "
                "again"
            ) from error

    def announce(self, names: Iterable[str]) -> None:
        """List all files, and request some small ones that will be read."""
        if not self._objects.url.startswith(_UNLISTED):
            self._list()
        ranges, left = [], MOST_AHEAD_BYTES
        for name in names:
            info = self._look(name)
            if info is not None and info.size <= left:
                ranges.append((name, 0, info.size))
                left -= info.size
        for at, data in self.read_many(ranges):
            self._ahead[ranges[at][0]] = data

    def read_small(self, name: str, most: int) -> bytes:
        """Return all of a file of at most ``most`` bytes."""
        info = self._found(name)
        if info.size > most:
            raise StoreCorruptError(
                f"{self.where(name)} has {info.size} bytes, more than the allowed {most}; {REBUILD}"
            )
        ahead = self._ahead.pop(name, None)
        return self.read(name, 0, info.size) if ahead is None else ahead

    def expect(self, names: list[str], listed: ListedChunks) -> None:
        """Check the sizes of files; their last bytes are not read, which would take requests."""
        assumed = not self._listed and self._objects.url.startswith(_UNLISTED)
        for name, size_bytes in zip(names, listed.sizes, strict=True):
            if assumed:
                self._seen.setdefault(name, ObjectInfo(name, size_bytes))
            found = self._found(name).size
            if found != size_bytes:
                raise StoreCorruptError(
                    f"{self.where(name)} has {found} bytes, expected {size_bytes}; {REBUILD}"
                )

    def check_rest(self) -> None:
        """Do nothing: all files are checked when they are expected."""

    def _found(self, name: str) -> ObjectInfo:
        info = self._look(name)
        if info is None:
            raise StoreCorruptError(f"{self.where(name)} is missing; {self.remedy}")
        return info

    def _look(self, name: str) -> ObjectInfo | None:
        """Return what is known of a file; None if it is missing."""
        if name in self._seen or self._listed:
            return self._seen.get(name)
        unlisted = self._objects.url.startswith(_UNLISTED)
        if len(self._seen) >= MOST_LOOKS and not unlisted:
            self._list()
            return self._seen.get(name)
        info = None
        with suppress(ValueError):  # An index may name what is not the name of an object.
            info = self._objects.head(f"{self._prefix}{name}")
        self._seen[name] = info
        return info

    def _list(self) -> None:
        """Find all files; what was seen of one before must not change."""
        if self._listed:
            return
        start = len(self._prefix)
        found = {info.name[start:]: info for info in self._objects.find(self._prefix)}
        for name, info in self._seen.items():
            if info is not None and name in found and not _is_same(info, found[name]):
                raise StoreNotFoundError(
                    f"{self.where(name)} was replaced while it was opened; open it again"
                )
        self._seen.update(found)
        self._listed = True


def _is_same(one: ObjectInfo, other: ObjectInfo) -> bool:
    return one.size == other.size and one.etag == other.etag


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = Lock()


os.register_at_fork(after_in_child=_forget)
