"""Rows that a program produces: pairs of word and vector, or blocks of rows.

The first item tells whether an iterable holds pairs or blocks, and the shape of a row. The dtype is
that of the first item too, or what holds the numbers of all of them where they are in memory: in a
list, a tuple or a dict. Later items of another dtype keep it, so that the writer counts what its
cast changes. An iterator can be read only once, so its rows cannot be counted first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import common_dtype, is_tensor
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources import Batch, Source, batch_rows
from embstore.sources.arrays.objects import as_rows
from embstore.sources.arrays.source import check_dtype
from embstore.sources.words.word_objects import list_words
from embstore.vocabulary.words import PackedWords, pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DictItems = type(dict[str, Any]().items())
ITEMS = (
    "(word, vector), arrays of rows of shape (n, ...), or (words, array of rows); for single rows "
    "without words, yield row[None]"
)


class IterableSource(Source):
    """Rows of a mapping or an iterable; an `embstore.sources.Source`.

    Parameters
    ----------
    items : mapping or iterable
        ``{word: vector}``, or an iterable of ``(word, vector)``, of arrays of rows, or of
        ``(words, array of rows)``.
    limit : int, optional
        Take only the first ``limit`` rows, and no more items than these need.

    Raises
    ------
    SourceError
        If there are no items, or a store cannot hold such rows.
    TypeError
        If the first item is not one of these.
    """

    def __init__(
        self, items: Mapping[str, Any] | Iterable[Any], *, limit: int | None = None
    ) -> None:
        self.name = type(items).__name__
        if isinstance(items, Mapping):
            items = items.items()
        iterator = iter(items)
        self._once = iterator is items
        first = next(iterator, None)
        if first is None:
            raise SourceError(
                f"the {self.name} is empty; the row shape and dtype come from its first item"
            )
        self._items = chain([first], iterator) if self._once else items
        self._started = False
        self._limit = limit
        self._in_pairs = _is_pair(first)
        row = self._row_like(first)
        self.row_shape = row.shape
        self.dtype = check_dtype(self.place(0), row.dtype)
        if isinstance(items, list | tuple | _DictItems) and self.dtype != np.float64:
            self.dtype = self._common_dtype(items)
        self._row_bytes = math.prod(row.shape) * self.dtype.itemsize
        if self._row_bytes > spec.MAX_ROW_BYTES:
            raise SourceError(
                f"{self.place(0)}: a row takes {self._row_bytes} bytes, more than the "
                f"{spec.MAX_ROW_BYTES} that a store can hold"
            )
        self.row_count = self._count(items)
        self.byte_count = (self.row_count or 0) * self._row_bytes

    def describe(self) -> dict[str, Any]:
        """Return the type of the iterable, and the size of its rows."""
        return {"format": self.name, "bytes": self.byte_count}

    def count_rows(self) -> int:
        """Return the number of rows.

        Raises
        ------
        SourceError
            If it is an iterator, which can be read only once.
        """
        if self._once:
            raise SourceError(
                f'strategy="div" needs the number of rows first, and a {self.name} can be read '
                'only once; pass a list, or use strategy="mod"'
            )
        return super().count_rows()

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order.

        Raises
        ------
        SourceError
            If an item differs from the first one, or an iterator was read before.
        """
        if self._once and self._started:
            raise SourceError(f"a {self.name} can be read only once; pass a list to build again")
        self._started = True
        done = 0
        batches = self._pairs() if self._in_pairs else self._blocks()
        for rows, words in batches:
            first = done
            done += len(rows)
            yield Batch(rows, words, first, done * self._row_bytes)

    def _pairs(self) -> Iterator[tuple[NDArray[Any], PackedWords]]:
        items = islice(self._items, self._limit)
        size = batch_rows(self.row_shape, self.dtype)
        done = 0
        while True:
            words: list[str] = []
            vectors: list[Any] = []
            for item in islice(items, size):
                if not _is_pair(item):
                    raise SourceError(
                        f"{self.place(done + len(words))}: expected (word, vector), like the first "
                        f"item, found {_kind(item)}"
                    )
                word, vector = item
                if self._once:  # A generator may reuse the array for the next vector.
                    vector = np.array(as_rows(vector, self.place(done + len(words))))
                words.append(word)
                vectors.append(vector)
            if not words:
                return
            packed = self._pack(words, done)
            start = 0
            for rows in self._stacks(vectors, done):
                yield rows, packed.part(start, start + len(rows))
                start += len(rows)
            done += len(words)

    def _stacks(self, vectors: list[Any], first: int) -> Iterator[NDArray[Any]]:
        """Yield vectors as arrays of one dtype each."""
        if set(map(type, vectors)) <= {list, tuple}:  # Converted together, which is fast.
            rows = self._joined(vectors, first)
            if rows is not None:
                yield rows
                return
        arrays = [as_rows(vector, self.place(at)) for at, vector in enumerate(vectors, first)]
        if {(array.shape, array.dtype) for array in arrays} != {(self.row_shape, self.dtype)}:
            self._check_vectors(arrays, first)
        for dtype, run in groupby(arrays, key=lambda array: array.dtype):
            yield np.array(list(run), dtype.newbyteorder("="))

    def _check_vectors(self, vectors: list[NDArray[Any]], first: int) -> None:
        for at, vector in enumerate(vectors, first):
            check_dtype(self.place(at), vector.dtype)
            if vector.shape != self.row_shape:
                raise SourceError(
                    f"{self.place(at)}: expected a vector of shape {self.row_shape}, like the "
                    f"first one, found {vector.shape}"
                )

    def _joined(self, vectors: list[Any], first: int) -> NDArray[Any] | None:
        """Return lists of numbers as one array; None where they differ, which is then explained."""
        try:
            rows = as_rows(vectors, self.place(first))
        except SourceError:
            return None
        fits = rows.shape == (len(vectors), *self.row_shape) and rows.dtype.kind in "iuf"
        return rows if fits else None

    def _blocks(self) -> Iterator[tuple[NDArray[Any], PackedWords | None]]:
        size = batch_rows(self.row_shape, self.dtype)
        left = self._limit
        done = 0
        items = iter(self._items)
        while left is None or left > 0:
            if (item := next(items, None)) is None:
                return
            words, rows = _split_block(item, self.place(done))
            self._check_block(words, rows, done)
            count = len(rows) if left is None else min(len(rows), left)
            for start in range(0, count, size):
                stop = min(start + size, count)
                packed = None if words is None else self._pack(words[start:stop], done + start)
                # A generator may reuse the array for the next block.
                block = rows[start:stop]
                yield (block.copy() if self._once else block), packed
            done += count
            left = None if left is None else left - count

    def _check_block(self, words: list[str] | None, rows: NDArray[Any], first: int) -> None:
        if rows.ndim == 0 or rows.shape[1:] != self.row_shape:
            expected = ", ".join(["n", *map(str, self.row_shape)])
            raise SourceError(
                f"{self.place(first)}: expected an array of shape ({expected}), like the first "
                f"one, found {rows.shape}"
            )
        check_dtype(self.place(first), rows.dtype)
        if words is not None and len(words) != len(rows):
            raise SourceError(
                f"{self.place(first)}: a block has {len(words)} words but {len(rows)} rows"
            )

    def _pack(self, words: list[str], first: int) -> PackedWords:
        try:
            return pack(words)
        except (UnicodeEncodeError, TypeError):
            for position, word in enumerate(words, first):
                try:
                    pack([word])
                except (UnicodeEncodeError, TypeError) as error:
                    raise SourceError(
                        f"{self.place(position)}: the word {word!r}: {error}"
                    ) from error
            raise

    def _row_like(self, first: Any) -> NDArray[Any]:
        """Return an array of the shape and dtype of a row, from the first item."""
        if self._in_pairs:
            return as_rows(first[1], self.place(0))
        _, rows = _split_block(first, self.place(0))
        if rows.ndim < 2:
            raise TypeError(
                f"the first item of the {self.name} is {_kind(first)}; expected items {ITEMS}"
            )
        return np.empty(rows.shape[1:], rows.dtype)

    def _common_dtype(self, items: Any) -> np.dtype[Any]:
        """Return the dtype that holds the numbers of all items."""
        found = {self.dtype}
        done = 0
        for item in items if self._limit is None else islice(items, self._limit):
            place = self.place(done)
            if not self._in_pairs:
                rows = _split_block(item, place)[1]
                done += len(rows) if rows.ndim else 0
                found.add(check_dtype(place, rows.dtype))
            elif _is_pair(item):
                found.add(check_dtype(place, as_rows(item[1], place).dtype))
                done += 1
        try:
            return common_dtype(found)
        except ValueError as error:
            raise SourceError(f"{self.name}: {error}") from error

    def _count(self, items: Any) -> int | None:
        if self._in_pairs and isinstance(items, Sized):
            count = len(items)
        elif not self._in_pairs and isinstance(items, list | tuple):
            count = sum(len(_split_block(item, self.name)[1]) for item in items)
        else:
            return None
        return count if self._limit is None else min(count, self._limit)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)


