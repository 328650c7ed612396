"""Sources for Python objects, chosen by the object's type or by what it can do.

torch and gensim are not imported here: a caller that passes a tensor or ``KeyedVectors`` has
imported them.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError
from embstore.sources.arrays.by_id import VectorsById, is_vocabulary
from embstore.sources.arrays.containers import refuse_container
from embstore.sources.arrays.objects import as_array
from embstore.sources.arrays.partitioned import Partitioned
from embstore.sources.arrays.source import ArraySource
from embstore.sources.arrow.frames import open_frame
from embstore.sources.iterables import IterableSource
from embstore.sources.store import StoreSource
from embstore.store import EmbeddingStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embstore.sources import Source
    from embstore.sources.arrays.source import ArrayLike
    from embstore.sources.words.word_list import Words
    from embstore.table.numbering import Strategy

ACCEPTED = (
    "a path, an array (NumPy's, or of a library whose arrays slice like them), a {word: vector} or "
    "{id: vector} mapping, an iterable of (word, vector), of (words, rows) or of arrays of rows, a "
    "gensim KeyedVectors, a torch tensor or Embedding, an open store, a data frame or Arrow table, "
    "or a list of partitions with partition_strategy="
)


def open_object(
    source: Any,
    *,
    words: Words | None = None,
    partition_strategy: Strategy | None = None,
    column: str | None = None,
    word_column: str | None = None,
    attributes: Sequence[str] | None = None,
    limit: int | None = None,
    encoding: str | None = None,
) -> Source:
    """Return the rows of an object.

    Parameters
    ----------
    source : object
        An array (NumPy's, or one with ``shape``, ``dtype`` and slices like NumPy's, such as
        ``zarr.Array``), a torch tensor or ``Embedding``, an open store, a list of arrays or of
        partitions, a gensim ``KeyedVectors``, a mapping, or an iterable; see
        `embstore.sources.arrays.objects` and `embstore.sources.iterables`.
    words : str, Path, or iterable of str, optional
        The words of an array's rows.
    partition_strategy : {"mod", "div"}, optional
        How the ids are split among a list of partitions.
    column, word_column : str, optional
        The columns of a frame or an Arrow table; see `embstore.sources.arrow.columns`.
    attributes : sequence of str, optional
        The columns of a frame, or the attributes of a gensim ``KeyedVectors`` or of a store, to
        keep. By default all of a store.
    limit : int, optional
        The most rows to take from an iterable.
    encoding : str, optional
        The encoding that is wanted; by default that of an open store.

    Raises
    ------
    TypeError
        If it is none of these.
    SourceError
        If a store cannot hold its rows, or it holds several tables.
    """
    name = type(source).__name__
    if isinstance(source, EmbeddingStore):
        if words is not None or partition_strategy is not None:
            raise SourceError("a store takes neither words= nor partition_strategy=")
        return StoreSource(source, encoding=encoding, attributes=attributes)
    frame = open_frame(source, column=column, word_column=word_column, attributes=attributes)
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
        parts = Partitioned(source, partition_strategy)
        return ArraySource(name, [parts], words=words, origin={"format": f"partitions of {name}"})
    columns: dict[str, ArrayLike] = {}
    if hasattr(getattr(source, "wv", None), "index_to_key"):
        source = source.wv  # A model of gensim.
    if hasattr(source, "index_to_key") and hasattr(source, "vectors"):
        if words is not None:
            raise SourceError(f"{name} has its own words; leave out words=")
        columns = _expandos(source, attributes or (), name)
        attributes = None
        keys, source = source.index_to_key, source.vectors
        # Documents of gensim's Doc2Vec may have numbers for names.
        words = None if list(keys) == list(range(len(keys))) else keys
    if attributes:
        raise SourceError(
            f"a {name} has no columns by name; pass the values: "
            f"attributes={{{attributes[0]!r}: values}}"
        )
    if (arrays := _arrays(source)) is not None:
        origin = {"format": name}
        return ArraySource(name, arrays, words=words, origin=origin, attributes=columns)
    _refuse_others(source)
    if words is not None:
        raise SourceError(
            f"words= goes with arrays, not with {name}; yield (word, vector) or (words, rows)"
        )
    return IterableSource(source, limit=limit)


def _expandos(source: Any, names: Sequence[str], kind: str) -> dict[str, ArrayLike]:
    """Return attributes of gensim's keys by name."""
    found = getattr(source, "expandos", {})
    for name in names:
        if name not in found:
            listing = ", ".join(map(str, found)) or "none"
            raise SourceError(f"the {kind} has no attribute {name!r}; it has: {listing}")
    return {name: np.asarray(found[name]) for name in names}


def _arrays(source: Any) -> Sequence[ArrayLike] | None:
    """Return the arrays that an object is: itself, its items one after the other, or its values."""
    if (array := as_array(source)) is not None:
        return [array]
    if isinstance(source, list | tuple) and not any(
        isinstance(x, list | tuple | str) for x in source
    ):
        arrays = [as_array(item) for item in source]
        found = [array for array in arrays if array is not None and len(array.shape) > 1]
        return found if found and len(found) == len(source) else None
    if isinstance(source, Mapping):
        refuse_container(source)
        if not isinstance(next(iter(source), ""), str):
            return [VectorsById(source)]
    return None


def _refuse_others(source: Any) -> None:
    """Raise for what is no iterable of rows."""
    name = type(source).__name__
    refuse_container(source)
    if isinstance(source, Set) and not isinstance(source, ItemsView):
        raise TypeError(f"cannot build from a {name}, which has no order; expected {ACCEPTED}")
    if hasattr(source, "read"):
        raise TypeError(f"cannot build from an open file ({name}); pass its path")
    if isinstance(getattr(source, "store", None), EmbeddingStore):
        raise TypeError(f"cannot build from {name}, whose rows are in a store; pass its .store")
    if hasattr(source, "state_dict"):
        raise TypeError(f"cannot build from {name}; pass its weight, or a tensor of state_dict()")
    if isinstance(source, Mapping) and is_vocabulary(source):
        raise SourceError(
            f"the {name} is {{word: id}}, without vectors; pass the rows, and this as words="
        )
    if isinstance(source, bytes | bytearray) or not isinstance(source, Iterable):
        raise TypeError(f"cannot build from {name}; expected {ACCEPTED}")
