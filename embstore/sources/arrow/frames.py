"""Rows of frames and Arrow tables in memory, read as their files are.

* pandas: frames, and series of vectors or numbers. Cells of a column may be lists or arrays.
* Arrow: tables, record batches, arrays, readers, data sets, and whatever hands out a stream of
  record batches by ``__arrow_c_stream__``, such as polars' frames and series or a query of DuckDB.

pandas and polars are not imported here: a caller with a frame has imported its library.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embstore.errors import SourceError
from embstore.sources.arrow.files import IN_MEMORY, Part, read_errors
from embstore.sources.arrow.pandas_frames import pandas_parts
from embstore.sources.arrow.source import ArrowSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

VALUES = "values"  # The name of the one column of a series or an array.
_STREAM = "__arrow_c_stream__"
_ARRAY = "__arrow_c_array__"
_LAZY = (("polars", "LazyFrame"), ("dask", "DataFrame"), ("dask", "Series"))


def open_frame(
    source: Any,
    *,
    column: str | None = None,
    word_column: str | None = None,
    attributes: Sequence[str] | None = None,
) -> ArrowSource | None:
    """Return the rows of a frame or an Arrow table; None if the object is neither.

    See `ArrowSource` for the parameters and errors.

    Raises
    ------
    TypeError
        If it is a frame that is not computed yet.
    """
    kind = type(source)
    name = kind.__name__
    items = source if isinstance(source, list | tuple) else ()
    if items and all(map(_is_table, items)):
        found = [_parts(item, f"{name}[{number}]") for number, item in enumerate(items)]
        kinds = {f"{_library(item)}.{type(item).__name__}" for item in items}
        origin = {"format": f"{name} of {', '.join(sorted(kinds))}"}
    else:
        found = [_parts(source, name)]
        origin = {"format": f"{_library(source)}.{name}"}
    parts = [part for some in found for part in some]
    if not parts:
        return None
    if parts[0].schema.names == [VALUES]:
        column = VALUES
    return ArrowSource(
        name,
        parts,
        origin=origin,
        column=column,
        word_column=word_column,
        attributes=attributes,
    )


def _is_table(source: Any) -> bool:
    return hasattr(source, "columns") or hasattr(source, "column_names")


def _library(source: Any) -> str:
    return type(source).__module__.partition(".")[0]


def _parts(source: Any, name: str) -> Sequence[Part]:
    """Return the parts of a frame or an Arrow table; none if the object is neither."""
    kind = type(source)
    library = _library(source)
    if (library, kind.__name__) in _LAZY:
        how = "collect" if library == "polars" else "compute"
        raise TypeError(f"cannot build from a {library} {kind.__name__}; call {how}() first")
    pandas = {one.__name__ for one in kind.__mro__ if one.__module__.partition(".")[0] == "pandas"}
    if "Series" in pandas:
        return pandas_parts(source.to_frame(VALUES), name)
    if "DataFrame" in pandas:
        return pandas_parts(source, name)
    if pandas:
        raise TypeError(f"cannot build from a pandas {name}; expected a DataFrame or a Series")
    if library == "pyarrow" or hasattr(kind, _STREAM) or hasattr(kind, _ARRAY):
        with read_errors(name, IN_MEMORY):
            part = _arrow_part(source, name)
        return [] if part is None else [part]
    return []


def _arrow_part(source: Any, name: str) -> Part | None:
    kind = type(source)
    if isinstance(source, pa.RecordBatchReader):
        return _StreamPart(source.schema, lambda _: source, name)
    if hasattr(source, "to_table") and hasattr(source, "count_rows"):
        return _dataset_part(source, name)
    is_polars = kind.__module__.startswith("polars.")
    if isinstance(source, pa.ChunkedArray) or (is_polars and kind.__name__ == "Series"):
        table = pa.table({VALUES: pa.chunked_array(source)})
    elif isinstance(source, pa.Table | pa.RecordBatch) or is_polars:
        table = pa.table(source)
    elif hasattr(kind, _STREAM):
        reader = pa.RecordBatchReader.from_stream(source)
        return _StreamPart(reader.schema, lambda _: reader, name)
    elif hasattr(kind, _ARRAY):
        array = pa.array(source)
        is_batch = pa.types.is_struct(array.type)
        table = pa.table(pa.RecordBatch.from_struct_array(array) if is_batch else {VALUES: array})
    else:
        return None
    return _TablePart(table, name)


def _dataset_part(source: Any, name: str) -> Part:
    """Return a data set of pyarrow, or a scanner of one, as a part."""
    is_dataset = hasattr(source, "get_fragments")
    schema = source.schema if is_dataset else source.projected_schema
    for fragment in source.get_fragments() if is_dataset else ():
        found = fragment.physical_schema
        for field in schema:
            if field.name in found.names and found.field(field.name).type != field.type:
                raise SourceError(
                    f"{name}: column {field.name!r} is {field.type}, but "
                    f"{found.field(field.name).type} in one file, which pyarrow would cast; pass "
                    "the directory of the files"
                )

    def opened(columns: Sequence[str]) -> pa.RecordBatchReader:
        scanner = source.scanner(columns=list(columns)) if is_dataset else source
        return scanner.to_reader()

    return _StreamPart(schema, opened, name, source.count_rows())


class _TablePart(Part):
    """An Arrow table, which shares the memory of the frame that it was made of."""

    format = IN_MEMORY
    byte_count = 0

    def __init__(self, table: pa.Table, name: str) -> None:
        self.name = name
        self.schema = table.schema
        self.row_count: int | None = table.num_rows
        self._table = table

    def batches(self, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows."""
        with read_errors(self.name, self.format):
            yield from self._table.select(list(columns)).to_batches(size)


class _StreamPart(Part):
    """Record batches from a reader, which yields them once."""

    format = IN_MEMORY
    byte_count = 0

    def __init__(
        self,
        schema: pa.Schema,
        open_reader: Callable[[Sequence[str]], pa.RecordBatchReader],
        name: str,
        row_count: int | None = None,
    ) -> None:
        self.name = name
        self.schema = schema
        self.row_count = row_count
        self._open = open_reader
        self._reader: pa.RecordBatchReader | None = None
        self._head: list[pa.RecordBatch] = []  # Read by `first`, and not yet by `batches`.

    def first(self, columns: Sequence[str]) -> pa.RecordBatch | None:
        """Return the first row, without taking it from `batches`."""
        for batch in self._rest(columns):
            self._head.append(batch)
            if batch.num_rows:
                return batch
        return None

    def batches(self, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows.

        Raises
        ------
        SourceError
            If they were read before.
        """
        if self._reader is not None and not self._head:
            raise SourceError(f"a {self.name} can be read only once; pass a table to read it again")
        rest = self._rest(columns)
        head, self._head = self._head, []
        done = 0
        for batch in chain(head, rest):
            done += batch.num_rows
            yield batch.select(list(columns))
        if not done and self.row_count is None:
            raise SourceError(f"the {self.name} has no rows; was it read before?")

    def _rest(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with read_errors(self.name, self.format):
            if self._reader is None:
                self._reader = self._open(columns)
            for batch in self._reader:
                batch.validate(full=True)  # It may come from another library.
                yield batch
