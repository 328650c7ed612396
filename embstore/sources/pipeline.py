"""Pipelines on threads: the next item read ahead, or several items worked on at once.

Both yield in order, keep a bounded number of items in memory, and leave no thread behind when the
consumer stops early or fails.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 8


def ahead(items: Generator[Item]) -> Generator[Item]:
    """Yield the items of a generator; a thread makes the next one while the last is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="embstore-read") as pool:
        try:
            coming = pool.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = pool.submit(next, items, None)
                yield item
        finally:
            coming.exception()  # Wait for the thread; its result is not needed any more.
            items.close()


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, thread_name: str
) -> Generator[Result]:
    """Yield the results of ``work`` in the order of the items; up to 8 threads do the work.

    Items are taken on the caller's thread, one more than there are threads ahead of the result
    that is yielded. If the consumer may fail, it closes the generator (`contextlib.closing`).

    Parameters
    ----------
    work : callable
        Called with one item, on any of the threads.
    items : iterable
        What to work on.
    thread_name : str
        Prefix of the threads' names.
    """
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix=thread_name) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
