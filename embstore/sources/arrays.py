"""Rows of arrays: in memory, in files, or of another library that slices like NumPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embstore.dtypes import DTYPES, find_dtype, has_masked
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources import Batch, Source, batch_rows
from embstore.sources.word_list import WordList

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embstore.sources.word_list import Words


class ArrayLike(Protocol):
    """An array that is sliced batch by batch."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        ...

    @property
    def dtype(self) -> Any:
        """Dtype of the elements."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Return some rows."""
        ...


class ArraySource(Source):
    """Rows of one or more arrays, one after the other.

    Parameters
    ----------
    name : str
        Their name in messages.
    parts : sequence of array-like, shape (n, *row_shape)
        The arrays.
    words : str, Path, or sequence of str, optional
        The words of the rows: a text file of one word a line, or the words.
    origin : dict
        Facts about the origin of the rows, for the manifest.
    part_names : sequence of str, optional
        The name of each part.

    Raises
    ------
    SourceError
        If there are no arrays, their rows differ in shape or dtype, or the numbers of words and
        rows differ.
    """

    ids_matter = True

    def __init__(
        self,
        name: str,
        parts: Sequence[ArrayLike],
        *,
        words: Words | None = None,
        origin: dict[str, Any],
        part_names: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self._parts = parts
        self._origin = origin
        names = part_names or [
            f"{name}[{i}]" if len(parts) > 1 else name for i in range(len(parts))
        ]
        if not parts:
            raise SourceError(f"{name} has no arrays; expected at least one")
        self._dtype = np.dtype(parts[0].dtype)
        self.dtype = check_dtype(names[0], self._dtype)
        for part, part_name in zip(parts, names, strict=True):
            if has_masked(part):
                raise SourceError(f"{part_name} has masked numbers; fill them with .filled()")
            if not part.shape:
                raise SourceError(f"{part_name} has shape (); expected (rows, ...)")
            if (*part.shape[1:], part.dtype) != (*parts[0].shape[1:], self._dtype):
                raise SourceError(
                    f"{part_name} has shape {tuple(part.shape)} and dtype {part.dtype}, but "
                    f"{names[0]} has shape {tuple(parts[0].shape)} and dtype {self._dtype}"
                )
        self.row_shape = tuple(map(int, parts[0].shape[1:]))
        self.row_count: int = sum(int(part.shape[0]) for part in parts)
        self._row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        if self._row_bytes > spec.MAX_ROW_BYTES:
            raise SourceError(
                f"{names[0]} has shape {tuple(parts[0].shape)}: a row takes {self._row_bytes} "
                f"bytes, more than the {spec.MAX_ROW_BYTES} that a store can hold"
            )
        self.byte_count = self.row_count * self._row_bytes
        self._words = None if words is None else WordList(words, self.row_count)
        if self._words is not None:
            self._words.check_count(self.row_count, name)

    def describe(self) -> dict[str, Any]:
        """Return the origin of the arrays, and their size."""
        return self._origin | {"bytes": self.byte_count}

    def batches(self) -> Iterator[Batch]:
        """Yield the arrays' rows."""
        step = batch_rows(self.row_shape, self.dtype)
        words = None if self._words is None else self._words.reader()
        done = 0
        for part in self._parts:
            for start in range(0, part.shape[0], step):
                rows = np.asarray(part[start : start + step], self.dtype)
                packed = None if words is None else words.take(len(rows))
                first = done
                done += len(rows)
                yield Batch(rows, packed, first, done * self._row_bytes)


def check_dtype(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in native byte order, or raise if no store can hold it."""
    if find_dtype(dtype) is None:
        raise SourceError(
            f"{name} has dtype {dtype}; a store can hold {', '.join(DTYPES)}: convert it"
        )
    return dtype.newbyteorder("=")
