"""Where do rows come from? One format a file, one small protocol.

A source knows the shape and dtype of its rows before the first one, and yields them in batches, so
that a build's memory does not depend on the table's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embstore.vocabulary.words import PackedWords

TextFormat = Literal["auto", "glove", "word2vec"]
Format = Literal[
    "auto",
    "glove",
    "word2vec",
    "word2vec-binary",
    "npy",
    "npz",
    "safetensors",
    "parquet",
    "arrow",
    "store",
]
EncodingErrors = Literal["strict", "replace", "ignore"]

# About how much a source yields at once.
BATCH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows.

    Attributes
    ----------
    rows : ndarray, shape (n, *row_shape)
        The rows.
    words : PackedWords or None
        Their words, n of them, if the source has words.
    first : int
        Where the first row stands in the source, as `Source.place` takes it.
    bytes_done : int
        How much of the input is read, for progress.
    """

    rows: NDArray[Any]
    words: PackedWords | None
    first: int
    bytes_done: int


class Source(Protocol):
    """Rows to build a store from.

    Attributes
    ----------
    name : str
        What to call the source in messages.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the rows.
    row_count : int or None
        Number of rows, if the source says so itself.
    byte_count : int
        Size of the input, on the scale of ``Batch.bytes_done``; 0 if unknown.
    """

    name: str
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    row_count: int | None
    byte_count: int

    @property
    def row_estimate(self) -> int:
        """About how many rows there are; 0 if nobody knows."""
        return self.row_count or 0

    def batches(self) -> Iterator[Batch]:
        """Yield all rows in order; may be called again."""
        ...

    def count_rows(self) -> int:
        """Return the number of rows, reading the input through if that is what it takes."""
        if self.row_count is not None:
            return self.row_count
        return sum(len(batch.rows) for batch in self.batches())

    def describe(self) -> dict[str, Any]:
        """Return what the manifest should say about where the rows came from."""
        ...

    def place(self, number: int) -> str:
        """Return how messages name a row; by default rows count from 0."""
        return f"{self.name}: row {number}"


def batch_rows(row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many rows make a batch; large rows come one by one."""
    return max(1, BATCH_BYTES // max(1, math.prod(row_shape) * dtype.itemsize))
