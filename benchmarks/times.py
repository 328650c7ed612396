"""Times of calls, and a table of them.

Each call is timed after a short rest. The libraries below NumPy, torch and gensim let their threads
spin for a while after a call, and would take the processor from the next call.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
# Seconds of every call, by its name.
Times = dict[str, list[float]]

REST_SECONDS = 0.1


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of a call, and its seconds."""
    time.sleep(REST_SECONDS)
    start = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - start


def table(found: Times) -> list[str]:
    """Return the lines of a table of all times."""
    lines = [f"{'milliseconds':<46}{'median':>8}{'fastest':>9}"]
    for name, seconds in found.items():
        median, fastest = statistics.median(seconds) * 1e3, min(seconds) * 1e3
        lines.append(f"{name:<46}{median:>8.2f}{fastest:>9.2f}")
    return lines


def microseconds(found: Times) -> list[str]:
    """Return the lines of a table of the fastest, the percentiles and the mean of all times."""
    names = "".join(f"{name:>12}" for name in ("fastest", "p50", "p90", "p99", "mean"))
    lines = [f"{'microseconds':<62}{names}"]
    for name, seconds in found.items():
        values = *np.percentile(seconds, [0, 50, 90, 99]), np.mean(seconds)
        cells = "".join(f"{value * 1e6:>12,.2f}" for value in values)
        lines.append(f"{name:<62}{cells}")
    return lines


def median_of(found: Times, name: str) -> float | None:
    """Return the median of the times of a name, or None if there are none."""
    return statistics.median(found[name]) if found.get(name) else None


def at_most(what: str, value: float, most: float) -> str:
    """Return a line with a value, its goal, and whether the value is that or less."""
    return f"{what:<72}{value:>8.2f}  <= {most:<9g}{'yes' if value <= most else 'NO'}"


def at_least(what: str, value: float, least: float) -> str:
    """Return a line with a value, its goal, and whether the value is that or more."""
    return f"{what:<72}{value:>8.2f}  >= {least:<9g}{'yes' if value >= least else 'NO'}"


def against(
    found: Times, what: str, ours: str, theirs: str, least: float | None = None
) -> list[str]:
    """Return a line with how many times as fast ``ours`` is as ``theirs``, if both were timed.

    With ``least``, the line also says whether that is enough.
    """
    if not (found.get(ours) and found.get(theirs)):
        return []
    ratio = statistics.median(found[theirs]) / statistics.median(found[ours])
    enough = "" if least is None else "  yes" if ratio >= least else "  NO"
    return [what.ljust(46) + f"{ratio:>8.2f}x{enough}"]
