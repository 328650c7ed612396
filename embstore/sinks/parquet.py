"""Parquet: a column ``vector``, and a column ``word`` if the store has words.

A vector is a fixed-size list; rows of higher rank are nested lists, and scalar rows are plain
numbers. The schema's metadata names the column of rows, which plain numbers alone do not tell.
Numbers are neither compressed nor dictionary-encoded: vectors hardly repeat.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from embstore.dtypes import is_extension
from embstore.errors import ExportError
from embstore.sources.arrow.columns import ROWS_KEY, WORD_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

VECTOR = "vector"


def write_parquet(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write a row group for each block."""
    if is_extension(table.dtype):
        raise ExportError(
            f'the table is {table.dtype}, which Parquet does not support; pass dtype="float32" '
            "(--dtype float32 on the command line), which holds the same numbers, or export as "
            "safetensors"
        )
    vector = pa.from_numpy_dtype(table.dtype)
    for axis in reversed(table.row_shape):
        vector = pa.list_(pa.field("item", vector, nullable=False), axis)
    fields = [pa.field(WORD_COLUMN, pa.large_string(), nullable=False)] if table.has_words else []
    fields.append(pa.field(VECTOR, vector, nullable=False))
    schema = pa.schema(fields, {ROWS_KEY: VECTOR.encode()})
    with parquet.ParquetWriter(
        file, schema, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        for block in blocks:
            columns = [] if block.words is None else [_words(block)]
            columns.append(_nested(block, vector))
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _words(block: RowBlock) -> Any:
    assert block.words is not None
    buffers = [None, pa.py_buffer(block.words.offsets), pa.py_buffer(block.words.data)]
    return pa.Array.from_buffers(pa.large_string(), len(block.words), buffers)


def _nested(block: RowBlock, kind: Any) -> Any:
    """Return the rows as an Arrow array of a (nested) list type."""
    kinds = []
    while pa.types.is_fixed_size_list(kind):
        kinds.append(kind)
        kind = kind.value_type
    array = pa.array(np.ascontiguousarray(block.rows).reshape(-1), kind)
    for outer in reversed(kinds):
        array = pa.FixedSizeListArray.from_arrays(array, type=outer)
    return array
