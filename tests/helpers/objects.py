"""Objects in memory, and objects that fail or let others act at a chosen call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Condition, Lock, Semaphore, Thread, current_thread
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError, StoreNotFoundError
from embstore.remote.objects import ObjectInfo

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from embstore.remote.objects import Request

START = datetime(2026, 1, 1, tzinfo=UTC)
# What changes something at the URL.
CHANGES = ("put", "copy", "delete")


class MemoryObjects:
    """Objects in memory, each changed a minute after the one before."""

    url = "memory://bucket/tables"

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.infos: dict[str, ObjectInfo] = {}
        self._numbers = count()
        self._lock = Lock()
        self.now = START

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    def find(self, prefix: str = "") -> list[ObjectInfo]:
        with self._lock:
            return sorted(
                (info for name, info in self.infos.items() if name.startswith(prefix)),
                key=lambda info: info.name,
            )

    def directories(self) -> list[str]:
        return sorted({info.name.split("/")[0] for info in self.find() if "/" in info.name})

    def head(self, name: str) -> ObjectInfo | None:
        return self.infos.get(name)

    def read(
        self, name: str, first: int = 0, count: int | None = None, *, etag: str | None = None
    ) -> bytes:
        with self._lock:
            if name not in self.data:
                raise StoreNotFoundError(f"no object {self.where(name)}")
            data, info = self.data[name], self.infos[name]
        if etag is not None and info.etag != etag:
            raise RemoteError(f"{self.where(name)} has another ETag")
        if count is not None and first + count > len(data):
            raise RemoteError(f"{self.where(name)} has too few bytes")
        return data[first:] if count is None else data[first : first + count]

    def read_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, bytes]]:
        for place in reversed(range(len(requests))):
            one = requests[place]
            yield place, self.read(one.name, one.first, one.count, etag=one.etag)

    def put(
        self,
        name: str,
        data: bytes | Path,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> ObjectInfo | None:
        content = data.read_bytes() if isinstance(data, Path) else data
        with self._lock:
            before = self.infos.get(name)
            if if_absent and before is not None:
                return None
            if if_match is not None and (before is None or before.etag != if_match):
                return None
            return self._set(name, content)

    def copy(self, source: str, target: str) -> None:
        with self._lock:
            if source not in self.data:
                raise StoreNotFoundError(f"no object {self.where(source)}")
            self._set(target, self.data[source])

    def delete(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self.data.pop(name, None)
                self.infos.pop(name, None)

    def _set(self, name: str, data: bytes) -> ObjectInfo:
        self.now += timedelta(minutes=1)
        info = ObjectInfo(name, len(data), f'"{next(self._numbers)}"', self.now)
        self.data[name], self.infos[name] = data, info
        return info


class WatchedObjects:
    """Objects whose calls are counted, and passed to a function first.

    Parameters
    ----------
    objects : MemoryObjects
        The objects.
    before : callable
        Called with the number of the call, from 0, its name and its arguments; may raise.
    only : tuple of str
        The methods that count.
    """

    def __init__(
        self,
        objects: Any,
        before: Callable[[int, str, tuple[Any, ...]], None] = lambda *_: None,
        only: tuple[str, ...] = CHANGES,
    ) -> None:
        self.objects = objects
        self.url = objects.url
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._before, self._only = before, only
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.objects, name)
        if name not in self._only:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                number = len(self.calls)
                self.calls.append((name, arguments))
            self._before(number, name, arguments)
            return found(*arguments, **options)

        return call


class Turns:
    """Threads whose calls of objects take turns, one at a time, in a random order.

    Parameters
    ----------
    chosen : random.Random
        Chooses who is next.
    ending : type of exception, optional
        What ends a thread instead of one in sixty of its calls.
    """

    def __init__(self, chosen: random.Random, ending: type[BaseException] | None = None) -> None:
        self._chosen, self._ending = chosen, ending
        self._gates: dict[str, Semaphore] = {}  # Of each thread that waits for its turn.
        self._changed = Condition()
        self._errors: list[BaseException] = []
        self._left = 0

    def watch(self, objects: Any) -> WatchedObjects:
        """Return objects whose calls wait for a turn."""
        every = (*CHANGES, "find", "head", "read", "read_many", "directories")
        return WatchedObjects(objects, lambda *_: self._wait(), every)

    def run(self, works: Sequence[Callable[[], object]]) -> list[BaseException]:
        """Do all works, each on a thread; return their errors."""
        self._left = len(works)
        threads = [
            Thread(target=self._do, args=(work,), name=f"turn-{number}", daemon=True)
            for number, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        while self._left:
            with self._changed:
                assert self._changed.wait_for(lambda: len(self._gates) == self._left, 600)
                if self._gates:
                    self._gates.pop(self._chosen.choice(sorted(self._gates))).release()
        for thread in threads:
            thread.join()
        return self._errors

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._errors.append(error)
        with self._changed:
            self._left -= 1
            self._changed.notify()

    def _wait(self) -> None:
        gate = Semaphore(0)
        with self._changed:
            self._gates[current_thread().name] = gate
            self._changed.notify()
        gate.acquire()
        # Only the thread whose turn it is chooses.
        if self._ending is not None and self._chosen.random() < 1 / 60:
            raise self._ending
