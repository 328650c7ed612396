"""Requests: how many are in flight, how long they are tried, and results as they arrive.

1. At most 32 requests of the process are in flight; a `slot` is one of them.
2. `attempts` tries one again where that may help, with growing pauses, until a time is over.
3. `arrivals` has many made by 32 threads, which all calls share. A call hands over some more than
   are in flight, and one more for each that arrived, so that a call of many holds up no other.
   After an error, or when the caller stops early, the rest is dropped.
"""

from __future__ import annotations

import os
import random
import time
from _queue import Empty, SimpleQueue
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, Semaphore
from typing import TYPE_CHECKING, TypeVar

from embstore.errors import RemoteError
from embstore.threads import LazyPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embstore.remote.failures import Failure

IN_FLIGHT = 32
_AHEAD = 16  # Requests that a call hands over beyond those in flight.
_MAX_ATTEMPTS = 16  # With the pauses below, 30 s are over before.
_ATTEMPTS_MAX = {"again": _MAX_ATTEMPTS, "doubtful": 3, "unknown": 3}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # Seconds.
_WAKE_SECONDS = 1.0  # How often a caller sees whether the threads are still there.

Result = TypeVar("Result")
slot = Semaphore(IN_FLIGHT)
_pool = LazyPool(IN_FLIGHT, "embstore-request")


class RequestError(Exception):
    """A failed attempt, with what it means."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Patience:
    """How long requests are tried: the seconds after which no attempt begins any more."""

    timeout: float = 30.0


class Cancelled(Exception):  # noqa: N818  # Never seen by a caller.
    """The call that this request belongs to has ended."""


def attempts(
    work: Callable[[], Result], patience: Patience, stop: Event | None = None
) -> Result | Failure:
    """Return what ``work`` returns, tried again where that may help; its last failure otherwise.

    Parameters
    ----------
    work : callable
        Makes one request; raises `RequestError` if it fails.
    patience : Patience
        How long it is tried.
    stop : Event, optional
        Set when the result is not wanted any more.
    """
    until = time.monotonic() + patience.timeout
    pause = _FIRST_PAUSE
    for count in range(1, _MAX_ATTEMPTS + 1):
        if stop is not None and stop.is_set():
            raise Cancelled
        try:
            with slot:
                if stop is not None and stop.is_set():  # While this waited.
                    raise Cancelled
                return work()
        except RequestError as error:
            failure = error.failure
        most = _ATTEMPTS_MAX.get(failure.kind, 1)
        wait = min(pause, _LONGEST_PAUSE) * random.uniform(0.5, 1)
        if count >= most or time.monotonic() + wait >= until:
            break
        if stop is None:
            time.sleep(wait)
        else:
            stop.wait(wait)
        pause *= 2
    if count == 1:
        return failure
    return replace(failure, reason=f"{failure.reason}, {count} times")


def arrivals(
    works: Sequence[Callable[[Event], Result]],
) -> Iterator[tuple[int, Result]]:
    """Yield the position and the result of each of many requests, as they arrive.

    Parameters
    ----------
    works : sequence of callable
        Each makes one request, and is called with the event that is set when the rest is dropped.
    """
    pool = _pool.get()
    stop = Event()
    if not pool.thread_count or pool.is_here or len(works) == 1:
        yield from ((position, work(stop)) for position, work in enumerate(works))
        return
    process = os.getpid()
    arrived: SimpleQueue[tuple[int, Result | BaseException, bool]] = SimpleQueue()
    tasks = {}
    handed = 0

    def do(position: int) -> None:
        try:
            arrived.put((position, works[position](stop), True))
        except BaseException as error:  # Raised where the result is asked for.
            arrived.put((position, error, False))

    try:
        for done in range(len(works)):
            while handed < min(len(works), done + IN_FLIGHT + _AHEAD):
                tasks[handed] = pool.submit(partial(do, handed))
                handed += 1
            while True:
                if os.getpid() != process or pool.is_gone:
                    raise RemoteError(
                        "these requests were started before a fork, or before the interpreter "
                        "ended; start them again"
                    )
                try:
                    position, result, is_result = arrived.get(timeout=_WAKE_SECONDS)
                    break
                except Empty:
                    continue
            del tasks[position]
            if not is_result:
                assert isinstance(result, BaseException)
                raise result
            yield position, result  # type: ignore[misc]
            del result
    finally:
        stop.set()
        for task in tasks.values():
            task.cancel()
