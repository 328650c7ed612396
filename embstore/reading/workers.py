"""Helper threads for large lookups, shared by all stores of the process.

They are started when first needed, and again in a forked child, which does not inherit them. There
may be fewer, or none, where threads cannot be started (`embstore.threads`). A thread that asks for
help works too, and does not wait for helpers that have not started. A helper may ask for help in
turn, as the sums of bags do when they look rows up. Helpers that look rows up ask for none, so
helpers cannot block each other.

An error in one thread stops all of them before the call raises, because its arguments may change
afterwards.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from threading import local
from typing import TYPE_CHECKING, TypeVar

from embstore.threads import LazyPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embstore.threads import Pool, Task

Result = TypeVar("Result")

# Threads that wait for the disk; gathering rows that are in memory uses one for each processor.
THREAD_COUNT = 8

_helpers = LazyPool(THREAD_COUNT, "embstore")


class _Here(local):
    """What holds for the calling thread."""

    alone_depth = 0


_here = _Here()


@contextmanager
def alone() -> Iterator[None]:
    """Have this thread work without helpers, for work that has threads of its own."""
    _here.alone_depth += 1
    try:
        yield
    finally:
        _here.alone_depth -= 1


def is_alone() -> bool:
    """Return whether this thread works without helpers."""
    return _here.alone_depth > 0


def processor_count() -> int:
    """Return the number of processors that this thread and helpers may use; 1 if it is `alone`."""
    if is_alone():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def submit(work: Callable[[], Result]) -> Task[Result]:
    """Have a helper do ``work``; do it now if there is none."""
    return pool().submit(work)


def pool() -> Pool:
    """Return the helpers; without threads if none can be started."""
    return _helpers.get()


def together(
    works: Sequence[Callable[[], Result]], stop: Callable[[], None], helpers: Pool | None = None
) -> list[Result]:
    """Do the first work here, and the others on free helpers; return the results of those done.

    Parameters
    ----------
    works : sequence of callables
        Each drains a shared queue, so any subset may run.
    stop : callable
        Empties the queue. It is called when one has failed or a signal handler has raised; the
        error is raised after all threads have stopped.
    helpers : Pool, optional
        The helpers; by default those of this module.
    """
    helpers = pool() if helpers is None else helpers

    def guarded(work: Callable[[], Result]) -> Result:
        try:
            return work()
        except BaseException:
            stop()
            raise

    tasks: list[Task[Result]] = []
    try:
        for work in works[1:]:
            tasks.append(helpers.submit(partial(guarded, work)))  # noqa: PERF401  # Keeps those before an error.
        own = guarded(works[0])
    except BaseException:
        stop()
        raise
    finally:
        begun = _finish(tasks, stop)
    return [own, *(task.result() for task in begun)]


def _finish(helpers: list[Task[Result]], stop: Callable[[], None]) -> list[Task[Result]]:
    """Cancel the helpers that have not started, wait for the others, and return those."""
    begun = [helper for helper in helpers if not helper.cancel()]
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
