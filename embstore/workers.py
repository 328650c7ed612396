"""Who helps with a large lookup? A few threads that all stores of the process share.

They are started when first needed, and again in a child after a fork, which has none of them.
Whoever asks for help works itself too, and does not wait for helpers that have not begun. A helper
may ask for help in turn, as the sums of bags do when they look rows up; those that look rows up ask
for none, so helpers cannot block each other.

Handing work over is part of what a lookup costs, so the threads wait at a `queue.SimpleQueue`,
which takes two thirds of the time of a ``ThreadPoolExecutor``.
"""

from __future__ import annotations

import os
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Result = TypeVar("Result")

# Threads that wait for the disk; gathering rows that are in memory uses one for each processor.
THREAD_COUNT = 8


class Help(Generic[Result]):
    """Work that was handed over; made by `submit`."""

    __slots__ = ("_claim", "_done", "_error", "_result", "_work")

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._claim = Lock()  # Whoever gets it does the work, or calls it off.
        self._done = Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._result: Result

    def begin(self) -> None:
        """Do the work, unless it was called off."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._result = self._work()
        except BaseException as error:  # Raised where the result is asked for.
            self._error = error
        self._done.release()

    def call_off(self) -> bool:
        """Say that the work is not needed; return whether it had not begun."""
        return self._claim.acquire(blocking=False)

    def result(self) -> Result:
        """Wait for the work that has begun; return its result, or raise its error."""
        with self._done:
            if self._error is not None:
                raise self._error
            return self._result


_lock = Lock()
_asked: SimpleQueue[Help[Any]] | None = None


def processor_count() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def submit(work: Callable[[], Result]) -> Help[Result]:
    """Have a helper do ``work``."""
    asked = _asked or _start()
    help = Help(work)
    asked.put(help)
    return help


def finish(helpers: Sequence[Help[Result]]) -> list[Result]:
    """Call off the helpers that have not begun; return what the others returned, or raise it."""
    begun = [helper for helper in helpers if not helper.call_off()]
    return [helper.result() for helper in begun]


def _start() -> SimpleQueue[Help[Any]]:
    global _asked  # noqa: PLW0603  # One for the process.
    with _lock:
        if _asked is None:
            asked: SimpleQueue[Help[Any]] = SimpleQueue()
            for number in range(THREAD_COUNT):
                # Daemons, so that they do not keep a process from ending.
                Thread(target=_serve, args=(asked,), name=f"embstore_{number}", daemon=True).start()
            _asked = asked
        return _asked


def _serve(asked: SimpleQueue[Help[Any]]) -> None:
    while True:
        asked.get().begin()


def _forget() -> None:
    global _asked, _lock
    _asked, _lock = None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
