"""Statistics of a reader: counters that are cheap enough to be always on."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any

NOTED_AT_ONCE = 1024
MAX_COLD_WAITS = 1024

# One for all counters, since it is seldom taken. A signal handler may ask for statistics while its
# thread holds it. A forked child gets a new one, because a thread that it does not have may hold
# the inherited one.
_lock = RLock()


@dataclass(frozen=True, slots=True)
class LookupStats:
    """Counts of lookups and reads since a store was opened.

    Attributes
    ----------
    lookups, rows : int
        Calls, and rows they asked for.
    bytes_needed : int
        Bytes of those rows.
    bytes_read : int
        Bytes read from the device for them, as the kernel counts them, except in small lookups
        whose rows were expected in RAM, where counting would take too long. A row of ``store[id]``
        counts as read from the device if it took as long as a read. Without a mapping, all bytes
        read from files.
    cold_slices, warm_slices : int
        Pieces of lookups of which one row in 32 or more was read from the device, and the others.
    seconds : float
        Time spent reading rows, summed over the calls.
    row_cache_rows, row_cache_hits : int
        Rows looked up through the row cache, and those of them that it held.
    request_count : int
        Requests for rows and words that were sent to an object store, without those that were sent
        again after an error.
    file_cache_rows : int
        Rows looked up in files of the cache of a remote store.
    fetched_files, fetched_bytes : int
        Whole files that this process fetched to the cache, and their bytes.
    evicted_files : int
        Files that this process removed from the cache to make room.
    file_cache_errors, file_cache_problem : int, str
        How often the cache could not be used, and why the last time. Rows then come by range.
    cold_wait_p50_seconds, cold_wait_p99_seconds : float
        Median and 99th percentile of the last 1,024 cold waits, 0 without any. A cold wait is the
        time that a lookup took which read from the device, or that `Prefetch.wait` took for rows
        that were still being read. Of a submitted lookup, it is the time that the background thread
        took, which is what is left after reading ahead.
    """

    lookups: int = 0
    rows: int = 0
    bytes_needed: int = 0
    bytes_read: int = 0
    cold_slices: int = 0
    warm_slices: int = 0
    seconds: float = 0.0
    row_cache_rows: int = 0
    row_cache_hits: int = 0
    request_count: int = 0
    file_cache_rows: int = 0
    fetched_files: int = 0
    fetched_bytes: int = 0
    evicted_files: int = 0
    file_cache_errors: int = 0
    file_cache_problem: str = ""
    cold_wait_p50_seconds: float = 0.0
    cold_wait_p99_seconds: float = 0.0


class StatsCounter:
    """Sums for `LookupStats`; safe to use from many threads.

    The counts of a lookup are appended to a list, which takes a tenth of a microsecond and no lock.
    The list is summed up now and then.

    Attributes
    ----------
    short : list of tuple
        Rows and seconds of lookups that took the short path, since the last sum.
    """

    __slots__ = ("_cold_waits", "_noted", "_row_bytes", "_sums", "short")

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._cold_waits: deque[float] = deque(maxlen=MAX_COLD_WAITS)
        self._noted: list[tuple[int, int, int, int, float]] = []
        self._sums: list[Any] = [0, 0, 0, 0, 0, 0.0]
        self.short: list[tuple[int, float]] = []

    def add(self, rows: int, bytes_read: int, cold: int, warm: int, seconds: float) -> None:
        """Count one lookup."""
        noted = self._noted
        noted.append((rows, bytes_read, cold, warm, seconds))
        if len(noted) >= NOTED_AT_ONCE:
            self.sum_up()

    def snapshot(self) -> LookupStats:
        """Return the sums so far."""
        lookups, rows, bytes_read, cold, warm, seconds = self.sum_up()
        waits = sorted(self._cold_waits.copy())
        return LookupStats(
            lookups=lookups,
            rows=rows,
            bytes_needed=rows * self._row_bytes,
            bytes_read=bytes_read,
            cold_slices=cold,
            warm_slices=warm,
            seconds=seconds,
            cold_wait_p50_seconds=_percentile(waits, 50),
            cold_wait_p99_seconds=_percentile(waits, 99),
        )

    def add_wait(self, seconds: float) -> None:
        """Count one wait for rows that were still being read."""
        self._cold_waits.append(seconds)

    def sum_up(self) -> tuple[int, int, int, int, int, float]:
        """Add what was noted to the sums, and return them."""
        with _lock:
            if short := _emptied(self.short):
                rows, seconds = map(sum, zip(*short, strict=True))
                self._add(len(short), rows, 0, 0, len(short), seconds)
            if noted := _emptied(self._noted):
                self._cold_waits.extend(one[4] for one in reversed(noted) if one[1])
                self._add(len(noted), *map(sum, zip(*noted, strict=True)))
            lookups, rows, bytes_read, cold, warm, seconds = self._sums
            return lookups, rows, bytes_read, cold, warm, seconds

    def _add(self, *counts: float) -> None:
        for at, count in enumerate(counts):
            self._sums[at] += count  # One by one: a signal handler may add others in between.


def _emptied(noted: list[Any]) -> list[Any]:
    """Remove items from a list to which others append, and return them, the last one first."""
    done = []
    with suppress(IndexError):  # A signal handler has removed the others.
        for _ in range(len(noted)):
            done.append(noted.pop())  # noqa: PERF401  # Keeps those before the error.
    return done


def _percentile(ascending: list[float], percent: int) -> float:
    """Return a percentile of ascending numbers by the nearest rank; 0 if there are none."""
    return ascending[-(-len(ascending) * percent // 100) - 1] if ascending else 0.0


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = RLock()


os.register_at_fork(after_in_child=_forget)
