"""Pipelines on threads: the next item made ahead, or several items worked on at once.

Both yield in order, keep a bounded number of items in memory, and leave no thread behind when the
consumer stops early or fails. Without threads, the consumer does the work (`embstore.threads`).
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from embstore.reading import workers
from embstore.threads import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from embstore.threads import Task

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 8


def ahead(items: Generator[Item]) -> Generator[Item]:
    """Yield the items of a generator; a thread makes the next one while the last is used."""
    pool = Pool(1, "embstore-read")
    make: Callable[[], Item | None] = partial(next, items, None)
    try:
        coming = pool.submit(make)
        while (item := pool.result(coming)) is not None:
            coming = pool.submit(make)
            yield item
    finally:
        pool.close()
        if not pool.is_gone:  # Else a thread that is gone may have left it running.
            items.close()


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    thread_name: str,
    most: int = MAX_WORKERS,
    waiting: int | None = None,
) -> Generator[Result]:
    """Yield the results of ``work`` in the order of the items; threads do the work.

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
    most : int
        The most threads to use; never more than 8, or than there are processors.
    waiting : int, optional
        The number of threads instead, for work that waits for another machine most of the time.
    """
    under_way: deque[Task[Result]] = deque()
    count = min(workers.processor_count(), MAX_WORKERS, most) if waiting is None else waiting
    pool = Pool(count, thread_name)
    try:
        for item in items:
            under_way.append(pool.submit(partial(work, item)))
            if len(under_way) > pool.thread_count:
                yield pool.result(under_way.popleft())
        while under_way:
            yield pool.result(under_way.popleft())
    finally:
        pool.close()
