"""Rows of record batches: of Parquet files, of Arrow IPC files and streams, or of frames in memory.

A table has one or more parts, such as the files of a directory (`embstore.sources.folders.folder`
tells which), which are read one after the other and batch by batch.
`embstore.sources.arrow.columns` chooses the columns. All parts have these columns, and rows of one
shape; where their numbers have different dtypes, the table has the common one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import common_dtype
from embstore.encodings.casting import Caster
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources import Batch, Source, batch_rows
from embstore.sources.arrays.source import check_dtype
from embstore.sources.arrow.attributes import attribute_of, find_dtypes
from embstore.sources.arrow.columns import WORD_COLUMN, choose_columns, match_columns
from embstore.sources.arrow.files import ArrowFile, read_errors
from embstore.sources.arrow.row_ids import check_ids, check_index
from embstore.sources.arrow.values import known_row_type, rows_of, shape_of_first, words_of
from embstore.sources.folders.folder import table_files
from embstore.wording import shape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from embstore.attributes.values import Values
    from embstore.sources.arrow.files import Part
    from embstore.vocabulary.words import PackedWords

__all__ = ["ArrowSource", "open_arrow"]


def open_arrow(
    path: Path,
    *,
    column: str | None = None,
    word_column: str | None = None,
    attributes: Sequence[str] | None = None,
    folder_format: str = "parquet",
) -> ArrowSource:
    """Return the rows of a Parquet or Arrow IPC file, or of a directory of files of one format.

    See `ArrowSource` for the other parameters and errors.
    """
    files = table_files(path, folder_format) if path.is_dir() else [path]
    parts = [ArrowFile(file) for file in files]
    origin = {"file": path.name, "format": parts[0].format}
    return ArrowSource(
        str(path),
        parts,
        origin=origin,
        column=column,
        word_column=word_column,
        attributes=attributes,
    )


class ArrowSource(Source):
    """Rows of Arrow record batches; an `embstore.sources.Source`.

    Parameters
    ----------
    name : str
        The name of the table in messages.
    parts : sequence of Part
        The parts of the table, at least one.
    origin : dict
        Facts about the origin of the rows, for the manifest.
    column, word_column : str, optional
        The columns of rows and words; see `embstore.sources.arrow.columns`.
    attributes : sequence of str, optional
        The columns of attributes.

    Attributes
    ----------
    ids_matter : bool
        Whether a repeated word is an error by default: the column of words was found, not named.

    Raises
    ------
    SourceError
        If a column is missing, a part cannot be read, parts do not fit each other, or a store
        cannot hold such rows.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        *,
        origin: dict[str, Any],
        column: str | None = None,
        word_column: str | None = None,
        attributes: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        # Parts without rows may have no types: pandas writes them as columns of nulls.
        self._parts = parts = [part for part in parts if part.row_count != 0] or parts[:1]
        self._origin = origin
        first = choose_columns(
            parts[0].schema, name, column=column, word_column=word_column, attributes=attributes
        )
        self._columns = [first]  # Of each part; only the index may differ.
        for part in parts[1:]:
            columns = match_columns(first, part.schema, part.name, parts[0].name, word_column)
            self._columns.append(columns)
        # Words that were not named may be something else, such as the languages of texts.
        self.ids_matter = first.words not in (None, word_column, WORD_COLUMN)
        self.attribute_dtypes = find_dtypes(first.attributes, parts)
        self.dtype = self._find_dtype()
        self.row_shape = self._find_shape()
        self._row_bytes = math.prod(self.row_shape) * self.dtype.itemsize
        if not 0 < self._row_bytes <= spec.MAX_ROW_BYTES:
            raise SourceError(
                f"{self.name}: column {first.rows[0]!r} has rows of {self._row_bytes} "
                f"bytes; a store can hold rows of 1 to {spec.MAX_ROW_BYTES} bytes"
            )
        counts = [part.row_count for part in parts]
        known = [count for count in counts if count is not None]
        self.row_count = sum(known) if len(known) == len(counts) else None
        file_bytes = sum(part.byte_count for part in parts)
        self.byte_count = file_bytes or (self.row_count or 0) * self._row_bytes
        self._firsts = [0]  # The number of the first row of each part that has been reached.

    def describe(self) -> dict[str, Any]:
        """Return the table's origin, columns and size."""
        columns = self._columns[0]
        rows = columns.rows
        return self._origin | {
            "column": f"{rows[0]} ... {rows[-1]}" if columns.is_wide else rows[0],
            "word_column": columns.words,
            "bytes": self.byte_count,
        }

    def batches(self) -> Iterator[Batch]:
        """Yield the rows of all parts, each in its own dtype.

        Raises
        ------
        SourceError
            If a row is null, or has another shape; the error names the row.
        """
        done = bytes_before = 0
        size = batch_rows(self.row_shape, self.dtype)
        self._firsts = []
        for number, part in enumerate(self._parts):
            self._firsts.append(done)
            for batch in part.batches(size, self._columns[number].names):
                for start in range(0, batch.num_rows, size):
                    piece = batch.slice(start, size)
                    rows, words, attributes = self._read(number, piece, done)
                    first = done
                    done += len(rows)
                    # Arrow does not tell how much of a file is read; the rows give an estimate.
                    estimate = (done - self._firsts[-1]) * self._row_bytes
                    if part.byte_count:
                        estimate = min(estimate, part.byte_count)
                    yield Batch(rows, words, first, bytes_before + estimate, attributes or None)
            bytes_before += part.byte_count or (done - self._firsts[-1]) * self._row_bytes

    def place(self, number: int) -> str:
        """Return the name of a row in messages: its part, and its position there, from 0."""
        part = max(bisect_right(self._firsts, number) - 1, 0)
        return f"{self._parts[part].name}: row {number - self._firsts[part]}"

    def _read(
        self, number: int, batch: pa.RecordBatch, first: int
    ) -> tuple[NDArray[Any], PackedWords | None, dict[str, Values]]:
        """Return rows, words and attributes of a batch; its first row has the number ``first``."""

        def place(row: int) -> str:
            return self.place(first + row)

        part, columns = self._parts[number], self._columns[number]
        with read_errors(part.name, part.format):
            if columns.is_wide:
                rows = self._rows_of_dimensions(columns.rows, batch, place)
            else:
                name = columns.rows[0]
                rows = rows_of(batch.column(name), name, self.row_shape, place)
            words = None
            if columns.words is not None:
                words = words_of(batch.column(columns.words), columns.words, place)
            if columns.index is not None:
                check_index(columns.index, batch, first, self._firsts[-1], place)
            if columns.ids is not None:
                check_ids(columns.ids, batch, first, place)
            attributes = {
                one: attribute_of(batch.column(one), one, dtype, place)
                for one, dtype in self.attribute_dtypes.items()
            }
        return rows, words, attributes

    def _rows_of_dimensions(
        self, names: tuple[str, ...], batch: pa.RecordBatch, place: Callable[[int], str]
    ) -> NDArray[Any]:
        rows = np.empty((batch.num_rows, len(names)), self.dtype)
        caster = Caster(self.dtype)
        for axis, name in enumerate(names):
            numbers = rows_of(batch.column(name), name, (), place)
            rows[:, axis] = caster.cast(numbers)
            if caster.largest_error:  # The writer cannot count what this changes.
                pairs = enumerate(zip(numbers.tolist(), rows[:, axis].tolist(), strict=True))
                row = next(row for row, (number, cast) in pairs if number != cast)
                raise SourceError(
                    f"{place(row)}: {self.dtype} does not hold {numbers[row]}, an {numbers.dtype} "
                    f"of column {name!r}; convert all columns to one dtype"
                )
        return rows

    def _find_dtype(self) -> np.dtype[Any]:
        """Return the dtype that holds the numbers of all columns in all parts."""
        found = []
        for part, columns in zip(self._parts, self._columns, strict=True):
            for name in columns.rows:
                dtype = known_row_type(part.schema.field(name))[0]
                found.append(check_dtype(f"{part.name}: column {name!r}", dtype))
        try:
            return common_dtype(found)
        except ValueError as error:
            raise SourceError(f"{self.name}: {error}") from error

    def _find_shape(self) -> tuple[int, ...]:
        """Return the shape of a row, from the columns' types or from the first row."""
        if self._columns[0].is_wide:
            return (len(self._columns[0].rows),)
        name = self._columns[0].rows[0]
        shapes = [known_row_type(part.schema.field(name))[1] for part in self._parts]
        known = tuple(axis for axis in shapes[0] if axis is not None)
        shape = known if len(known) == len(shapes[0]) else self._shape_of_first(name)
        for part, other in zip(self._parts, shapes, strict=True):
            if len(other) != len(shape) or any(
                one not in (None, another) for one, another in zip(other, shape, strict=True)
            ):
                raise SourceError(
                    f"{part.name}: column {name!r} is {part.schema.field(name).type}; expected "
                    f"rows of shape {shape_text(shape)}, as in {self._parts[0].name}"
                )
        return shape

    def _shape_of_first(self, name: str) -> tuple[int, ...]:
        for part, columns in zip(self._parts, self._columns, strict=True):
            batch = part.first(columns.names)
            if batch is not None:
                with read_errors(part.name, part.format):
                    return shape_of_first(batch.column(name), f"{part.name}: row 0", name)
        raise SourceError(f"{self.name} has no rows, so the row length is unknown")
