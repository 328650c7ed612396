"""Counts of lookups that are asked for in the midst of adding them up, as by a signal handler."""

from __future__ import annotations

import itertools
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any

from embstore.reading.stats import LookupStats, StatsCounter

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 3


def interrupted(call: Callable[[], Any], handler: Callable[[], Any], line: int) -> bool:
    """Run ``call``, and a handler before its line of a number; return whether it has that line."""
    lines = itertools.count()
    ran = []

    def trace(frame: Any, event: str, arg: object) -> Any:
        if event == "line" and next(lines) == line:
            handler()
            ran.append(line)
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return bool(ran)


def counted(line: int) -> tuple[bool, LookupStats]:
    counter = StatsCounter(row_bytes=4)

    def note() -> None:
        for _ in range(CALLS):
            counter.short.append((1, 0.5))
            counter.add(rows=2, bytes_read=4096, cold=1, warm=0, seconds=0.5)

    def handler() -> None:
        note()
        counter.snapshot()

    note()
    found = interrupted(counter.snapshot, handler, line)
    return found, counter.snapshot()


def test_a_signal_handler_may_ask_for_statistics():
    found: list[LookupStats] = []

    def interrupt_every_line() -> None:
        for line in itertools.count():
            more, stats = counted(line)
            if not more:
                return
            found.append(stats)

    thread = Thread(target=interrupt_every_line, daemon=True)
    thread.start()
    thread.join(60)  # It would wait forever for a lock of its own.
    assert not thread.is_alive()
    assert len(found) > 20
    calls = 2 * CALLS
    for stats in found:
        assert (stats.lookups, stats.rows, stats.seconds) == (2 * calls, 3 * calls, calls)
        assert (stats.cold_slices, stats.warm_slices) == (calls, calls)
        assert (stats.bytes_needed, stats.bytes_read) == (12 * calls, 4096 * calls)
        assert stats.cold_wait_p50_seconds == 0.5
