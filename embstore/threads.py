"""Threads of embstore's own, or none: where they cannot be started, the caller does the work.

1. `start` starts a thread, or says that it cannot: the process may have no more, the interpreter is
   ending, or gevent or eventlet has replaced threads. A thread that such a library makes is a
   coroutine, which would stop all others while it waits for a queue.
2. `Pool` hands work to a few threads that take it in turn. Fewer threads than wanted are enough.
   Without any, the work is done when it is handed over. A `LazyPool` starts one when needed.
3. Nothing waits for threads that are gone. A forked child has none of them, and at the very end of
   the interpreter they do not run any more.

The threads are daemons that the interpreter does not wait for. Those of ``concurrent.futures`` stop
taking work when the main thread ends, although other threads may go on, and functions of `atexit`
are still to be called. A `queue.SimpleQueue` also takes two thirds of their time to hand work over,
which is part of the cost of a lookup.
"""

from __future__ import annotations

import _thread
import os
import sys
import weakref
from _queue import Empty, SimpleQueue  # Not from `queue`, where it may be a coroutine's.
from contextlib import suppress
from functools import partial
from threading import Lock, Thread, current_thread
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

# Once the main thread has ended, this module cannot be imported any more, and pandas, which pyarrow
# looks for at its first conversion of an array, needs it.
with suppress(RuntimeError):
    import concurrent.futures.thread  # noqa: F401

Result = TypeVar("Result")


class Task(Generic[Result]):
    """Work that was handed over.

    Attributes
    ----------
    ended : bool
        Whether it has started and ended.
    """

    __slots__ = ("_claim", "_done", "_error", "_result", "_work", "ended")

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work: Callable[[], Result] | None = work
        self._claim = Lock()  # Its holder does the work, or cancels it.
        self._done = Lock()
        self._done.acquire()
        self.ended = False
        self._error: BaseException | None = None
        self._result: Result

    def run(self) -> None:
        """Do the work, unless it has started or was cancelled."""
        if not self._claim.acquire(blocking=False):
            return
        work, self._work = self._work, None
        assert work is not None  # Only the holder of the claim takes it.
        try:
            self._result = work()
        except BaseException as error:  # Raised where the result is asked for.
            self._error = error
        del work  # A traceback refers to this frame.
        self.ended = True
        self._done.release()

    def cancel(self) -> bool:
        """Cancel the work; return whether this came before its start."""
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


class Pool:
    """A few threads that do work in the order in which it is handed over.

    Parameters
    ----------
    count : int
        The most threads.
    name : str
        Prefix of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._process = os.getpid()
        self._queue: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        # If the pool is dropped without being closed, its threads end, too.
        weakref.finalize(self, self._queue.put, None).atexit = False
        for number in range(count):
            thread = start(partial(_serve, self._queue), f"{name}_{number}")
            if thread is None:
                break
            self._threads.append(thread)

    @property
    def thread_count(self) -> int:
        """Number of threads; 0 if none could be started."""
        return len(self._threads)

    @property
    def is_gone(self) -> bool:
        """Whether the threads cannot run: this is a forked child, or the interpreter has ended."""
        return os.getpid() != self._process or sys.is_finalizing()

    @property
    def is_here(self) -> bool:
        """Whether a thread of the pool runs this call."""
        return current_thread() in self._threads

    def submit(self, work: Callable[[], Result]) -> Task[Result]:
        """Have a thread do ``work``; without threads, do it now."""
        task = Task(work)
        if self._threads:
            self._queue.put(task)
        else:
            task.run()
        return task

    def result(self, task: Task[Result]) -> Result:
        """Wait for the end of a task of this pool; return its result, or raise its error.

        Raises
        ------
        RuntimeError
            If the thread that should do it is gone.
        """
        if not task.ended:
            if self.is_gone:
                raise RuntimeError(
                    "this work was started in another process, before a fork, or before the "
                    "interpreter ended; start it again"
                )
            task.wait()
        return task.result()

    def close(self) -> None:
        """Drop the work that has not started, wait for the rest, and end the threads."""
        if self.is_gone:
            return
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []


class LazyPool:
    """The pool of one module: started when it is first needed, and again in a forked child.

    Parameters
    ----------
    count, name : int, str
        As for `Pool`.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._lock = Lock()
        self._pool: Pool | None = None
        os.register_at_fork(after_in_child=self._forget)

    def get(self) -> Pool:
        """Return the pool; without threads if none can be started, and then the next call tries."""
        if self._pool is not None:
            return self._pool
        with self._lock:
            if self._pool is not None:
                return self._pool
            pool = Pool(self._count, self._name)
            if pool.thread_count:
                self._pool = pool
            return pool

    def _forget(self) -> None:
        self._lock, self._pool = Lock(), None


def are_replaced() -> bool:
    """Return whether a library such as gevent has replaced threads by coroutines."""
    # Looked up at each call, because that library may be imported late.
    return not isinstance(_thread.start_new_thread, BuiltinFunctionType)


def start(work: Callable[[], None], name: str) -> Thread | None:
    """Start a daemon thread that does ``work``; return None if this is impossible."""
    if are_replaced():
        return None
    thread = Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # Too many threads, or the interpreter is ending.
        return None
    return thread


def _serve(queue: SimpleQueue[Task[Any] | None]) -> None:
    while (task := queue.get()) is not None:
        task.run()
        del task  # Its result must not be kept until the next one comes.
    queue.put(None)  # For the other threads.
