"""NumPy's ``.npy``: the rows, as one array of the shape and dtype of the store.

The format cannot hold words; `write_words` writes them to a file of their own, one per line.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import numpy as np

from embstore.dtypes import is_extension
from embstore.errors import ExportError
from embstore.sinks import refuse_bytes, word_error, words_of
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

_NEWLINE = "contains a newline, which ends a line of the file of words; export as parquet"
_RETURN = "ends in a carriage return, which is read as part of the line end; export as parquet"
_MARK = "starts with a byte order mark, which would be read as that of the file; export as parquet"


def write_npy(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write the header, and the rows."""
    if is_extension(table.dtype):
        raise ExportError(
            f"the table is {table.dtype}, which .npy does not support; pass "
            f"{option('dtype', 'float32')}, which holds the same numbers, or export as safetensors"
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
    """Write the words of blocks, one per line, and yield the blocks."""
    for block in blocks:
        refuse_bytes(block, {b"\n": _NEWLINE})
        words = words_of(block).encoded()
        if block.start == 0 and words[0].startswith(b"\xef\xbb\xbf"):
            raise word_error(block, 0, _MARK)
        for position, word in enumerate(words):
            if word.endswith(b"\r"):
                raise word_error(block, position, _RETURN)
        file.writelines(word + b"\n" for word in words)
        yield block
