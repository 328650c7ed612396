"""Objects below one URL, and what can be done with them.

`embstore.remote.object_store` does it by obstore, `embstore.remote.directory` in a local directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object: its name below the URL and its size in bytes; its ETag and last change if known.

    ``modified`` has a time zone.
    """

    name: str
    size: int
    etag: str | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes of an object: its name, first byte and byte count, and its ETag if that is known."""

    name: str
    first: int
    count: int
    etag: str | None = None


class Objects(Protocol):
    """The objects below one URL.

    Every method raises `RemoteError` if the object store cannot be reached, refuses or answers
    wrongly, after it has tried again where that may help.
    """

    @property
    def url(self) -> str:
        """The URL, without credentials, as messages show it."""
        ...

    def where(self, name: str) -> str:
        """Return the URL of an object, as messages show it."""
        ...

    def find(self, prefix: str = "") -> list[ObjectInfo]:
        """Return all objects whose names start with ``prefix``, at any depth, sorted by name."""
        ...

    def directories(self) -> list[str]:
        """Return the first parts of the names of objects that have a ``/`` in them."""
        ...

    def head(self, name: str) -> ObjectInfo | None:
        """Return an object, or None if it is missing."""
        ...

    def read(
        self, name: str, first: int = 0, count: int | None = None, *, etag: str | None = None
    ) -> bytes:
        """Return ``count`` bytes of an object from byte ``first`` on, or all that follow.

        Raises
        ------
        StoreNotFoundError
            If there is no such object.
        RemoteError
            If there are fewer bytes, or the object has another ETag.
        """
        ...

    def read_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each request and its bytes, as they arrive.

        At most 32 requests are in flight at a time, over all calls of the process. Errors are those
        of `read`; after one, the rest is cancelled.
        """
        ...

    def put(
        self,
        name: str,
        data: bytes | Path,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> ObjectInfo | None:
        """Write an object from bytes or a file; return it.

        With ``if_absent``, or with the ETag that it must have, return None if another writer was
        first.
        """
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy an object on the server."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        ...
