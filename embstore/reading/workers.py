"""Helper threads for large lookups, shared by all stores of the process.

They are started when first needed, and again in a forked child, which does not inherit them. A
thread that asks for help works too, and does not wait for helpers that have not started. A helper
may ask for help in turn, as the sums of bags do when they look rows up. Helpers that look rows up
ask for none, so helpers cannot block each other.

An error in one thread stops all of them before the call raises, because its arguments may change
afterwards.

Handing work over is part of the cost of a lookup, so the threads wait at a `queue.SimpleQueue`,
which takes two thirds of the time of a ``ThreadPoolExecutor``.
"""

from __future__ import annotations

import os
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Result = TypeVar("Result")

# Threads that wait for the disk; gathering rows that are in memory uses one for each processor.
THREAD_COUNT = 8


class Help(Generic[Result]):
    """Work that was handed over; made by `submit`.

    Attributes
    ----------
    ended : bool
        Whether it has started and ended.
    """

    __slots__ = ("_claim", "_done", "_error", "_result", "_work", "ended")

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work: Callable[[], Result] | None = work
        self._claim = Lock()  # Its holder does the work, or calls it off.
        self._done = Lock()
        self._done.acquire()
        self.ended = False
        self._error: BaseException | None = None
        self._result: Result

    def begin(self) -> None:
        """Do the work, unless it was called off."""
        if not self._claim.acquire(blocking=False):
            return
        work, self._work = self._work, None
        assert work is not None  # Only the holder of the claim takes it.
        try:
            self._result = work()
        except BaseException as error:  # Raised where the result is asked for.
            self._error = error
        self.ended = True
        self._done.release()

    def call_off(self) -> bool:
        """Call off the work; return whether this came before its start."""
        if not self._claim.acquire(blocking=False):
            return False
        self._work = None  # It may be queued for long, and must not keep a result alive.
        return True

    def wait(self) -> None:
        """Wait for the end of the work, which has started."""
        # `ended` decides, not the lock: a signal handler may raise when the lock is acquired.
        while not self.ended:
            self._done.acquire()

    def result(self) -> Result:
        """Return the result of the work, which has ended, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result


_lock = Lock()
_asked: SimpleQueue[Help[Any]] | None = None


def processor_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def submit(work: Callable[[], Result]) -> Help[Result]:
    """Have a helper do ``work``."""
    asked = _asked or _start()
    help = Help(work)
    asked.put(help)
    return help


def together(works: Sequence[Callable[[], Result]], stop: Callable[[], None]) -> list[Result]:
    """Do the first work here, and the others on free helpers; return the results of those done.

    Parameters
    ----------
    works : sequence of callables
        Each drains a shared queue, so any subset may run.
    stop : callable
        Empties the queue. It is called when one has failed or a signal handler has raised; the
        error is raised after all threads have stopped.
    """

    def guarded(work: Callable[[], Result]) -> Result:
        try:
            return work()
        except BaseException:
            stop()
            raise

    helpers: list[Help[Result]] = []
    try:
        for work in works[1:]:
            helpers.append(submit(partial(guarded, work)))  # noqa: PERF401  # Keeps those before an error.
        own = guarded(works[0])
    except BaseException:
        stop()
        raise
    finally:
        begun = _finish(helpers, stop)
    return [own, *(helper.result() for helper in begun)]


def _finish(helpers: list[Help[Result]], stop: Callable[[], None]) -> list[Help[Result]]:
    """Call off the helpers that have not started, wait for the others, and return those."""
    begun = [helper for helper in helpers if not helper.call_off()]
    interrupt: BaseException | None = None
    for helper in begun:
        while not helper.ended:
            try:
                helper.wait()
            except BaseException as error:  # A signal handler has raised, as for Ctrl-C.
                stop()
                interrupt = error
    if interrupt is not None:
        raise interrupt
    return begun


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


os.register_at_fork(after_in_child=_forget)
