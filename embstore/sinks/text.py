r"""Vectors as text: GloVe, and the text format of word2vec and fastText.

A line is a word and its numbers, with single spaces between; word2vec has a header before,
``rows dimension``. Numbers are the shortest digits that give the same number back, for readers that
parse float32, or float64 where the table has it; so 16-bit floats are written as float32.

What a reader would misread is refused:

* a newline in a word ends its line, in both;
* a space in a word ends the word, in word2vec. In GloVe files such words exist: there, the last
  ``dimension`` fields of a line are the vector, and the rest is the word. It must not end in a
  number behind a space then, which would be one field more;
* a byte order mark that begins a GloVe file is none of its first word, and a first line of two
  whole numbers is a header.

Blocks are formatted on threads, by pyarrow, and written in order.
"""

from __future__ import annotations

import os
import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embstore.dtypes import wide_dtype
from embstore.errors import ExportError
from embstore.sinks import refuse_bytes, refuse_word, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

# The longest text of a number, such as -2.2250738585072014e-308, and the space behind it.
MAX_NUMBER_BYTES = 25
MAX_TEXT_BYTES = (1 << 31) - 1
MAX_WORKERS = 8
# The text of a block of this size stays in the processor's cache from step to step.
BLOCK_BYTES = 1 << 20

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
                        "ends in a number behind a space, which would be read as a part of its "
                        "vector; export as parquet"
                    )
                    raise refuse_word(block, position, problem)
        yield block


def _check_first_line(block: RowBlock) -> None:
    first = words_of(block).encoded()[0]
    if first.startswith(b"\xef\xbb\xbf"):
        problem = "begins with a byte order mark, which a text file may begin with"
        raise refuse_word(block, 0, f"{problem}; export as word2vec or parquet")
    values = block.rows[0].ravel()
    if first.isdigit() and values.size == 1 and values[0] >= 0 and values[0] == values[0] // 1:
        problem = "and its vector are two whole numbers, as the header of a word2vec file is"
        raise refuse_word(block, 0, f"{problem}; export as word2vec or parquet")


def _write_lines(file: IO[bytes], dimension: int, blocks: Iterator[RowBlock]) -> None:
    """Format blocks on threads; write them in order, with a bounded number under way."""
    if dimension > MAX_TEXT_BYTES // MAX_NUMBER_BYTES:
        raise ExportError(
            f"vectors of {dimension} values are too long for a line of text; export as npy or "
            "parquet"
        )
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    under_way: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="embstore-format") as pool:
        try:
            for block in blocks:
                under_way.append(pool.submit(partial(_lines, block, dimension)))
                if len(under_way) > workers:
                    file.write(under_way.popleft().result())
            while under_way:
                file.write(under_way.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)


def _lines(block: RowBlock, dimension: int) -> Any:
    """Return the text of a block, a buffer of bytes."""
    count = len(block.rows)
    with np.errstate(invalid="ignore"):  # A nan may be a signalling one.
        values = block.rows.astype(wide_dtype(block.rows.dtype), copy=False).reshape(-1)
    numbers = pc.cast(pa.array(values), pa.string())
    ends = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(dimension))
    vectors = pc.binary_join(pa.ListArray.from_arrays(ends, numbers), " ")
    packed = words_of(block)
    buffers = [None, pa.py_buffer(packed.offsets.astype(np.int32)), pa.py_buffer(packed.data)]
    words = pa.Array.from_buffers(pa.string(), count, buffers)
    # An empty last line makes the newline behind the last one.
    lines = pa.concat_arrays([pc.binary_join_element_wise(words, vectors, " "), pa.array([""])])
    whole = pa.ListArray.from_arrays(pa.array([0, count + 1], pa.int32()), lines)
    return pc.binary_join(whole, "\n")[0].as_buffer()
