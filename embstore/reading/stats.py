"""Statistics of a reader: counters that are cheap enough to be always on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from threading import Lock
from typing import Any

NOTED_AT_ONCE = 1024

# One for all counters, since it is seldom taken. A forked child gets a new one, because a thread
# that it does not have may hold the inherited one.
_lock = Lock()


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
        whose rows were expected in RAM, where counting would take too long. Without a mapping, all
        bytes read from files.
    cold_slices, warm_slices : int
        Pieces of lookups of which one row in 32 or more was read from the device, and the others.
    seconds : float
        Time spent reading rows, summed over the calls.
    row_cache_rows, row_cache_hits : int
        Rows looked up through the row cache, and those of them that it held.
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


class StatsCounter:
    """Sums for `LookupStats`; safe to use from many threads.

    The counts of a lookup are appended to a list, which takes a tenth of a microsecond and no lock.
    The list is summed up now and then.

    Attributes
    ----------
    short : list of tuple
        Rows and seconds of lookups that took the short path, since the last sum.
    """

    __slots__ = ("_noted", "_row_bytes", "_sums", "short")

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._noted: list[tuple[int, int, int, int, float]] = []
        self._sums: tuple[int, int, int, int, int, float] = (0, 0, 0, 0, 0, 0.0)
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
        return LookupStats(
            lookups=lookups,
            rows=rows,
            bytes_needed=rows * self._row_bytes,
            bytes_read=bytes_read,
            cold_slices=cold,
            warm_slices=warm,
            seconds=seconds,
        )

    def sum_up(self) -> tuple[int, int, int, int, int, float]:
        """Add what was noted to the sums, and return them."""
        with _lock:
            lookups, rows, bytes_read, cold, warm, seconds = self._sums
            if short := _emptied(self.short):
                some_rows, some_seconds = map(sum, zip(*short, strict=True))
                lookups, warm = lookups + len(short), warm + len(short)
                rows, seconds = rows + some_rows, seconds + some_seconds
            if noted := _emptied(self._noted):
                a, b, c, d, e = map(sum, zip(*noted, strict=True))
                lookups, rows, bytes_read = lookups + len(noted), rows + a, bytes_read + b
                cold, warm, seconds = cold + c, warm + d, seconds + e
            self._sums = lookups, rows, bytes_read, cold, warm, seconds
            return self._sums


def _emptied(noted: list[Any]) -> list[Any]:
    """Remove all items from a list to which other threads append, and return them."""
    count = len(noted)
    done = noted[:count]
    del noted[:count]
    return done


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = Lock()


os.register_at_fork(after_in_child=_forget)
