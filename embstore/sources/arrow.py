"""Parquet, and Arrow IPC files and streams: rows in a column of lists, read batch by batch.

A row is a list of numbers, of fixed or variable size, but all rows have one length; fixed-shape
tensors may have more axes. The column has to be named only if several hold lists of numbers. Words
come from a column of strings: the one that is named, else one called ``word``.

The files of a directory are read one after the other; `embstore.sources.folder` tells which.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources import Batch, Source, batch_rows
from embstore.sources.arrays import check_dtype
from embstore.sources.folder import table_files
from embstore.sources.packing import packed_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.vocabulary.words import PackedWords

WORD_COLUMN = "word"
PARQUET_MAGIC = b"PAR1"
IPC_MAGIC = b"ARROW1"
_PARQUET_BUFFER_BYTES = 1 << 20


def open_arrow(
    path: Path,
    *,
    column: str | None = None,
    word_column: str | None = None,
    folder_format: str = "parquet",
) -> ArrowSource:
    """Return the rows of a Parquet or Arrow IPC file, or of a directory of files of one format.

    See `ArrowSource` for the other parameters and errors.
    """
    files = table_files(path, folder_format) if path.is_dir() else [path]
    return ArrowSource(path, files, column=column, word_column=word_column)


class ArrowSource(Source):
    """Rows of Parquet or Arrow IPC files; an `embstore.sources.Source`.

    Parameters
    ----------
    path : Path
        The file, or the directory of the files.
    files : sequence of Path
        The files, all of one schema.
    column : str, optional
        The column of rows; not needed if only one column holds lists of numbers.
    word_column : str, optional
        The column of words; by default ``word``, if it exists and holds strings. ``""`` takes no
        words.

    Raises
    ------
    SourceError
        If a column is missing, the files cannot be read, or a store cannot hold such rows.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[Path],
        *,
        column: str | None = None,
        word_column: str | None = None,
    ) -> None:
        self.name = str(path)
        self._path = path
        self._files = files
        self.byte_count = sum(file.stat().st_size for file in files)
        table = _open(files[0])
        self.format = table.format
        schema = table.schema
        self._column = self._choose_column(schema, column)
        self._word_column = self._choose_words(schema, word_column)
        list_type = schema.field(self._column).type
        self.dtype = check_dtype(f"{self.name}: column {self._column!r}", _element_dtype(list_type))
        self.row_shape = self._find_shape(list_type)
        row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        if row_bytes > spec.MAX_ROW_BYTES:
            raise SourceError(
                f"{self.name}: column {self._column!r} has rows of {row_bytes} bytes; a store can "
                f"hold rows of up to {spec.MAX_ROW_BYTES} bytes"
            )
        self.row_count = self._count()

    def describe(self) -> dict[str, Any]:
        """Return the file's name, format, columns and size."""
        return {
            "file": self._path.name,
            "format": self.format,
            "column": self._column,
            "word_column": self._word_column,
            "bytes": self.byte_count,
        }

    def batches(self) -> Iterator[Batch]:
        """Yield the rows of all files.

        Raises
        ------
        SourceError
            If a row is null, or its length differs from the first row's; the error names the row.
        """
        done = bytes_before = 0
        size = batch_rows(self.row_shape, self.dtype)
        row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        for file in self._files:
            file_bytes = file.stat().st_size
            rows_before = done
            for batch in self._read(file, size):
                rows = self._rows(batch.column(self._column), done)
                words = None
                if self._word_column is not None:
                    words = self._words(batch.column(self._word_column), done)
                first = done
                done += len(rows)
                # Arrow does not tell how much of the file is read; the rows give an estimate.
                estimate = min((done - rows_before) * row_bytes, file_bytes)
                yield Batch(rows, words, first, bytes_before + estimate)
            bytes_before += file_bytes

    def _read(self, file: Path, size: int) -> Iterator[pa.RecordBatch]:
        """Yield the two columns of a file in batches of at most ``size`` rows."""
        columns = [self._column]
        if self._word_column is not None:
            columns.append(self._word_column)
        table = _open(file)
        missing = [name for name in columns if name not in table.schema.names]
        if missing:
            raise SourceError(
                f"{file} has no column {missing[0]!r}, which {self._files[0]} has; it has: "
                f"{', '.join(table.schema.names)}"
            )
        with _read_errors(file, table.format):
            for batch in table.batches(size, columns):
                for start in range(0, batch.num_rows, size):
                    yield batch.slice(start, size)

    def _rows(self, column: pa.Array, first: int) -> NDArray[Any]:
        """Return a column of lists as rows; ``first`` is the number of its first row."""
        self._refuse_nulls(column, self._column, first)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        length = math.prod(self.row_shape)
        if not pa.types.is_fixed_size_list(column.type):
            lengths = np.diff(column.offsets.to_numpy())
            wrong = np.flatnonzero(lengths != length)
            if wrong.size:
                raise SourceError(
                    f"{self.place(first + int(wrong[0]))}: expected {length} values, as in the "
                    f"first row, found {lengths[wrong[0]]}; fix or remove the row"
                )
        elif column.type.list_size != length:
            raise SourceError(
                f"{self.place(first)}: expected {length} values, as in the first file, found "
                f"{column.type.list_size}"
            )
        values = column.flatten()
        if values.null_count:
            place = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
            raise SourceError(
                f"{self.place(first + place // length)}: value {place % length + 1} is null; fix "
                "or remove the row"
            )
        rows: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return rows.astype(self.dtype, copy=False).reshape(len(column), *self.row_shape)

    def _words(self, column: pa.Array, first: int) -> PackedWords:
        assert self._word_column is not None
        self._refuse_nulls(column, self._word_column, first)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return packed_binary(
            column.cast(pa.binary()),
            "strict",
            lambda row: self.place(first + row),
        )

    def _refuse_nulls(self, column: pa.Array, name: str, first: int) -> None:
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise SourceError(
                f"{self.place(first + row)}: column {name!r} is null; fix or remove the row"
            )

    def _choose_column(self, schema: pa.Schema, name: str | None) -> str:
        lists = [field.name for field in schema if _element_dtype(field.type) is not None]
        listing = ", ".join(f"{field.name}: {field.type}" for field in schema)
        if name is None and len(lists) != 1:
            raise SourceError(
                f"{self.name} has {len(lists)} columns of lists of numbers; name the column of "
                f"rows (column=, or --column on the command line): {listing}"
            )
        if name is not None and name not in lists:
            raise SourceError(
                f"{self.name} has no column {name!r} of lists of numbers; it has: {listing}"
            )
        return lists[0] if name is None else name

    def _choose_words(self, schema: pa.Schema, name: str | None) -> str | None:
        strings = [field.name for field in schema if _is_string(field.type)]
        if name is None:
            return WORD_COLUMN if WORD_COLUMN in strings else None
        if name == "":
            return None
        if name not in strings:
            raise SourceError(
                f"{self.name} has no column {name!r} of strings; it has: "
                f"{', '.join(f'{field.name}: {field.type}' for field in schema)}"
            )
        return name

    def _find_shape(self, list_type: pa.DataType) -> tuple[int, ...]:
        """Return the shape of a row, from the column's type or from the first row."""
        if isinstance(list_type, pa.FixedShapeTensorType):
            if list_type.permutation not in (None, sorted(list_type.permutation)):
                raise SourceError(
                    f"{self.name}: column {self._column!r} is a tensor with permuted axes; write "
                    "it with its axes in order"
                )
            return tuple(list_type.shape)
        if pa.types.is_fixed_size_list(list_type):
            return (list_type.list_size,)
        for file in self._files:
            for batch in self._read(file, 1):
                column = batch.column(self._column)
                self._refuse_nulls(column, self._column, 0)
                return (len(column.flatten()),)
        raise SourceError(f"{self.name} has no rows, so the row length is unknown")

    def _count(self) -> int | None:
        counts = [_open(file).row_count for file in self._files]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


