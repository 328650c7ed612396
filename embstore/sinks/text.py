r"""Vectors as text: GloVe, and the text format of word2vec and fastText.

A line is a word and its numbers, separated by single spaces; word2vec has a header,
``rows dimension``. Numbers are written in the shortest digits that give the same number back when
parsed as float32, or as float64 if the table has that dtype; so narrower floats are written as
float32.

Words that a reader would misread are refused:

* with a newline, which ends the line, in both formats;
* with a space, in word2vec, where it ends the word. GloVe files contain such words: there, the last
  ``dimension`` fields of a line are the vector, and the rest is the word. But a word that ends in a
  space and a number would be read as a longer vector;
* with a byte order mark at the start of a GloVe file, which would be read as that of the file.

So is a GloVe file whose first line is two whole numbers, which would be read as a header.

Blocks are formatted on threads, by pyarrow, and written in order.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embstore.dtypes import wide_dtype
from embstore.errors import ExportError
from embstore.reading.pipeline import in_order
from embstore.sinks import refuse_bytes, word_error, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

# The longest text of a number, such as -2.2250738585072014e-308, and the space after it.
MAX_NUMBER_BYTES = 25
MAX_TEXT_BYTES = (1 << 31) - 1  # Arrow's limit for a string.

_NEWLINE = "contains a newline, which ends a line of text; export as parquet"
_SPACE = "contains a space, which ends a word in the word2vec format; export as glove or parquet"
_ENDS_IN_NUMBER = re.compile(rb" [+-]?(\d+\.?\d*|\.\d+|nan|inf|infinity)([eE][+-]?\d+)?$", re.I)


def write_glove(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write lines of a word and its vector."""
    dimension = table.dimension("glove")
    if not table.rows:
        raise ExportError("a GloVe file without rows is empty; export as word2vec")
    _write_lines(file, dimension, _checked_for_glove(blocks))


def write_word2vec(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write the header, and lines of a word and its vector."""
    dimension = table.dimension("word2vec")
    file.write(f"{table.rows} {dimension}\n".encode())
    _write_lines(file, dimension, _checked_for_word2vec(blocks))


def _checked_for_word2vec(blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    for block in blocks:
        refuse_bytes(block, {b"\n": _NEWLINE, b" ": _SPACE})
        yield block


def _checked_for_glove(blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    for block in blocks:
        refuse_bytes(block, {b"\n": _NEWLINE})
        if block.start == 0:
            _check_first_line(block)
        if b" " in words_of(block).data.tobytes():
            for position, word in enumerate(words_of(block).encoded()):
                if _ENDS_IN_NUMBER.search(word):
                    problem = (
                        "ends in a number after a space, which would be read as part of its "
                        "vector; export as parquet"
                    )
                    raise word_error(block, position, problem)
        yield block


def _check_first_line(block: RowBlock) -> None:
    first = words_of(block).encoded()[0]
    if first.startswith(b"\xef\xbb\xbf"):
        problem = "starts with a byte order mark, which would be read as that of the file"
        raise word_error(block, 0, f"{problem}; export as word2vec or parquet")
    values = block.rows[0].ravel()
    if first.isdigit() and values.size == 1 and values[0] >= 0 and values[0] == values[0] // 1:
        problem = "and its vector are two whole numbers, like the header of a word2vec file"
        raise word_error(block, 0, f"{problem}; export as word2vec or parquet")


def _write_lines(file: IO[bytes], dimension: int, blocks: Iterator[RowBlock]) -> None:
    """Format blocks on threads, and write them in order."""
    if dimension > MAX_TEXT_BYTES // MAX_NUMBER_BYTES:
        raise ExportError(
            f"vectors of {dimension} values are too long for a line of text; export as npy or "
            "parquet"
        )

    def text_of(block: RowBlock) -> Any:
        return _lines(block, dimension)

    with closing(in_order(text_of, blocks, thread_name="embstore-format")) as texts:
        for text in texts:
            file.write(text)


def _lines(block: RowBlock, dimension: int) -> Any:
    """Return the text of a block as a buffer of bytes."""
    count = len(block.rows)
    with np.errstate(invalid="ignore"):  # A nan may be a signalling nan.
        values = block.rows.astype(wide_dtype(block.rows.dtype), copy=False).reshape(-1)
    numbers = pc.cast(pa.array(values), pa.string())
    ends = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(dimension))
    vectors = pc.binary_join(pa.ListArray.from_arrays(ends, numbers), " ")
    packed = words_of(block)
    buffers = [None, pa.py_buffer(packed.offsets.astype(np.int32)), pa.py_buffer(packed.data)]
    words = pa.Array.from_buffers(pa.string(), count, buffers)
    # The empty string at the end gives the last line its newline.
    lines = pa.concat_arrays([pc.binary_join_element_wise(words, vectors, " "), pa.array([""])])
    whole = pa.ListArray.from_arrays(pa.array([0, count + 1], pa.int32()), lines)
    return pc.binary_join(whole, "\n")[0].as_buffer()
