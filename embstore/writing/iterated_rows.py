"""Rows of an iterator, such as a generator, collected into arrays."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.vocabulary.words import PackedWords
from embstore.writing.attribute_columns import GivenColumns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

ARRAY_BYTES = 1 << 20


def row_arrays(
    rows: Iterator[ArrayLike],
    words: Iterable[str] | PackedWords | None,
    attributes: Mapping[str, Any] | None,
    row_bytes: int,
) -> Iterator[tuple[NDArray[Any], list[str] | None, dict[str, Any] | None]]:
    """Yield arrays of some rows each, with their words and attributes.

    Parameters
    ----------
    rows : iterator of array-like
        The rows; only those of one array are in memory at a time.
    words : iterable of str, or PackedWords, optional
        A word for each row.
    attributes : mapping of str to array-like or iterable, optional
        The values of each attribute, one for each row.
    row_bytes : int
        Bytes of a row in the store.

    Raises
    ------
    ValueError
        If there are more words, or values of an attribute, than rows.
    """
    count = max(ARRAY_BYTES // max(row_bytes, 1), 1)
    if isinstance(words, PackedWords):
        words = (word.decode() for word in words.encoded())
    left = None if words is None else iter(words)
    columns = None if attributes is None else GivenColumns(attributes)
    while block := list(islice(rows, count)):
        yield (
            np.asarray(block),
            None if left is None else list(islice(left, len(block))),
            None if columns is None else columns.take(len(block)),
        )
    if columns is not None:
        columns.check_end()
    if left is not None and any(True for _ in left):
        raise ValueError("there are more words than rows")
