"""gensim's ``KeyedVectors``, with all words, vectors and attributes of a store in RAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embstore.dtypes import is_float, wide_dtype
from embstore.encodings.casting import Caster
from embstore.errors import ExportError
from embstore.row_blocks import row_blocks
from embstore.sinks import TableFacts, words_of

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

    from embstore.store import EmbeddingStore


def to_keyed_vectors(store: EmbeddingStore) -> KeyedVectors:
    """Return the table of a store as ``KeyedVectors``; see `EmbeddingStore.to_gensim`."""
    try:
        from gensim.models import KeyedVectors  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("to_gensim needs gensim: pip install gensim") from error
    table = TableFacts(store.rows, store.row_shape, store.dtype, store.has_words)
    # gensim computes in the dtype of the vectors, and 16 bits are too few for that.
    floats = wide_dtype(store.dtype) if is_float(store.dtype) else np.dtype(np.float32)
    result = KeyedVectors(table.dimension("gensim"), count=store.rows, dtype=floats)
    caster = Caster(floats)
    words: list[str] = []
    for block in row_blocks(store):
        result.vectors[block.start : block.start + len(block.rows)] = caster.cast(block.rows)
        words += [word.decode() for word in words_of(block).encoded()]
    if caster.largest_error:
        raise ExportError(
            f"the store has {store.dtype} numbers that {floats} cannot hold (the error is up to "
            f"{caster.largest_error:g}); use to_numpy()"
        )
    result.index_to_key = words
    result.key_to_index = {word: number for number, word in enumerate(words)}
    result.next_index = len(words)
    result.expandos = {name: column.to_numpy() for name, column in store.attributes.items()}
    return result
