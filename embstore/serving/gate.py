"""The gate of a server: how many requests run at a time, how much memory they take, its end.

A request that would be one too many waits for a bounded time, and is then refused. So is one whose
rows would need more memory than is left. A request asks for memory once at a time, and gives it
back before it asks again, so requests cannot wait for each other for ever.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING

from embstore.errors import EmbstoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BusyError(EmbstoreError):
    """A server has too many requests at a time."""


class ClosingError(EmbstoreError):
    """A server ends, and takes no more requests."""


class Gate:
    """Counts of what is in use, and their limits.

    Parameters
    ----------
    requests : int
        Requests at a time.
    streams : int
        Streams that are open at a time.
    memory_bytes : int
        Bytes of rows in memory at a time.
    wait_seconds : float
        How long a request waits.
    """

    def __init__(
        self, *, requests: int, streams: int, memory_bytes: int, wait_seconds: float
    ) -> None:
        self._most = {"requests": requests, "streams": streams, "bytes": memory_bytes}
        self._used = dict.fromkeys(self._most, 0)
        self._wait_seconds = wait_seconds
        self._changed = Condition()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether no more requests are taken."""
        return self._is_closed

    def used(self, kind: str) -> int:
        """Return what is in use of ``"requests"``, ``"streams"`` or ``"bytes"``."""
        return self._used[kind]

    @contextmanager
    def request(self) -> Iterator[None]:
        """Run a request.

        Raises
        ------
        BusyError, ClosingError
            If there are too many, or the server ends.
        """
        with self._take("requests", 1, self._wait_seconds):
            yield

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Keep a stream open; errors as `request`, without a wait."""
        with self._take("streams", 1, 0):
            yield

    @contextmanager
    def memory(self, size_bytes: int) -> Iterator[None]:
        """Use memory, at most the whole limit; errors as `request`."""
        # A running request may end, although the server takes no more.
        with self._take("bytes", size_bytes, self._wait_seconds, running=True):
            yield

    def close(self) -> None:
        """Take no more requests."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until no request runs, at most so long; return whether this is so."""
        with self._changed:
            return self._wait(lambda: not self._used["requests"], seconds)

    @contextmanager
    def _take(
        self, kind: str, count: int, seconds: float, *, running: bool = False
    ) -> Iterator[None]:
        most, used = self._most[kind], self._used
        with self._changed:
            self._wait(
                lambda: used[kind] + count <= most or (self._is_closed and not running), seconds
            )
            if self._is_closed and not running:
                raise ClosingError("the server is closing; ask another one")
            if used[kind] + count > most:
                what = {"bytes": f"rows of {used[kind]} bytes"}.get(kind, f"{used[kind]} {kind}")
                raise BusyError(
                    f"the server has {what} at a time, and takes {most}; it was asked for {count} "
                    f"more, and waited {seconds:g} s; ask again, or another one"
                )
            used[kind] += count
        try:
            yield
        finally:
            with self._changed:
                used[kind] -= count
                self._changed.notify_all()

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is done, with the lock held; return whether it is."""
        stop = monotonic() + seconds
        while not is_done():
            if (left := stop - monotonic()) <= 0:
                return False
            self._changed.wait(left)
        return True
