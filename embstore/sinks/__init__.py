"""Where can rows go? One format a file; each is a function that writes blocks to an open file.

``write(file, table, blocks)``: the file is open for writing bytes, `TableFacts` says what the
blocks together are, and they come in the order of their ids. What the format cannot hold is an
`embstore.ExportError` that names the word or the dtype, and what can hold it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from embstore.errors import ExportError

if TYPE_CHECKING:
    import numpy as np

    from embstore.row_blocks import RowBlock
    from embstore.vocabulary.words import PackedWords

ExportFormat = Literal["glove", "word2vec", "word2vec-binary", "npy", "parquet"]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a format must know before the first block.

    Attributes
    ----------
    rows : int
        Number of rows.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the blocks' rows.
    has_words : bool
        Whether blocks have words.
    """

    rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    has_words: bool

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    def dimension(self, format: str) -> int:
        """Return the length of the vectors, for a format of words and vectors.

        Raises
        ------
        ExportError
            If there are no words, or rows are no vectors.
        """
        if not self.has_words:
            raise ExportError(
                f"the store has no words, and {format} is a format of words and vectors; "
                "export as npy or parquet"
            )
        if len(self.row_shape) != 1:
            raise ExportError(
                f"rows have shape {self.row_shape}, and {format} is a format of vectors; "
                "export as npy or parquet"
            )
        return self.row_shape[0]


def words_of(block: RowBlock) -> PackedWords:
    """Return a block's words, where the table has words."""
    if block.words is None:
        raise ValueError("a table with words has a block without")
    return block.words


def refuse_word(block: RowBlock, position: int, problem: str) -> ExportError:
    """Return the error about one word of a block.

    Parameters
    ----------
    block : RowBlock
        The block.
    position : int
        Which of its words.
    problem : str
        What is wrong with it, and what to do.
    """
    word = words_of(block).encoded()[position].decode("utf-8", "replace")
    shown = repr(word) if len(word) <= 60 else f"{word[:60]!r}..."
    return ExportError(f"the word {shown} (id {block.start + position}) {problem}")


def refuse_bytes(block: RowBlock, rules: dict[bytes, str]) -> None:
    """Raise for the first word that contains one of some bytes.

    Parameters
    ----------
    block : RowBlock
        The block.
    rules : dict of bytes to str
        For each byte, what is wrong with a word that contains it, and what to do.
    """
    data = words_of(block).data.tobytes()
    for byte, problem in rules.items():
        if byte in data:
            encoded = words_of(block).encoded()
            position = next(i for i, word in enumerate(encoded) if byte in word)
            raise refuse_word(block, position, problem)
