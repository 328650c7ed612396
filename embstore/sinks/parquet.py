"""Parquet: a column ``vector``, a column ``word`` if the store has words, and its attributes.

A vector is a fixed-size list; rows of higher rank are nested lists, and scalar rows are plain
numbers. The schema's metadata names the column of rows, which plain numbers alone do not tell, and
those of attributes, so that a build keeps these.
Numbers are neither compressed nor dictionary-encoded: vectors hardly repeat.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from embstore.dtypes import DTYPES, is_extension
from embstore.errors import ExportError
from embstore.formats.own.spec import STRING
from embstore.sources.arrow.attributes import ATTRIBUTES_KEY
from embstore.sources.arrow.columns import ROWS_KEY, WORD_COLUMN
from embstore.vocabulary.words import PackedWords
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.attributes.values import Values
    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts

VECTOR = "vector"


def write_parquet(file: IO[bytes], table: TableFacts, blocks: Iterator[RowBlock]) -> None:
    """Write a row group for each block."""
    if is_extension(table.dtype):
        raise ExportError(
            f"the table is {table.dtype}, which Parquet does not support; pass "
            f"{option('dtype', 'float32')}, which holds the same numbers, or export as safetensors"
        )
    table.check_numbers("Parquet")  # Arrow would end the process.
    vector = pa.from_numpy_dtype(table.dtype)
    for axis in reversed(table.row_shape):
        vector = pa.list_(pa.field("item", vector, nullable=False), axis)
    fields = [pa.field(WORD_COLUMN, pa.large_string(), nullable=False)] if table.has_words else []
    fields.append(pa.field(VECTOR, vector, nullable=False))
    metadata = {ROWS_KEY: VECTOR.encode()}
    if table.attributes:
        _check_attributes(table)
        fields += [
            pa.field(name, _arrow_type(dtype), nullable=False)
            for name, dtype in table.attributes.items()
        ]
        metadata[ATTRIBUTES_KEY] = json.dumps([*table.attributes]).encode()
    schema = pa.schema(fields, metadata)
    with parquet.ParquetWriter(
        file, schema, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        for block in blocks:
            columns = [] if block.words is None else [_strings(block.words)]
            columns.append(_nested(block, vector))
            columns += [_column((block.attributes or {})[name]) for name in table.attributes]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _check_attributes(table: TableFacts) -> None:
    """Refuse attributes that a column cannot hold, or whose name means other columns."""
    for name, dtype in table.attributes.items():
        if name in (WORD_COLUMN, VECTOR):
            raise ExportError(
                f"the attribute {name!r} has the name of the column of "
                f"{'words' if name == WORD_COLUMN else 'rows'}; build the store again with another "
                f"name for it, or without it ({option('attributes')})"
            )
        if dtype in DTYPES and DTYPES[dtype].is_extension:
            raise ExportError(
                f"the attribute {name!r} is {dtype}, which Parquet does not support; build the "
                "store again with float32 for it"
            )


def _arrow_type(dtype: str) -> Any:
    if dtype == STRING:
        return pa.large_string()
    return pa.from_numpy_dtype(np.dtype(dtype))


def _column(values: Values) -> Any:
    return _strings(values) if isinstance(values, PackedWords) else pa.array(values)


def _strings(words: PackedWords) -> Any:
    buffers = [None, pa.py_buffer(words.offsets), pa.py_buffer(words.data)]
    return pa.Array.from_buffers(pa.large_string(), len(words), buffers)


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
