"""How is the next batch read while this one is stored? On a thread of its own, one ahead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Item = TypeVar("Item")


def ahead(items: Generator[Item]) -> Iterator[Item]:
    """Yield what a generator yields; a thread makes the next item while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="embstore-read") as pool:
        try:
            coming = pool.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = pool.submit(next, items, None)
                yield item
        finally:
            coming.exception()  # Whatever it is: nobody waits for this item any more.
            items.close()
