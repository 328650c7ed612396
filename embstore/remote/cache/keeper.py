"""The keeper: a thread of the process that looks after its open caches every few seconds.

Without it, a process that is idle would keep the disk space of files that others have evicted, and
lookups of a store that is mapped whole would never tell what they use.
"""

from __future__ import annotations

import os
import time
import weakref
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from embstore.threads import start

if TYPE_CHECKING:
    from threading import Thread

TICK_SECONDS = 10.0


class Kept(Protocol):
    """What the keeper looks after."""

    def tick(self) -> None:
        """Do what is due; it must not raise."""
        ...

    def renew(self) -> None:
        """Take new locks, in a forked child."""
        ...


_kept: weakref.WeakSet[Kept] = weakref.WeakSet()
_lock = Lock()
_thread: Thread | None = None


def keep(cache: Kept) -> bool:
    """Look after a cache from now on; return whether there is a thread for it."""
    global _thread  # noqa: PLW0603  # One thread for the process.
    with _lock:
        _kept.add(cache)
        if _thread is None:
            _thread = start(_run, "embstore_cache_keeper")
        return _thread is not None


def is_running() -> bool:
    """Say whether there is a thread."""
    return _thread is not None


def tick_all() -> None:
    """Have all caches of this process do what is due."""
    with _lock:
        caches = list(_kept)
    for cache in caches:
        cache.tick()


def _run() -> None:
    global _thread  # noqa: PLW0603
    while True:
        time.sleep(TICK_SECONDS)
        with _lock:
            if not _kept:
                _thread = None
                return
        tick_all()


def _forget() -> None:
    global _lock, _thread
    _lock, _thread = Lock(), None
    for cache in list(_kept):
        cache.renew()


os.register_at_fork(after_in_child=_forget)
