"""Timing of lookups: one turn of calls, every returned row compared outside of the timing.

Several calls are timed back to back before their rows are compared. Comparing after each call would
empty the processor's caches before the next small lookup, and let the disk rest between cold ones.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.bench.state import COLD, LIMITED
from embstore.bench.work import OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.bench.work import Case

WARM_UP_CALLS = 8
MAX_CALLS_TOGETHER = 256
ROWS_TOGETHER = 4096
COLD_ROWS_TOGETHER = 1 << 16
# A cold turn ends when this part of the table has been read, so that the rest is still cold.
COLD_SHARE = 16
BLOCK_BYTES = 512  # The unit of ru_inblock.


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the lookup to time, its number of rows, and the check of what it returns.

    The check raises ValueError for a wrong row, and returns how many rows it compared.
    """

    run: Callable[[], Any]
    rows: int
    check: Callable[[Any], int]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a turn ends: after some seconds, checks included, bytes read or calls; one at least.

    ``bytes_read`` is None for rows in RAM; otherwise time and bytes are tested after each call, not
    only before the next ``calls_together`` calls that are timed back to back.
    """

    seconds: float
    bytes_read: int | None = None
    calls_together: int = 1
    max_calls: int = 4096


@dataclass(frozen=True, slots=True)
class Turn:
    """The times of the calls of a turn, how many rows they returned, and how many were compared.

    ``bytes_read`` from the device are those that the kernel counts for the process during calls.
    """

    nanoseconds: list[int] = field(default_factory=list)
    rows: int = 0
    checked_rows: int = 0
    bytes_read: int = 0

    @property
    def seconds(self) -> float:
        """Time in calls."""
        return sum(self.nanoseconds) / 1e9


def limits_of(state: str, case: Case, seconds: float, table_bytes: int) -> Limits:
    """Return when a turn ends: a cold one may take 5 times, a limited one 10 times ``seconds``."""
    if case.work == OPEN:
        return Limits(0)
    table = {COLD: (5, table_bytes // COLD_SHARE), LIMITED: (10, 1 << 62)}
    times, bytes_read = table.get(state, (1, None))
    rows = COLD_ROWS_TOGETHER if state == COLD else ROWS_TOGETHER
    return Limits(times * seconds, bytes_read, calls_together(rows, case.batch))


def calls_together(rows: int, batch: int) -> int:
    """Return how many calls of ``batch`` rows are timed back to back to get about ``rows`` rows."""
    return max(min(rows // batch, MAX_CALLS_TOGETHER), 1)


def warm_up(calls: Iterator[Call]) -> None:
    """Make a few calls without timing them."""
    for call in islice(calls, WARM_UP_CALLS):
        call.run()


def time_calls(calls: Iterator[Call], limits: Limits) -> Turn:
    """Time calls, which have no end, until a limit is reached."""
    nanoseconds: list[int] = []
    rows = checked = bytes_read = 0
    max_bytes = limits.bytes_read
    end = time.perf_counter() + limits.seconds
    while not nanoseconds or (
        time.perf_counter() < end
        and len(nanoseconds) < limits.max_calls
        and (max_bytes is None or bytes_read < max_bytes)
    ):
        group = list(islice(calls, limits.calls_together))
        bytes_before = _bytes_read()
        answers = []
        for call in group:
            start = time.perf_counter_ns()
            answer = call.run()
            nanoseconds.append(time.perf_counter_ns() - start)
            answers.append(answer)
            if max_bytes is not None and (
                time.perf_counter() > end or bytes_read + _bytes_read() - bytes_before > max_bytes
            ):
                break
        bytes_read += _bytes_read() - bytes_before
        for call, answer in zip(group, answers, strict=False):
            checked += call.check(answer)
            rows += call.rows
    return Turn(nanoseconds, rows, checked, bytes_read)


def check_rows(name: str, ids: NDArray[np.int64], got: Any, expected: NDArray[Any]) -> int:
    """Compare rows bit by bit (nan equals nan, 0 is not -0); return their number.

    A row or a dtype that differs is a ValueError.
    """
    found = np.asarray(got).reshape(expected.shape)
    if found.dtype != expected.dtype:
        raise ValueError(f"{name} returned {found.dtype}, expected {expected.dtype}")
    bits = np.dtype(f"u{expected.dtype.itemsize}")
    differ = (found.view(bits) != expected.view(bits)).reshape(len(expected), -1).any(axis=1)
    if differ.any():
        raise ValueError(
            f"{name} returned wrong rows for {differ.sum()} of {len(expected)} ids, "
            f"the first for id {int(ids[differ][0])}"
        )
    return len(expected)


def percentiles(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the 50th, 90th and 99th percentile of the times of the calls, in microseconds."""
    samples = np.concatenate([np.array(turn.nanoseconds, float) for turn in turns])
    values = np.percentile(samples, [50, 90, 99]) / 1e3
    return dict(zip(("p50", "p90", "p99"), values.tolist(), strict=True))


def _bytes_read() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * BLOCK_BYTES