class _Parquet:
    """An open Parquet file."""

    format = "parquet"

    def __init__(self, path: Path) -> None:
        # pre_buffer would read a whole row group at once.
        self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=_PARQUET_BUFFER_BYTES)
        self.schema = self._file.schema_arrow
        self.row_count: int | None = self._file.metadata.num_rows

    def batches(self, size: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield from self._file.iter_batches(size, columns=columns, use_threads=False)


class _Ipc:
    """An open Arrow IPC file or stream; it is mapped, so a large batch is not read as a whole."""

    def __init__(self, path: Path, *, is_stream: bool) -> None:
        self.format = "arrow-stream" if is_stream else "arrow"
        self._map = pa.memory_map(str(path))
        self._reader = (ipc.open_stream if is_stream else ipc.open_file)(self._map)
        self.schema = self._reader.schema
        self.row_count: int | None = None

    def batches(self, size: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        if self.format == "arrow-stream":
            batches = iter(self._reader)
        else:
            numbers = range(self._reader.num_record_batches)
            batches = (self._reader.get_batch(number) for number in numbers)
        for batch in batches:
            selected = batch.select(columns)
            selected.validate(full=True)  # For example, offsets may lead out of the file.
            yield selected


def _open(path: Path) -> _Parquet | _Ipc:
    """Open a file in the format that its first bytes tell."""
    with path.open("rb") as file:
        magic = file.read(6)
    with _read_errors(path, "Parquet or Arrow"):
        if magic.startswith(PARQUET_MAGIC):
            return _Parquet(path)
        return _Ipc(path, is_stream=magic != IPC_MAGIC)


@contextmanager
def _read_errors(path: Path, format: str) -> Iterator[None]:
    """Turn Arrow's errors about a file's contents into a SourceError that names the file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The disk failed; the contents may be fine.
        raise SourceError(
            f"{path} cannot be read as {format}: {error}; is the download complete?"
        ) from error


def _element_dtype(list_type: pa.DataType) -> Any:
    """Return the dtype of the numbers if a type is a list of numbers, else None."""
    if isinstance(list_type, pa.FixedShapeTensorType):
        list_type = list_type.storage_type
    types = pa.types
    if not (
        types.is_list(list_type)
        or types.is_large_list(list_type)
        or types.is_fixed_size_list(list_type)
    ):
        return None
    value = list_type.value_type
    if not (types.is_integer(value) or types.is_floating(value)):
        return None
    return np.dtype(value.to_pandas_dtype())


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
