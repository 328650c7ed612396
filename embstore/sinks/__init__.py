"""File formats that a store can be exported to: one format a file, and a line in `SINKS`.

Each format is a function ``write(file, table, blocks)``: ``file`` is open for writing bytes,
`TableFacts` describes all blocks together, and the blocks come in id order. If the format cannot
hold the table, the function raises an `embstore.ExportError` that names the word or the dtype, and
a format that can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from embstore.errors import ExportError
from embstore.row_blocks import ROW_BLOCK_BYTES
from embstore.wording import shape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from embstore.row_blocks import RowBlock
    from embstore.table.protocols import Encoding
    from embstore.vocabulary.words import PackedWords

    Write: TypeAlias = Callable[[IO[bytes], "TableFacts", Iterator[RowBlock]], None]

ExportFormat = Literal["glove", "word2vec", "word2vec-binary", "npy", "parquet", "safetensors"]


@dataclass(frozen=True, slots=True)
class Sink:
    """How files of one format are written.

    Attributes
    ----------
    module, function : str
        The function that writes the format, and its module in `embstore.sinks`. It is imported when
        it is needed, because some formats need pyarrow, which is slow to import.
    suffix : str or None
        The suffix of file names that implies the format.
    block_bytes : int
        Approximate size of the blocks that the function gets.
    has_words : bool
        Whether the format has words; else they go to a file of their own.
    takes_records : bool
        Whether it holds encoded rows as they are: blocks are then of their records.
    has_attributes : bool
        Whether the format has columns for attributes.
    """

    module: str
    function: str
    suffix: str | None
    block_bytes: int = ROW_BLOCK_BYTES
    has_words: bool = True
    takes_records: bool = False
    has_attributes: bool = False

    def load(self) -> Write:
        """Return the function that writes the format."""
        write: Write = getattr(import_module(f"embstore.sinks.{self.module}"), self.function)
        return write


# The text of a block of 1 MiB stays in the processor's cache while it is formatted. A block becomes
# a row group of a Parquet file, and readers prefer these larger.
SINKS: dict[ExportFormat, Sink] = {
    "glove": Sink("text", "write_glove", None, block_bytes=1 << 20),
    "word2vec": Sink("text", "write_word2vec", ".vec", block_bytes=1 << 20),
    "word2vec-binary": Sink("word2vec_binary", "write_word2vec_binary", ".bin"),
    "npy": Sink("npy", "write_npy", ".npy", has_words=False),
    "parquet": Sink(
        "parquet", "write_parquet", ".parquet", block_bytes=32 << 20, has_attributes=True
    ),
    "safetensors": Sink(
        "safetensors", "write_safetensors", ".safetensors", has_words=False, takes_records=True
    ),
}


@dataclass(frozen=True, slots=True)
class TableFacts:
    """Description of the whole table, which a format may need before the first block.

    Attributes
    ----------
    rows : int
        Number of rows.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Dtype of the rows in the blocks.
    has_words : bool
        Whether the blocks have words.
    encoding : Encoding or None
        If not None, the rows in the blocks are records of this encoding.
    attributes : mapping of str to str
        The dtypes of the attributes in the blocks, by name, as `EmbeddingStore.attributes` has
        them.
    """

    rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    has_words: bool
    encoding: Encoding | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def dimension(self, format: str) -> int:
        """Return the length of the vectors, for a format of words and vectors.

        Raises
        ------
        ExportError
            If the table has no words, or its rows are not vectors of numbers.
        """
        if not self.has_words:
            raise ExportError(
                f"the store has no words, and {format} is a format of words and vectors; "
                "export as npy, parquet or safetensors"
            )
        if len(self.row_shape) != 1:
            raise ExportError(
                f"rows have shape {shape_text(self.row_shape)}, and {format} is a format of "
                "vectors; export as npy, parquet or safetensors"
            )
        self.check_numbers(format)
        return self.row_shape[0]

    def check_numbers(self, format: str) -> None:
        """Raise ExportError if rows have no numbers, for a format that cannot say so."""
        if 0 in self.row_shape:
            raise ExportError(
                f"rows of shape {shape_text(self.row_shape)} have no numbers, which {format} does "
                "not support; export as npy or safetensors"
            )


def words_of(block: RowBlock) -> PackedWords:
    """Return the words of a block of a table with words."""
    if block.words is None:
        raise ValueError("expected a block with words, found one without")
    return block.words


def word_error(block: RowBlock, position: int, problem: str) -> ExportError:
    """Return the error about one word of a block.

    Parameters
    ----------
    block : RowBlock
        The block.
    position : int
        Position of the word in the block.
    problem : str
        What is wrong with the word, and what to do.
    """
    word = words_of(block).encoded()[position].decode("utf-8", "replace")
    shown = repr(word) if len(word) <= 60 else f"{word[:60]!r}..."
    return ExportError(f"the word {shown} (id {block.start + position}) {problem}")


def refuse_bytes(block: RowBlock, rules: dict[bytes, str]) -> None:
    """Raise for the first word that contains a forbidden byte.

    Parameters
    ----------
    block : RowBlock
        The block.
    rules : dict of bytes to str
        For each forbidden byte, what is wrong with a word that contains it, and what to do.
    """
    data = words_of(block).data.tobytes()
    for byte, problem in rules.items():
        if byte in data:
            encoded = words_of(block).encoded()
            position = next(i for i, word in enumerate(encoded) if byte in word)
            raise word_error(block, position, problem)
