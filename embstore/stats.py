"""What did a reader do? Counters that are cheap enough to be always on."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True, slots=True)
class LookupStats:
    """What a store has read since it was opened.

    Attributes
    ----------
    lookups, rows : int
        Calls, and rows they asked for.
    bytes_needed : int
        Bytes of those rows.
    bytes_read : int
        Bytes that came from the device for them, as the kernel counts them; for a reader that
        decodes chunks, the bytes of the chunks.
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
    """Adds up `LookupStats`; may be used from many threads."""

    __slots__ = ("_lock", "_row_bytes", "_values")

    def __init__(self, row_bytes: int) -> None:
        self._lock = Lock()
        self._row_bytes = row_bytes
        self._values: tuple[int, int, int, int, int, float] = (0, 0, 0, 0, 0, 0.0)

    def add(self, rows: int, bytes_read: int, cold: int, warm: int, seconds: float) -> None:
        """Count one lookup."""
        with self._lock:
            a, b, c, d, e, f = self._values
            self._values = (a + 1, b + rows, c + bytes_read, d + cold, e + warm, f + seconds)

    def snapshot(self) -> LookupStats:
        """Return the sums so far."""
        lookups, rows, bytes_read, cold, warm, seconds = self._values
        return LookupStats(
            lookups=lookups,
            rows=rows,
            bytes_needed=rows * self._row_bytes,
            bytes_read=bytes_read,
            cold_slices=cold,
            warm_slices=warm,
            seconds=seconds,
        )
