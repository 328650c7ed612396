"""Blocks of consecutive rows of a store, for reading a whole table in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.in_order import read_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from embstore.attributes.values import Values
    from embstore.store import EmbeddingStore
    from embstore.vocabulary.words import PackedWords

ROW_BLOCK_BYTES = 4 << 20
# Words take memory too, and may be longer than short rows.
MAX_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Some consecutive rows of a store.

    Attributes
    ----------
    start : int
        The id of the first row.
    rows : ndarray, shape (n, *row_shape)
        The rows.
    words : PackedWords or None
        Their words, if the store has words.
    attributes : mapping of str to (ndarray of shape (n,), or PackedWords), or None
        The values of the attributes that were asked for.
    """

    start: int
    rows: NDArray[Any]
    words: PackedWords | None
    attributes: Mapping[str, Values] | None = None


def row_blocks(
    store: EmbeddingStore,
    block_bytes: int = ROW_BLOCK_BYTES,
    *,
    raw: bool = False,
    attributes: Iterable[str] = (),
) -> Iterator[RowBlock]:
    """Yield all rows of a store in id order.

    Parameters
    ----------
    store : EmbeddingStore
        An open store.
    block_bytes : int
        Approximate size of a block's rows in bytes; a block has at least one row.
    raw : bool
        Whether the rows are their records, uint8, as they are stored.
    attributes : iterable of str
        The names of the attributes to read, too.

    Examples
    --------
    >>> [(block.start, block.rows.shape) for block in row_blocks(store, 128)]
    [(0, (4, 8)), (4, (4, 8)), (8, (3, 8))]
    """
    columns = {name: store.attributes[name] for name in attributes}
    step = min(max(block_bytes // max(row_bytes(store, raw=raw), 1), 1), MAX_BLOCK_ROWS)
    window = step
    if not store.mapped:
        window = store._window_rows(step, row_bytes(store, raw=raw))

    def read(start: int) -> tuple[int, NDArray[Any]]:
        return start, _rows(store, start, min(start + window, store.rows), raw=raw)

    def announce(start: int) -> None:
        store._announce(start, min(start + window, store.rows))

    starts = range(0, store.rows, window)
    size_bytes = window * row_bytes(store, raw=raw)
    for first, rows in read_in_order(starts, read, announce, size_bytes):
        for start in range(first, first + len(rows), step):
            some = rows[start - first : start - first + step]
            stop = start + len(some)
            words = store.packed_words(start, stop) if store.has_words else None
            values = {name: column.part(start, stop) for name, column in columns.items()}
            yield RowBlock(start, some, words, values or None)
        del rows, some  # Not kept while the next ones are read.


def row_bytes(store: EmbeddingStore, *, raw: bool = False) -> int:
    """Return the size of one row in bytes, or that of its record."""
    if raw:
        return store.record_bytes
    return math.prod(store.row_shape) * store.dtype.itemsize


def _rows(store: EmbeddingStore, start: int, stop: int, *, raw: bool) -> NDArray[Any]:
    """Return the rows of the ids ``start .. stop - 1``."""
    shape, dtype = (store.row_shape, store.dtype) if not raw else ((store.record_bytes,), np.uint8)
    rows = np.empty((stop - start, *shape), dtype)
    store._fill(start, rows, raw=raw)
    return rows
