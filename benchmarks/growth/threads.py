"""Lookups on threads of the caller, all of them at once, against ``np.take`` on an array in RAM."""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.growth.curves import Curve, Values
from benchmarks.growth.tables import RepeatedTable
from benchmarks.times import at_least
from embstore.bench.timing import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.growth.sizes import Sizes

    Progress = Callable[[str], None]
    Lookup = Callable[[NDArray[np.int64], NDArray[Any]], Any]

OURS, TAKE = "embstore, calls/s", "np.take, calls/s"
ROW_BYTES, ROWS, BATCH = 160, 200_000, 512
# Batches that each thread has; drawing them takes longer than a lookup.
BATCHES = 16
# A rate of several threads may seem lower than one's by as much as it varies.
LEAST_OF_ONE, LEAST_OF_TAKE = 0.95, 0.5


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curve by the number of threads."""
    path = place / "threads.embstore"
    table = RepeatedTable.make(path, ROWS, ROW_BYTES)
    matrix = table.matrix()
    ways: dict[str, Values] = {OURS: {}, TAKE: {}}
    with embstore.open(path, preload=True) as store:
        ids = np.arange(0, ROWS, 7)
        check_rows("embstore", ids, store.lookup(ids), matrix[ids])
        lookups: dict[str, Lookup] = {
            OURS: lambda ids, out: store.lookup(ids, out=out),
            TAKE: lambda ids, out: matrix.take(ids, 0, out, "clip"),
        }
        found: dict[tuple[str, int], list[float]] = {}
        for turn in range(sizes.rounds):
            progress(f"threads: turn {turn + 1} of {sizes.rounds}")
            for count in sizes.threads:
                for way, lookup in lookups.items():
                    rate = calls_per_second(lookup, count, sizes.thread_seconds)
                    found.setdefault((way, count), []).append(rate)
    shutil.rmtree(path)
    for (way, count), rates in found.items():
        ways[way][count] = statistics.median(rates)
    ours, take = ways[OURS], ways[TAKE]
    more = [count for count in sizes.threads if count > 1]
    of_one = min(ours[count] for count in more) / ours[min(ours)]
    of_take = min(ours[count] / take[count] for count in more)
    goals = [
        at_least("threads, several, of one thread's calls", of_one, LEAST_OF_ONE),
        at_least("threads, several, of np.take's calls", of_take, LEAST_OF_TAKE),
    ]
    return [Curve(f"threads, {BATCH} rows a call", "threads", ways, goals)]


def calls_per_second(lookup: Lookup, count: int, seconds: float) -> float:
    """Return how many calls a second some threads do together."""
    ended, done = threading.Event(), [0] * count
    ready = threading.Barrier(count + 1)

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        batches = [random.integers(0, ROWS, BATCH) for _ in range(BATCHES)]
        out = np.empty((BATCH, ROW_BYTES // 4), np.float32)
        ready.wait()
        while not ended.is_set() or not done[number]:
            lookup(batches[done[number] % BATCHES], out)
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    time.sleep(seconds)
    ended.set()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - start)
