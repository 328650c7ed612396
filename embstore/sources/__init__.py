"""Sources of rows: the protocol of a source, its batches, and a limit on their number.

Each format has a module in this package. A source knows the shape and dtype of its rows before the
first one is read, and yields them in batches, so that a build's memory does not depend on the
table's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from embstore.attributes.values import first_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embstore.attributes.values import Values
    from embstore.table.protocols import Encoding
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
    "gguf",
    "parquet",
    "arrow",
    "store",
]
EncodingErrors = Literal["strict", "replace", "ignore"]

# The approximate size of a batch.
BATCH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of a source.

    Attributes
    ----------
    rows : ndarray, shape (n, *row_shape)
        The rows.
    words : PackedWords or None
        Their words, n of them, if the source has words.
    first : int
        The number of the first row, as `Source.place` takes it.
    bytes_done : int
        Bytes of the input read so far, for progress.
    attributes : mapping of str to (ndarray of shape (n,), or PackedWords), or None
        The values of each attribute in `Source.attribute_dtypes`; None where the source has none.
    """

    rows: NDArray[Any]
    words: PackedWords | None
    first: int
    bytes_done: int
    attributes: Mapping[str, Values] | None = None


class Source(Protocol):
    """Rows to build a store from.

    Attributes
    ----------
    name : str
        The source's name in messages.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the rows.
    row_count : int or None
        Number of rows, if the source states it.
    byte_count : int
        Size of the input, on the scale of ``Batch.bytes_done``; 0 if unknown.
    unk : str or None
        The word whose row stands for unknown words, if the source names one.
    ids_matter : bool
        Whether a row's number is its id elsewhere too, as a token's in a model. Then a repeated
        word is an error by default, because dropping a row would change the later ids.
    encoding : Encoding or None
        If not None, rows are records of this encoding, of uint8.
    attribute_dtypes : mapping of str to str
        The attributes that each batch has, by name: the dtype of their values, a name in
        `embstore.formats.own.spec.ATTRIBUTE_DTYPES`, such as ``"int64"``, ``"bool"`` or
        ``"string"``. Their order is that of the store's. Empty where there are none.
    """

    name: str
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    row_count: int | None
    byte_count: int
    unk: str | None = None
    ids_matter: bool = False
    encoding: Encoding | None = None
    attribute_dtypes: Mapping[str, str] = MappingProxyType({})

    @property
    def row_estimate(self) -> int:
        """An estimate of the number of rows; 0 if unknown."""
        return self.row_count or 0

    def batches(self) -> Iterator[Batch]:
        """Yield all rows in order; may be called again."""
        ...

    def count_rows(self) -> int:
        """Return the number of rows, reading all of the input if necessary."""
        if self.row_count is not None:
            return self.row_count
        return sum(len(batch.rows) for batch in self.batches())

    def describe(self) -> dict[str, Any]:
        """Return facts about the origin of the rows, for the manifest."""
        ...

    def place(self, number: int) -> str:
        """Return the name of a row in messages; by default rows count from 0."""
        return f"{self.name}: row {number}"


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
        self.unk = source.unk
        self.ids_matter = source.ids_matter
        self.encoding = source.encoding
        self.attribute_dtypes = source.attribute_dtypes

    def batches(self) -> Iterator[Batch]:
        """Yield the first rows."""
        left = self._limit
        batches = self._source.batches()
        while left > 0 and (batch := next(batches, None)) is not None:
            if len(batch.rows) > left:
                words = None if batch.words is None else batch.words.part(0, left)
                attributes = first_values(batch.attributes, left)
                batch = replace(batch, rows=batch.rows[:left], words=words, attributes=attributes)
            left -= len(batch.rows)
            yield batch

    def describe(self) -> dict[str, Any]:
        """Return facts about the origin of the source's rows."""
        return self._source.describe()

    def place(self, number: int) -> str:
        """Return the name of a row of the source in messages."""
        return self._source.place(number)


def batch_rows(row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the number of rows in a batch; large rows come one by one."""
    return max(1, BATCH_BYTES // max(1, math.prod(row_shape) * dtype.itemsize))
