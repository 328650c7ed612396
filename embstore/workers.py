"""Who helps with a large lookup? A few threads that all stores of the process share.

They are started when first needed, and again in a child after a fork, which has none of them.
Whoever asks for help works itself too, and does not wait for helpers that have not begun. A helper
may ask for help in turn, as the sums of bags do when they look rows up; those that look rows up ask
for none, so helpers cannot block each other.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

Result = TypeVar("Result")

# Threads that wait for the disk; gathering rows that are in memory uses one for each processor.
THREAD_COUNT = 8

_lock = Lock()
_pool: ThreadPoolExecutor | None = None


def processor_count() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def submit(work: Callable[[], Result]) -> Future[Result]:
    """Have a helper do ``work``."""
    global _pool  # noqa: PLW0603  # One pool for the process.
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(THREAD_COUNT, thread_name_prefix="embstore")
        return _pool.submit(work)


def finish(helpers: list[Future[Result]]) -> list[Result]:
    """Call off the helpers that have not begun; return what the others returned, or raise it."""
    begun = [helper for helper in helpers if not helper.cancel()]
    return [helper.result() for helper in begun]


def _forget() -> None:
    global _pool, _lock
    _pool, _lock = None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
