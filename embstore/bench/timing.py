"""Timing of lookups: one turn of calls, every returned row compared outside of the timing.

Several calls are timed back to back before their rows are compared. Comparing after each call would
empty the processor's caches before the next small lookup, and let the disk rest between cold ones.
"""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

WARM_UP_CALLS = 8
MAX_CALLS_TOGETHER = 256
BLOCK_BYTES = 512  # The unit of ru_inblock.


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the lookup to time, its number of rows, and the check of what it returns.

    The check raises ValueError for a wrong row, and returns how many rows it compared.
    """

    run: Callable[[], NDArray[Any]]
    rows: int
    check: Callable[[NDArray[Any]], int]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a turn ends. It makes at least one call.

    Parameters
    ----------
    seconds : float
        After this time, checks included.
    bytes_read : int, optional
        After this much was read from the device. None for rows in RAM; otherwise time and bytes are
        tested after each call, not only before the next calls that are timed together.
    calls_together : int
        Calls that are timed back to back before their rows are compared.
    max_calls : int
        After this many calls.
    """

    seconds: float
    bytes_read: int | None = None
    calls_together: int = 1
    max_calls: int = 4096


@dataclass(frozen=True, slots=True)
class Turn:
    """The calls of a turn.

    Attributes
    ----------
    nanoseconds : list of int
        Time of each call.
    rows, checked_rows : int
        Rows that the calls returned, and rows that were compared.
    bytes_read : int
        Bytes read from the device during the calls, as the kernel counts them for the process.
    device_reads : int, optional
        Reads that the device completed during the calls, for any process, if they were counted.
    """

    nanoseconds: list[int] = field(default_factory=list)
    rows: int = 0
    checked_rows: int = 0
    bytes_read: int = 0
    device_reads: int | None = None

    @property
    def seconds(self) -> float:
        """Time in calls."""
        return sum(self.nanoseconds) / 1e9

    @property
    def rows_per_second(self) -> float:
        """Rows in a second of calls."""
        return self.rows / self.seconds if self.rows else 0.0


def calls_together(rows: int, batch: int) -> int:
    """Return how many calls of ``batch`` rows are timed back to back to get about ``rows`` rows."""
    return max(min(rows // batch, MAX_CALLS_TOGETHER), 1)


def warm_up(calls: Iterator[Call]) -> None:
    """Make a few calls without timing them."""
    for call in islice(calls, WARM_UP_CALLS):
        call.run()


def time_calls(
    calls: Iterator[Call], limits: Limits, device_reads: Callable[[], int] | None = None
) -> Turn:
    """Time calls until a limit is reached.

    Parameters
    ----------
    calls : iterator of Call
        The calls, without end.
    limits : Limits
        When to stop.
    device_reads : callable, optional
        Returns how many reads the device has completed.
    """
    nanoseconds: list[int] = []
    rows = checked = bytes_read = reads = 0
    max_bytes = limits.bytes_read
    end = time.perf_counter() + limits.seconds
    while not nanoseconds or (
        time.perf_counter() < end
        and len(nanoseconds) < limits.max_calls
        and (max_bytes is None or bytes_read < max_bytes)
    ):
        group = list(islice(calls, limits.calls_together))
        bytes_before = _bytes_read()
        reads_before = device_reads() if device_reads else 0
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
        reads += device_reads() - reads_before if device_reads else 0
        for call, answer in zip(group, answers, strict=False):
            checked += call.check(answer)
            rows += call.rows
    return Turn(nanoseconds, rows, checked, bytes_read, reads if device_reads else None)


def check_rows(name: str, ids: NDArray[np.int64], got: Any, expected: NDArray[Any]) -> int:
    """Compare rows bit by bit (nan equals nan, 0 is not -0); return how many they are.

    Raises
    ------
    ValueError
        If a row or the dtype differs.
    """
    found = np.asarray(got).reshape(expected.shape)
    bits = np.dtype(f"u{expected.dtype.itemsize}")
    if found.dtype != expected.dtype:
        raise ValueError(f"{name} returned {found.dtype}, expected {expected.dtype}")
    if not np.array_equal(found.view(bits), expected.view(bits)):
        differ = (found.view(bits) != expected.view(bits)).reshape(len(expected), -1).any(axis=1)
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


def median_rate(turns: Sequence[Turn]) -> float:
    """Return the median over turns of the rows in a second of calls."""
    return statistics.median(turn.rows_per_second for turn in turns)


def _bytes_read() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * BLOCK_BYTES
