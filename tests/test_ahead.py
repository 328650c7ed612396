"""`ahead` makes one item in advance, in order, and leaves no thread behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from embstore.sources.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Generator


def test_items_are_in_order_and_one_is_made_in_advance():
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


def test_an_error_is_raised_in_place_of_its_item():
    def produce() -> Generator[int]:
        yield 1
        raise ValueError("the second")

    items = ahead(produce())
    assert next(items) == 1
    with pytest.raises(ValueError, match="the second"):
        next(items)


def test_stopping_early_closes_the_generator():
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
    # Threads of other tests may still be ending, but this test's thread has ended.
    assert not [t for t in threading.enumerate() if t.name.startswith("embstore-read")]
