"""Rows of arrays: in memory, in files, or of another library that slices like NumPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embstore.dtypes import DTYPES, common_dtype, find_dtype, has_masked
from embstore.encodings.casting import Caster
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources import Batch, Source, batch_rows
from embstore.sources.arrays.columns import ArrayColumns
from embstore.sources.words.word_list import WordList
from embstore.wording import either, option, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from embstore.sources.words.word_list import Words


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

    Each batch has the dtype of its array; ``dtype`` is what holds the numbers of all of them.

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
    attributes : mapping of str to array-like, shape (rows,), optional
        The values of each attribute.
    record_bytes : int, optional
        The size of a row where it is read from; by default that of its numbers.

    Raises
    ------
    SourceError
        If there are no arrays, a store cannot hold one of them, their rows differ in shape, or the
        numbers of words and rows differ.
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
        attributes: Mapping[str, ArrayLike] | None = None,
        record_bytes: int | None = None,
    ) -> None:
        self.name = name
        self._parts = parts
        self._origin = origin
        names = part_names or [
            f"{name}[{i}]" if len(parts) > 1 else name for i in range(len(parts))
        ]
        if not parts:
            raise SourceError(f"{name} has no arrays; expected at least one")
        self.row_shape, self.dtype = common_rows(parts, names)
        self._names = names
        self.row_count: int = sum(int(part.shape[0]) for part in parts)
        row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        if row_bytes > spec.MAX_ROW_BYTES:
            raise SourceError(
                f"{names[0]} has shape {shape_text(tuple(parts[0].shape))}: a row takes "
                f"{row_bytes} bytes, more than the {spec.MAX_ROW_BYTES} that a store can hold"
            )
        self._row_bytes = row_bytes if record_bytes is None else record_bytes
        self.byte_count = self.row_count * self._row_bytes
        self._words = None if words is None else WordList(words, self.row_count)
        if self._words is not None:
            self._words.check_count(self.row_count, name)
        self._columns = ArrayColumns(attributes or {}, self.row_count, name)
        self.attribute_dtypes = self._columns.dtypes

    def describe(self) -> dict[str, Any]:
        """Return the origin of the arrays, and their size."""
        return self._origin | {"bytes": self.byte_count}

    def batches(self) -> Iterator[Batch]:
        """Yield the arrays' rows."""
        step = batch_rows(self.row_shape, self.dtype)
        words = None if self._words is None else self._words.reader()
        done = 0
        for part, name in zip(self._parts, self._names, strict=True):
            for start in range(0, part.shape[0], step):
                stop = min(start + step, part.shape[0])
                rows = _plain_rows(part[start:stop], (stop - start, *self.row_shape), name)
                packed = None if words is None else words.take(len(rows))
                first = done
                done += len(rows)
                attributes = self._columns.part(first, done)
                yield Batch(rows, packed, first, done * self._row_bytes, attributes)


def common_rows(
    parts: Sequence[ArrayLike], names: Sequence[str]
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the row shape of arrays, and the dtype that holds the numbers of all.

    Parameters
    ----------
    parts : sequence of array-like
        One array or more.
    names : sequence of str
        Their names in messages.

    Raises
    ------
    SourceError
        If an array has no rows, or rows differ in shape.
    """
    row_shape = tuple(map(int, parts[0].shape[1:]))
    dtypes = []
    for part, name in zip(parts, names, strict=True):
        if has_masked(part):
            raise SourceError(
                f"{name} has masked numbers; fill them with {either('.filled()', 'numbers')}"
            )
        if not part.shape:
            raise SourceError(f"{name} has shape (); expected (rows, ...)")
        dtypes.append(check_dtype(name, np.dtype(part.dtype)))
        if tuple(map(int, part.shape[1:])) != row_shape:
            raise SourceError(
                f"{name} has shape {shape_text(tuple(part.shape))} and dtype {part.dtype}, but "
                f"{names[0]} has shape {shape_text(tuple(parts[0].shape))} and dtype "
                f"{parts[0].dtype}"
            )
    try:
        return row_shape, common_dtype(dtypes)
    except ValueError as error:
        raise SourceError(f"{names[0]} and others: {error}") from error


def cast_exactly(rows: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return rows in a common dtype, or raise SourceError if it does not hold one of the numbers.

    Parameters
    ----------
    rows : ndarray, shape (n, ...)
        The rows.
    dtype : numpy.dtype
        What `common_rows` gave; 64-bit integers may exceed it among floats.
    name : str
        Their name in messages.
    """
    caster = Caster(dtype)
    cast = caster.cast(rows)
    if caster.facts():
        raise SourceError(
            f"{name} has {rows.dtype} numbers that {dtype}, which others need, does not hold "
            "exactly; convert all to one dtype first"
        )
    return cast


def _plain_rows(found: Any, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Return a slice of an array in native byte order; its dtype stays."""
    if has_masked(found):
        raise SourceError(
            f"{name} has masked numbers; fill them with {either('.filled()', 'numbers')}"
        )
    rows = np.asarray(found)
    if rows.shape != shape:
        raise SourceError(
            f"{name}: expected a slice of shape {shape_text(shape)}, found {shape_text(rows.shape)}"
        )
    return rows.astype(rows.dtype.newbyteorder("="), copy=False)


def check_dtype(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in native byte order, or raise if no store can hold it."""
    if find_dtype(dtype) is None:
        kind = (
            "V" if dtype.type is np.void else dtype.kind.replace("V", "f")
        )  # Of ml_dtypes' types.
        remedy = _remedy(kind)
        if dtype.names is not None:
            remedy = f"choose one of its fields: {', '.join(dtype.names)}"
        raise SourceError(
            f"{name} has dtype {dtype}; a store can hold {', '.join(DTYPES)}: {remedy}"
        )
    return dtype.newbyteorder("=")


def _remedy(kind: str) -> str:
    """Return what to do with a dtype that no store holds, by NumPy's kind of it."""
    texts = f"texts are no numbers; words of rows go with {option('words')}"
    times = either("pass its numbers, such as with .astype('int64')", "save its numbers as int64")
    remedies = {
        "b": either("pass 0 and 1, such as with .astype('uint8')", "save 0 and 1 as uint8"),
        "c": either(
            "pass real and imaginary parts as numbers, such as np.stack([a.real, a.imag], axis=-1)",
            "save real and imaginary parts as numbers of their own",
        ),
        "O": "these are Python objects; "
        + either("pass numbers, such as np.array(list(rows), dtype='float32')", "save numbers"),
        "M": times,
        "m": times,
        "S": texts,
        "T": texts,
        "U": texts,
        "V": "these are bytes without a type; "
        + either("say what they are, such as with .view('bfloat16')", "save them as safetensors"),
    }
    other = either("convert it, such as with .astype('float32')", "save it as float32")
    return remedies.get(kind, other)
