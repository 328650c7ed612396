"""Vectors in word2vec's binary format, as gensim writes it.

A header line ``rows dimension``, then for each row its word, a space, and the vector as
little-endian float32. A word ends at its space, and readers skip newlines before a word (word2vec
itself writes one after each row), so a word can contain neither.
"""

from __future__ import annotations

from itertools import chain
from typing import IO, TYPE_CHECKING

import numpy as np

from embstore.dtypes import is_float
from embstore.errors import ExportError
from embstore.sinks import refuse_bytes, words_of
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

_RULES = {
    b" ": "contains a space, which ends a word in the word2vec format; export as glove or parquet",
    b"\n": "contains a newline, which readers of the word2vec format skip; export as parquet",
}


def write_word2vec_binary(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write the header, the words and the vectors."""
    dimension = table.dimension("word2vec-binary")
    if not is_float(table.dtype) or not np.can_cast(table.dtype, np.float32):
        raise ExportError(
            f"the table is {table.dtype}, and word2vec-binary holds float32; pass "
            f"{option('dtype', 'float32')}, or export as npy, parquet or safetensors"
        )
    file.write(f"{table.rows} {dimension}\n".encode())
    write_records(file, table, blocks)


def write_records(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write the words and the vectors, for the end of a file that has a header."""
    row_bytes = 4 * table.dimension("word2vec-binary")
    for block in blocks:
        refuse_bytes(block, _RULES)
        data = np.ascontiguousarray(block.rows, "<f4").reshape(-1).view(np.uint8).data
        words = [word + b" " for word in words_of(block).encoded()]
        vectors = (data[at : at + row_bytes] for at in range(0, len(data), row_bytes))
        file.write(b"".join(chain.from_iterable(zip(words, vectors, strict=True))))
