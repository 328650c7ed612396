"""Statistics of a reader: counters that are cheap enough to be always on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from threading import Lock

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
        Bytes read from the device for them, as the kernel counts them; without a mapping, all bytes
        read from files.
    cold_slices, warm_slices : int
        Pieces of lookups that caused reads from the device, and pieces that did not.
    seconds : float
        Time spent reading rows, summed over the calls.
    """

    lookups: int = 0
    rows: int = 0
    bytes_needed: int = 0
    bytes_read: int = 0
    cold_slices: int = 0
    warm_slices: int = 0
    seconds: float = 0.0


class StatsCounter:
    """Sums for `LookupStats`; safe to use from many threads.

    The counts of a lookup are appended to a list, which takes a tenth of a microsecond and no lock.
    The list is summed up now and then.
    """

    __slots__ = ("_noted", "_row_bytes", "_sums")

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._noted: list[tuple[int, int, int, int, float]] = []
        self._sums: tuple[int, int, int, int, int, float] = (0, 0, 0, 0, 0, 0.0)

    def add(self, rows: int, bytes_read: int, cold: int, warm: int, seconds: float) -> None:
        """Count one lookup."""
        noted = self._noted
        noted.append((rows, bytes_read, cold, warm, seconds))
        if len(noted) >= NOTED_AT_ONCE:
            self._sum_up()

    def snapshot(self) -> LookupStats:
        """Return the sums so far."""
        lookups, rows, bytes_read, cold, warm, seconds = self._sum_up()
        return LookupStats(
            lookups=lookups,
            rows=rows,
            bytes_needed=rows * self._row_bytes,
            bytes_read=bytes_read,
            cold_slices=cold,
            warm_slices=warm,
            seconds=seconds,
        )

    def _sum_up(self) -> tuple[int, int, int, int, int, float]:
        with _lock:
            count = len(self._noted)
            if count:
                done = self._noted[:count]
                del self._noted[:count]
                rows, bytes_read, cold, warm, seconds = map(sum, zip(*done, strict=True))
                a, b, c, d, e, f = self._sums
                self._sums = (
                    *(a + count, b + rows, c + bytes_read),
                    *(d + cold, e + warm, f + seconds),
                )
            return self._sums


def _forget() -> None:
    global _lock  # noqa: PLW0603  # One lock for the process.
    _lock = Lock()


os.register_at_fork(after_in_child=_forget)
