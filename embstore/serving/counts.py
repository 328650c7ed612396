"""Statistics of a server: what the action ``stats`` answers.

A JSON object of numbers: ``seconds`` since the server began; ``requests``, ``rows`` and ``bytes``
answered, of rows or words or ids; ``requests_running`` and ``streams_open`` now, ``memory_bytes``
of rows that wait to be sent; and ``errors``, an object with a count for each kind of error that was
told.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from time import monotonic
from typing import Any


class Counts:
    """Counts since they were made."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._lock = Lock()
        self._requests = self._rows = self._bytes = 0
        self._errors: Counter[str] = Counter()

    def add(self, rows: int, size_bytes: int) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._requests += 1
            self._rows += rows
            self._bytes += size_bytes

    def add_error(self, kind: str) -> None:
        """Count an error that was told."""
        with self._lock:
            self._errors[kind] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the counts."""
        with self._lock:
            return {
                "seconds": round(monotonic() - self._began, 3),
                "requests": self._requests,
                "rows": self._rows,
                "bytes": self._bytes,
                "errors": dict(self._errors),
            }
