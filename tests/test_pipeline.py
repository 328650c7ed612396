"""Work on threads: results come in order, a bounded number is under way, no thread is left."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from embstore.reading.pipeline import MAX_WORKERS, ahead, in_order

if TYPE_CHECKING:
    from collections.abc import Generator


def assert_no_thread(prefix: str) -> None:
    # Threads of other tests may end meanwhile.
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_ahead_makes_the_next_item_early():
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


def test_ahead_raises_an_error_in_its_place():
    def produce() -> Generator[int]:
        yield 1
        raise ValueError("the second")

    items = ahead(produce())
    assert next(items) == 1
    with pytest.raises(ValueError, match="the second"):
        next(items)


def test_ahead_closes_the_generator_when_stopped_early():
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
    assert_no_thread("embstore-read")


def test_in_order_keeps_the_order():
    first_may_end = threading.Event()

    def work(number: int) -> int:
        # The first item is done last, unless there is only one thread.
        if number == 0:
            first_may_end.wait(0.2)
        if number == 1:
            first_may_end.set()
        return number * number

    assert list(in_order(work, range(50), thread_name="embstore-test")) == [
        number * number for number in range(50)
    ]
    assert_no_thread("embstore-test")


def test_in_order_takes_a_bounded_number_of_items():
    taken = []

    def items() -> Generator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    for result in in_order(lambda number: number, items(), thread_name="embstore-test"):
        assert len(taken) <= result + MAX_WORKERS + 1
    assert len(taken) == 100


def test_in_order_raises_an_error_in_its_place():
    def work(number: int) -> float:
        return 6 / (2 - number)

    results = in_order(work, range(10), thread_name="embstore-test")
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert_no_thread("embstore-test")


def test_in_order_stops_its_threads_when_closed():
    with closing(in_order(str, range(1000), thread_name="embstore-test")) as results:
        assert next(results) == "0"
    assert_no_thread("embstore-test")
