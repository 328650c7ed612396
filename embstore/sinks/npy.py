"""NumPy's ``.npy``: the rows, in one array of the store's shape and dtype.

It has no place for words; `write_words` writes them to a file of their own, a word a line.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import numpy as np

from embstore.dtypes import is_extension
from embstore.errors import ExportError
from embstore.sinks import refuse_bytes, refuse_word, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

_NEWLINE = "contains a newline, which ends a line of the file of words; export as parquet"
_RETURN = "ends in a carriage return, which is read as part of its line's end; export as parquet"
_MARK = "begins with a byte order mark, which a text file may begin with; export as parquet"


def write_npy(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write the header, and the rows."""
    if is_extension(table.dtype):
        raise ExportError(
            f'the table is {table.dtype}, which .npy does not know; give dtype="float32" '
            "(--dtype float32 on the command line), which holds the same numbers"
        )
    little = table.dtype.newbyteorder("<")
    header = {
        "descr": np.lib.format.dtype_to_descr(little),
        "fortran_order": False,
        "shape": (table.rows, *table.row_shape),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block.rows, little).reshape(-1).view(np.uint8).data)


def write_words(file: IO[bytes], blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    """Write the words of blocks, a word a line, and pass the blocks on."""
    for block in blocks:
        refuse_bytes(block, {b"\n": _NEWLINE})
        words = words_of(block).encoded()
        if block.start == 0 and words[0].startswith(b"\xef\xbb\xbf"):
            raise refuse_word(block, 0, _MARK)
        for position, word in enumerate(words):
            if word.endswith(b"\r"):
                raise refuse_word(block, position, _RETURN)
        file.writelines(word + b"\n" for word in words)
        yield block