def _split_block(item: Any, place: str) -> tuple[list[str] | None, NDArray[Any]]:
    """Return the words of a block, if it has words, and its rows."""
    if isinstance(item, tuple) and len(item) == 2 and (words := _words_of(item[0])) is not None:
        return words, as_rows(item[1], place)
    if isinstance(item, tuple | list) and any(
        isinstance(part, str | bytes) or len(getattr(part, "shape", ())) > 1 for part in item
    ):
        raise SourceError(f"{place}: expected {ITEMS}; found {_kind(item)}")
    return None, as_rows(item, place)


def _words_of(item: Any) -> list[str] | None:
    """Return the words of a block; None if these are no words."""
    if isinstance(item, list | tuple):
        return [str(word) for word in item] if all(isinstance(word, str) for word in item) else None
    if is_tensor(item) or not (hasattr(item, "shape") or hasattr(item, "to_pylist")):
        return None
    if getattr(getattr(item, "dtype", None), "kind", "O") in "iufcb":
        return None
    try:
        return list_words(item)
    except TypeError:
        return None


def _kind(item: Any) -> str:
    """Return the type and the shape of an item, for messages."""
    if isinstance(item, tuple | list) and 0 < len(item) < 9:
        return f"{type(item).__name__} of {', '.join(dict.fromkeys(map(_kind, item)))}"
    shape = getattr(item, "shape", None)
    return type(item).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
