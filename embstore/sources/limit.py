"""The first rows of another source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embstore.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.sources import Batch


class Limited(Source):
    """The first rows of a source, which is read only up to the batch in which they end.

    Parameters
    ----------
    source : Source
        The source of the rows.
    limit : int
        The largest number of rows to take.
    """

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._limit = limit
        self.name = source.name
        self.row_shape = source.row_shape
        self.dtype = source.dtype
        self.byte_count = source.byte_count
        self.row_count = None if source.row_count is None else min(source.row_count, limit)

    def batches(self) -> Iterator[Batch]:
        """Yield the first rows."""
        left = self._limit
        batches = self._source.batches()
        while left > 0 and (batch := next(batches, None)) is not None:
            if len(batch.rows) > left:
                words = None if batch.words is None else batch.words.part(0, left)
                batch = replace(batch, rows=batch.rows[:left], words=words)
            left -= len(batch.rows)
            yield batch

    def describe(self) -> dict[str, Any]:
        """Return the description of the source."""
        return self._source.describe()

    def place(self, number: int) -> str:
        """Return how messages refer to a row of the source."""
        return self._source.place(number)
