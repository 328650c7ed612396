"""One item is made ahead, in order, and nothing stays behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from embstore.sources.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Generator


def test_items_come_in_order_and_one_ahead():
    made = [threading.Event() for _ in range(4)]

    def produce() -> Generator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    taken = []
    for number in ahead(produce()):
        if number + 1 < len(made):
            assert made[number + 1].wait(300)
        taken.append(number)
    assert taken == [0, 1, 2, 3]


def test_an_error_comes_where_its_item_would():
    def produce() -> Generator[int]:
        yield 1
        raise ValueError("the second")

    items = ahead(produce())
    assert next(items) == 1
    with pytest.raises(ValueError, match="the second"):
        next(items)


def test_who_stops_early_closes_the_generator():
    closed = []

    def produce() -> Generator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    for number in ahead(produce()):
        if number == 3:
            break
    assert closed == [True]
    # Threads of other tests may end meanwhile; of this one, none may be left.
    assert not [t for t in threading.enumerate() if t.name.startswith("embstore-read")]
