"""The threads of NumPy's matrix products: products without them, and products of one search.

The threads of a product wait for the next one by spinning, and so take the processors from those of
a search. With both, a batch of 64 vectors took several times as long on two busy processors. So
either the products of a search run on one thread each, or the search itself does.

A fork ends the threads of OpenBLAS, and a product that they share never returns. So a fork waits
for it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cache
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class _Limit:
    """The limit of the process: searches at the same time share it, and the last one ends it."""

    def __init__(self) -> None:
        self._limiter: Any = None
        self._reset()

    def _reset(self) -> None:
        self._lock, self._searches = Lock(), 0

    def begin(self) -> None:
        with self._lock:
            if not self._searches:
                self._limiter = _libraries().limit(limits=1)
            self._searches += 1

    def end(self) -> None:
        with self._lock:
            self._searches -= 1
            if not self._searches:
                self._limiter.restore_original_limits()

    def after_fork(self) -> None:
        """Forget the searches of the parent, whose threads are not here."""
        if self._searches:
            self._limiter.restore_original_limits()
        self._reset()


class _Sharing:
    """The lock of products that threads share, one at a time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = RLock()  # A signal handler may fork.

    def acquire(self) -> None:
        self.lock.acquire()

    def release(self) -> None:
        self.lock.release()


_limit, _sharing = _Limit(), _Sharing()
os.register_at_fork(after_in_child=_limit.after_fork)
os.register_at_fork(
    before=_sharing.acquire, after_in_parent=_sharing.release, after_in_child=_sharing.reset
)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Have matrix products of the process run on one thread each; many threads may ask for it."""
    _limit.begin()
    try:
        yield
    finally:
        _limit.end()


def multiply(rows: NDArray[Any], vector: NDArray[Any], out: NDArray[Any]) -> None:
    """Fill ``out``, shape (n,), with the products of rows and a vector, on all threads."""
    with _sharing.lock:
        np.matmul(rows, vector, out=out)


def have_threads() -> bool:
    """Return whether matrix products run on several threads."""
    counts = [library.num_threads for library in _libraries().lib_controllers]
    return bool(counts) and min(counts) > 1


@cache
def _libraries() -> Any:
    """Return the libraries that compute NumPy's products."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415  # It looks at all libraries.

    return ThreadpoolController().select(user_api="blas")
