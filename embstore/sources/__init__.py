"""Where do rows come from? One format a file, one small protocol.

A source knows the shape and dtype of its rows before the first one, and yields them in batches, so
that a build's memory does not depend on the table's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embstore.words import PackedWords

TextFormat = Literal["auto", "glove", "word2vec"]
EncodingErrors = Literal["strict", "replace", "ignore"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows.

    Attributes
    ----------
    rows : ndarray, shape (n, *row_shape)
        The rows.
    words : PackedWords or None
        Their words, n of them, if the source has words.
    first_line : int
        Where the first row stands in the source, counted from 1, for messages.
    bytes_done : int
        How much of the input is read, for progress.
    """

    rows: NDArray[Any]
    words: PackedWords | None
    first_line: int
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
        Size of the input, on the scale of ``Batch.bytes_done``.
    """

    name: str
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    row_count: int | None
    byte_count: int

    @property
    def row_estimate(self) -> int:
        """About how many rows there are."""
        ...

    def batches(self) -> Iterator[Batch]:
        """Yield all rows in order; may be called again."""
        ...

    def count_rows(self) -> int:
        """Return the number of rows, reading the input through if that is what it takes."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the manifest should say about where the rows came from."""
        ...
