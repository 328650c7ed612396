"""Submitted work: futures of lookups, and reads ahead that can be waited for.

1. When `submit` returns, a few cold rows have been announced (`embstore.reading.read_ahead`). One
   background thread of the process gathers the rows of all submitted lookups, in order, so that the
   GIL changes hands seldom. A few rows that are known to be in RAM are gathered by the caller.
2. `prefetch` announces rows, and has helper threads wait until they are in RAM.
3. Where no thread can be started, the caller does the work: of a lookup at once, of a prefetch when
   it is waited for.

A forked child starts a thread of its own. The futures of its parent never finish there, so asking
them for a result is an error.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from functools import partial
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, Protocol

from embstore.reading import workers
from embstore.reading.read_ahead import NoReadAhead
from embstore.reading.results import POOL, as_out
from embstore.settle import as_positive
from embstore.threads import LazyPool, are_replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from embstore.reading.forms import AnyRecords, Form
    from embstore.threads import Pool

_background = LazyPool(1, "embstore_submit")


class Waits(Protocol):
    """What counts waits; see `embstore.reading.stats.StatsCounter`."""

    def add_wait(self, seconds: float) -> None:
        """Count one wait for rows that were still being read."""
        ...


class Submitted(Future[Any]):
    """The future of work on one of embstore's threads.

    Waiting for it raises RuntimeError where it would never end: in a forked child, at the end of
    the interpreter, and in a callback on the thread that is to do the work.

    Parameters
    ----------
    pool : Pool, optional
        The threads that do the work; by default the caller does it.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        super().__init__()
        self._process = os.getpid()
        self._pool = pool
        self._ended = False

    def run(self, work: Callable[[], Any]) -> None:
        """Do the work and set its result, unless it was cancelled."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:
            self.set_exception(error)
            self._ended = True
            if not isinstance(error, Exception):
                raise  # Such as KeyboardInterrupt, where the caller does the work.
            del self  # The error refers to this frame.
        else:
            del work
            self.set_result(result)
            self._ended = True

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, or raise the error; see `concurrent.futures.Future.result`."""
        self._check_wait()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None; see `concurrent.futures.Future.exception`."""
        self._check_wait()
        return super().exception(timeout)

    def check(self) -> None:
        """Raise RuntimeError if the work has not been done, and never will be."""
        if self._ended:
            return
        # First, because a thread that a child does not have may hold the future's lock.
        if os.getpid() != self._process:
            raise RuntimeError("this was submitted in another process, before a fork; do it again")
        if sys.is_finalizing() and not self.done():
            raise RuntimeError("this was submitted, but the interpreter has ended; do it earlier")

    def _check_wait(self) -> None:
        self.check()
        if self._pool is not None and self._pool.is_here and not (self.running() or self.done()):
            raise RuntimeError(
                "a callback waits for a lookup that its own thread is to do later; call "
                "store.lookup in callbacks"
            )


class Prefetch:
    """Rows that are being read into RAM; returned by `EmbeddingStore.prefetch`.

    Examples
    --------
    >>> coming = store.prefetch([0, 5, 7])
    >>> coming.wait(), coming.done()
    (True, True)
    """

    __slots__ = ("_parts", "_pool", "_stats")

    def __init__(
        self, works: list[Callable[[], None]], stats: Waits, pool: Pool | None = None
    ) -> None:
        self._stats = stats
        self._pool = None if are_replaced() else pool or workers.pool()
        self._parts = [(Submitted(self._pool), partial(_do, [work])) for work in works]
        if self._pool is not None and self._pool.thread_count:
            for part, work in self._parts:
                self._pool.submit(partial(part.run, work))
        else:
            self._pool = None

    def done(self) -> bool:
        """Return whether the rows have been read.

        Raises
        ------
        RuntimeError
            If they were prefetched in another process, before a fork, and had not been read.
        """
        if self._pool is None:
            self._work()
        for part, _ in self._parts:
            part.check()
        return all(part.done() for part, _ in self._parts)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the rows have been read; return `done`.

        Parameters
        ----------
        timeout : float, optional
            The most seconds to wait, 0 or more; by default without a limit.

        Raises
        ------
        RuntimeError
            As `done`.
        TypeError, ValueError
            If ``timeout`` is not a number, or is below 0.
        """
        if timeout is not None:
            timeout = min(as_positive(timeout, "timeout", or_zero=True), TIMEOUT_MAX)
        if self._pool is not None and self._pool.is_here:
            self._work()  # The other threads may be waiting, too.
        if not self.done():
            start = time.perf_counter()
            wait_for([part for part, _ in self._parts], timeout)
            self._stats.add_wait(time.perf_counter() - start)
        for part, _ in self._parts:
            if part.done() and not part.cancelled():
                part.result()  # Raises its error.
        return self.done()

    def _work(self) -> None:
        """Do what no thread has started."""
        for part, work in self._parts:
            if not part.cancelled() and part.cancel():
                work()


def _do(works: list[Callable[[], None]]) -> None:
    """Do one piece of work, and forget it: a `Prefetch` may be kept longer than the mapping."""
    try:
        work = works.pop()
    except IndexError:  # Another thread does it.
        return
    work()


def prefetch(records: AnyRecords, rows: NDArray[np.int64]) -> Prefetch:
    """Start reading rows, an array of its own of shape (n,), and return."""
    ahead = records.ahead
    pool = ahead.pool if isinstance(ahead, NoReadAhead) else None
    return Prefetch(ahead.fetch(rows), records.stats, pool)


def submit(
    form: Form, rows: NDArray[np.int64], out: Any | None, ids_shape: tuple[int, ...]
) -> Submitted:
    """Have the background thread fill an array with the records of rows.

    Parameters
    ----------
    form : Form
        The form of the result.
    rows : ndarray of int64, shape (n,)
        The rows; not changed afterwards.
    out : ndarray, torch.Tensor or None
        What to fill, checked here; by default a new array.
    ids_shape : tuple of int
        Shape of the ids.

    Returns
    -------
    Submitted
        Its result is what was filled.
    """
    shape, flat_shape = ids_shape + form.row_shape, (len(rows), *form.row_shape)
    flat = None
    if out is not None:
        # A view, so that the caller cannot resize the array meanwhile.
        flat = as_out(out, shape, form.dtype, form.others).reshape(flat_shape)
    later = form.records.ahead.later(rows)
    pool = None
    if not later.quick and not are_replaced():
        pool = _background.get() if later.pool is None else later.pool
        if not pool.thread_count:
            pool = None
    future = Submitted(pool)
    work = partial(_look_up, later.take, out, flat, shape, flat_shape, form.dtype)
    if pool is None:
        future.run(work)
    else:
        pool.submit(partial(future.run, work))
    return future


def _look_up(
    take: Callable[[NDArray[Any]], None],
    out: Any | None,
    flat: NDArray[Any] | None,
    shape: tuple[int, ...],
    flat_shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Any:
    if flat is None:
        out = POOL.empty(shape, dtype)
        flat = out.reshape(flat_shape)
    take(flat)
    return out
