"""Times of short calls, in turns: each way gets ids of its own, and the ways change their order."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

Name = TypeVar("Name")
# Calls that are timed together, and those of the first turns, which are not timed.
TOGETHER, FIRST_TURNS = 8, 3


def time_calls(
    ways: Mapping[Name, Callable[[Ids], Any]],
    draw: Callable[[np.random.Generator], Ids],
    turns: int,
) -> dict[Name, float]:
    """Return the median microseconds of a call of each way.

    Parameters
    ----------
    ways : mapping
        What is called with ids, by name.
    draw : callable
        Draws the ids of a call.
    turns : int
        How many times each way is timed.
    """
    random, names = np.random.default_rng(1), list(ways)
    found: dict[Name, list[float]] = {name: [] for name in names}
    for turn in range(FIRST_TURNS + turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            way, drawn = ways[name], [draw(random) for _ in range(TOGETHER)]
            start = perf_counter()
            for ids in drawn:
                way(ids)
            seconds = perf_counter() - start
            if turn >= FIRST_TURNS:
                found[name].append(seconds / TOGETHER)
    return {name: float(np.median(values)) * 1e6 for name, values in found.items()}
