"""A call's bounds: when it ends, and whether the rest of it is still wanted.

A call asks several servers at the same time, and one of them several times, such as for the ids of
words and then for their rows. All of that ends at one deadline. When one part has failed, the
others are cancelled: the arrays that they fill belong to the caller again once the error is raised.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from threading import Event, local
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Call:
    """One call of a user.

    Parameters
    ----------
    seconds : float
        How long it may take.
    spent : float
        Seconds of these that have passed.
    """

    def __init__(self, seconds: float, spent: float = 0.0) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds - spent
        self._stopped = Event()
        self._readers: list[Any] = []

    @property
    def left(self) -> float:
        """Seconds until the deadline, 0 or less once it has passed."""
        return self._end - time.monotonic()

    @property
    def is_stopped(self) -> bool:
        """Whether the rest is not wanted any more."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Cancel what is under way; safe to call from any thread, and more than once."""
        self._stopped.set()
        for reader in tuple(self._readers):
            with suppress(Exception):  # It has ended meanwhile.
                reader.cancel()

    def pause(self, seconds: float) -> None:
        """Wait; less where the call is stopped or its deadline comes."""
        self._stopped.wait(max(min(seconds, self.left), 0))

    @contextmanager
    def reading(self, reader: Any) -> Iterator[None]:
        """Let `stop` cancel a reader meanwhile."""
        self._readers.append(reader)
        try:
            if self.is_stopped:  # Before it was in the list.
                reader.cancel()
            yield
        finally:
            self._readers.remove(reader)


class Calls:
    """Begins the calls of a connection, and has what belongs together end at one deadline.

    Parameters
    ----------
    seconds : float
        How long a call may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begun = local()

    def begin(self) -> Call:
        """Return a call; of a thread that is in `one`, with the time that is left of that."""
        begun = getattr(self._begun, "time", None)
        return Call(self.seconds, 0.0 if begun is None else time.monotonic() - begun)

    @contextmanager
    def one(self, begun: float | None = None) -> Iterator[None]:
        """Have all calls that this thread begins meanwhile end as one that began at a time, or now.

        Inside another one, this does nothing.
        """
        if getattr(self._begun, "time", None) is not None:
            yield
            return
        self._begun.time = time.monotonic() if begun is None else begun
        try:
            yield
        finally:
            self._begun.time = None
