"""Sources for Python objects, chosen by the object's type or by what it can do.

torch and gensim are not imported here: a caller that passes a tensor or ``KeyedVectors`` has
imported them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import is_tensor, tensor_array
from embstore.errors import PartitionSizeError, SourceError
from embstore.sources.arrays import ArraySource
from embstore.sources.frames import open_frame
from embstore.sources.iterables import IterableSource
from embstore.sources.store import StoreSource
from embstore.store import EmbeddingStore
from embstore.table.numbering import Numbering, Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.sources import Source
    from embstore.sources.arrays import ArrayLike
    from embstore.sources.word_list import Words

ACCEPTED = (
    "a path, an array, a {word: vector} mapping, an iterable of (word, vector) or of arrays of "
    "rows, a gensim KeyedVectors, a torch tensor, an open store, or a list of partitions with "
    "partition_strategy="
)


def open_object(
    source: Any,
    *,
    words: Words | None = None,
    partition_strategy: Strategy | None = None,
    column: str | None = None,
    word_column: str | None = None,
    limit: int | None = None,
) -> Source:
    """Return the rows of an object.

    Parameters
    ----------
    source : object
        An array (NumPy's, or one with ``shape``, ``dtype`` and slices like NumPy's, such as
        ``zarr.Array``), a torch tensor, an open store, a list of partitions, a gensim
        ``KeyedVectors``, a mapping, or an iterable; see `embstore.sources.iterables`.
    words : str, Path, or iterable of str, optional
        The words of an array's rows.
    partition_strategy : {"mod", "div"}, optional
        How the ids are split among a list of partitions.
    column, word_column : str, optional
        The columns of a frame or an Arrow table; see `embstore.sources.columns`.
    limit : int, optional
        The most rows to take from an iterable.

    Raises
    ------
    TypeError
        If it is none of these.
    SourceError
        If a store cannot hold its rows.
    """
    name = type(source).__name__
    if isinstance(source, EmbeddingStore):
        if words is not None or partition_strategy is not None:
            raise SourceError("a store takes neither words= nor partition_strategy=")
        return StoreSource(source)
    frame = open_frame(source, column=column, word_column=word_column)
    if frame is not None:
        if words is not None or partition_strategy is not None:
            raise SourceError(
                f"a {name} takes neither words= nor partition_strategy=; put the words into a "
                "column of strings"
            )
        return frame
    if column is not None or word_column is not None:
        raise SourceError(f"a {name} takes neither column= nor word_column=; frames do")
    if partition_strategy is not None:
        parts = _Partitioned(source, partition_strategy)
        return ArraySource(name, [parts], words=words, origin={"format": f"partitions of {name}"})
    if hasattr(getattr(source, "wv", None), "index_to_key"):
        source = source.wv  # A model of gensim.
    if hasattr(source, "index_to_key") and hasattr(source, "vectors"):
        if words is not None:
            raise SourceError(f"{name} has its own words; leave out words=")
        words, source = source.index_to_key, source.vectors
    if (array := as_array(source)) is not None:
        return ArraySource(name, [array], words=words, origin={"format": name})
    if words is not None:
        raise SourceError(
            f"words= goes with arrays, not with {name}; yield (word, vector) or (words, rows)"
        )
    if isinstance(source, Mapping) or (
        isinstance(source, Iterable) and not isinstance(source, bytes)
    ):
        return IterableSource(source, limit=limit)
    raise TypeError(f"cannot build from {name}; expected {ACCEPTED}")


def as_array(source: Any) -> ArrayLike | None:
    """Return an object as something that slices like an array; None if it does not."""
    if is_tensor(source):
        return _TensorRows(source)
    if isinstance(source, list | tuple) and source and not _has_text(source[0]):
        first = source[0]
        if isinstance(first, list | tuple) or np.isscalar(first):
            try:
                return np.asarray(source)  # Nested lists of numbers.
            except ValueError as error:
                raise SourceError(
                    f"the rows of the {type(source).__name__} differ: {error}"
                ) from error
    if isinstance(source, str | bytes | Mapping) or not hasattr(source, "__getitem__"):
        return None
    return source if hasattr(source, "shape") and hasattr(source, "dtype") else None


class _TensorRows:
    """A torch tensor, as an array."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor.detach()
        self.shape = tuple(tensor.shape)
        self.dtype = self[slice(0, 0)].dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return tensor_array(self._tensor[rows].cpu())


class _Partitioned:
    """A list of partitions as one array, in the order of ids."""

    def __init__(self, partitions: Any, strategy: Strategy) -> None:
        if not isinstance(partitions, list | tuple) or not partitions:
            raise SourceError(
                "partition_strategy= goes with a list of partitions, not with "
                f"{type(partitions).__name__}"
            )
        self._parts = []
        for number, partition in enumerate(partitions):
            array = as_array(partition)
            if array is None or not array.shape:
                raise SourceError(f"partition {number} is {type(partition).__name__}, not an array")
            self._parts.append(array)
        row_shape, self.dtype = tuple(self._parts[0].shape[1:]), np.dtype(self._parts[0].dtype)
        for number, array in enumerate(self._parts):
            if (tuple(array.shape[1:]), np.dtype(array.dtype)) != (row_shape, self.dtype):
                raise SourceError(
                    f"partition {number} has rows of shape {tuple(array.shape[1:])} and dtype "
                    f"{array.dtype}, partition 0 of {row_shape} and {self.dtype}"
                )
        found = tuple(int(array.shape[0]) for array in self._parts)
        self.shape = (sum(found), *row_shape)
        self._numbering = Numbering(sum(found), len(found), strategy)
        if found != self._numbering.row_counts():
            raise PartitionSizeError(
                f"partitions have {found} rows, but {sum(found)} rows partitioned by {strategy!r} "
                f"are {self._numbering.row_counts()}: with other sizes, ids would lead to wrong "
                "rows"
            )

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        result = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for partition, piece in self._numbering.spread(start, stop):
            _, row = self._numbering.locate_one(start + piece.start)
            count = len(range(*piece.indices(stop - start)))
            result[piece] = self._parts[partition][row : row + count]
        return result


def _has_text(item: Any) -> bool:
    """Return whether an item is, or starts with, a word."""
    while isinstance(item, list | tuple) and item:
        item = item[0]
    return isinstance(item, str)
