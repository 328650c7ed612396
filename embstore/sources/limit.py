"""The first rows of another source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embstore.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.sources import Batch
    from embstore.vocabulary.words import PackedWords


class Limited(Source):
    """Up to ``limit`` rows of a source, which is read no further than the batch they end in.

    Parameters
    ----------
    source : Source
        Where the rows come from.
    limit : int
        How many of them.
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
                batch = replace(batch, rows=batch.rows[:left], words=_first(batch.words, left))
            left -= len(batch.rows)
            yield batch

    def describe(self) -> dict[str, Any]:
        """Return what the source says."""
        return self._source.describe()

    def place(self, number: int) -> str:
        """Return how the source names a row."""
        return self._source.place(number)


def _first(words: PackedWords | None, count: int) -> PackedWords | None:
    return words and words.part(0, count)
