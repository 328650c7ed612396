"""Objects that note every request, over others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.remote import place, urls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from embstore.remote.objects import ObjectInfo, Objects, Request


class CountedObjects:
    """Objects of which the requests are noted.

    Attributes
    ----------
    ranges : list of Request
        The ranges that were read.
    calls : list of (str, str)
        The other requests: their kind, and the name or prefix.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.ranges: list[Request] = []
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    @property
    def request_count(self) -> int:
        """All requests so far."""
        return len(self.ranges) + len(self.calls)

    def find(self, prefix: str = "") -> list[ObjectInfo]:
        """Return objects, and note it."""
        self.calls.append(("find", prefix))
        return self._objects.find(prefix)

    def head(self, name: str) -> ObjectInfo | None:
        """Return an object, and note it."""
        self.calls.append(("head", name))
        return self._objects.head(name)

    def read(self, name: str, *more: Any, **options: Any) -> bytes:
        """Read an object, and note it."""
        self.calls.append(("read", name))
        return self._objects.read(name, *more, **options)

    def read_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, bytes]]:
        """Read ranges, and note them."""
        self.ranges += requests
        # Backwards, because they may arrive in any order.
        backwards = list(reversed(requests))
        for position, data in self._objects.read_many(backwards):
            yield len(requests) - 1 - position, data

    def clear(self) -> None:
        """Forget what was noted."""
        self.ranges.clear()
        self.calls.clear()


def count_requests(patch: pytest.MonkeyPatch) -> list[CountedObjects]:
    """Have the objects of every URL that is opened from now on noted, and return them."""
    made: list[CountedObjects] = []

    def objects_at(url: str, **options: Any) -> Any:
        made.append(CountedObjects(urls.objects_at(url, **options)))
        return made[-1]

    patch.setattr(place, "objects_at", objects_at)
    return made
