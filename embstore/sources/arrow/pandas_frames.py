"""pandas frames as record batches, converted a slice at a time.

Most columns are converted by Arrow, as when pandas writes a file: missing values become nulls.
Columns of Python objects that hold vectors are stacked here: the type that Arrow would infer
depends on the first cells. A frame with such columns is split into parts, each with the dtype of
its own cells.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embstore.dtypes import common_dtype, is_extension, is_tensor, tensor_array
from embstore.encodings.casting import Caster
from embstore.errors import SourceError
from embstore.sources.arrays.source import check_dtype
from embstore.sources.arrow.files import IN_MEMORY, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_OBJECT_ROWS = 1 << 13  # In a part of a frame with columns of vectors.


def pandas_parts(frame: Any, name: str) -> list[Part]:
    """Return the parts of a frame.

    Parameters
    ----------
    frame : pandas.DataFrame
    name : str
        Its name in messages.

    Raises
    ------
    SourceError
        If vectors in cells differ in shape, or are not vectors of numbers.
    """
    columns = _columns(frame)
    has_vectors = any(column.holds == "vectors" for column in columns)
    step = _OBJECT_ROWS if has_vectors else max(len(frame), 1)
    return [
        _PandasPart(frame.iloc[start : start + step], columns, name, start)
        for start in range(0, max(len(frame), 1), step)
    ]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a frame, or a level of its index.

    Attributes
    ----------
    name : str
        Its name in a file that pandas writes.
    position : int
        Its position among the columns, or among the levels if ``is_level``.
    is_level : bool
        Whether it is a level of the index.
    holds : {"vectors", "text", "other"}
        What Python objects in its cells are; "other" for numbers and for all other columns.
    """

    name: str
    position: int
    is_level: bool
    holds: str

    def of(self, frame: Any) -> Any:
        """Return its values in some rows of the frame."""
        if self.is_level:
            return frame.index.get_level_values(self.position)
        return frame.iloc[:, self.position]


def _columns(frame: Any) -> list[_Column]:
    columns = [_Column(str(label), i, False, "other") for i, label in enumerate(frame.columns)]
    if not _is_range(frame.index):
        columns += [
            _Column(f"__index_level_{i}__" if label is None else str(label), i, True, "other")
            for i, label in enumerate(frame.index.names)
        ]
    return [replace(column, holds=_find_kind(column.of(frame))) for column in columns]


def _is_range(index: Any) -> bool:
    return hasattr(index, "start") and hasattr(index, "step")


def _find_kind(values: Any) -> str:
    """Return what Python objects in a column are, as in `_Column`."""
    # The categories tell what a categorical column holds.
    categories = getattr(values.dtype, "categories", None)
    values = values if categories is None else categories
    if values.dtype.kind != "O":
        return "other"
    found = "other"
    for cell in values:
        if isinstance(cell, str):
            return "text"
        if _is_vector(cell):
            found = "vectors"
    return found


def _is_vector(cell: Any) -> bool:
    return isinstance(cell, list | tuple | np.ndarray) or is_tensor(cell)


class _PandasPart(Part):
    """Some rows of a frame."""

    format = IN_MEMORY
    byte_count = 0

    def __init__(self, frame: Any, columns: list[_Column], name: str, first: int) -> None:
        self.name = name if not first else f"{name}.iloc[{first}:]"
        self.row_count: int | None = len(frame)
        self._frame = frame
        self._columns = columns
        fields = [pa.field(column.name, self._type(column)) for column in columns]
        levels: list[Any] = [column.name for column in columns if column.is_level]
        if not levels:
            index = frame.index
            levels = [
                {"kind": "range", "start": index.start, "stop": index.stop, "step": index.step}
            ]
        metadata = {b"pandas": json.dumps({"index_columns": levels}).encode()}
        self.schema = pa.schema(fields, metadata)

    def batches(self, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows."""
        by_name = {column.name: column for column in self._columns}
        wanted = [by_name[name] for name in columns]
        for start in range(0, len(self._frame), size):
            some = self._frame.iloc[start : start + size]
            arrays = [self._convert(column, column.of(some), start) for column in wanted]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    def _type(self, column: _Column) -> pa.DataType:
        """Return the Arrow type of a column; null if Arrow does not know it."""
        values = column.of(self._frame)
        if column.holds == "text":
            return pa.large_string()
        try:
            # Without Python objects, the first row tells.
            return self._convert(column, values if values.dtype.kind == "O" else values[:1]).type
        except (pa.ArrowException, TypeError, ValueError) as error:
            if isinstance(error, SourceError):
                raise
            return pa.null()

    def _convert(self, column: _Column, values: Any, first: int = 0) -> pa.Array:
        if column.holds == "vectors":
            return _stacked(list(values), f"{self.name}: column {column.name!r}", first)
        if column.holds == "text":
            cells = list(values)
            for row, cell in enumerate(cells, first):
                if not (isinstance(cell, str) or _is_missing(cell)):
                    raise SourceError(
                        f"{self.name}: row {row}: column {column.name!r} is {cell!r} "
                        f"({type(cell).__name__}), but a string in other rows; convert the column "
                        "with astype(str)"
                    )
            return pa.array(cells, pa.large_string(), from_pandas=True)
        array = pa.array(values, from_pandas=True)
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or str(cell) == "<NA>"


def _stacked(cells: list[Any], name: str, first: int) -> pa.Array:
    """Return cells that are vectors of one shape as an array of lists of a fixed size."""
    arrays = []
    for row, cell in enumerate(cells, first):
        if not _is_vector(cell):
            found = "missing" if _is_missing(cell) else f"a {type(cell).__name__}"
            raise SourceError(f"{name}, row {row}: expected a vector, found a cell that is {found}")
        arrays.append(_vector(cell, f"{name}, row {row}"))
        if arrays[-1].shape != arrays[0].shape:
            raise SourceError(
                f"{name}, row {row}: expected a vector of shape {arrays[0].shape}, as in row "
                f"{first}, found {arrays[-1].shape}"
            )
    try:
        dtype = common_dtype({array.dtype for array in arrays})
    except ValueError as error:
        raise SourceError(f"{name}: {error}") from error
    if is_extension(dtype):
        raise SourceError(f"{name} is {dtype}, which Arrow does not know; convert it to float32")
    caster = Caster(dtype)
    kinds = {array.dtype for array in arrays} - {dtype}
    for row, array in enumerate(arrays if kinds else [], first):
        caster.cast(array)
        if caster.largest_error:
            raise SourceError(
                f"{name}, row {row}: {dtype} does not hold all {array.dtype} of it exactly; "
                "convert all vectors to one dtype"
            )
    rows = np.stack(arrays).astype(dtype, copy=False)
    array = pa.array(rows.reshape(-1))
    for length in reversed(rows.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, length)
    return array


def _vector(cell: Any, place: str) -> NDArray[Any]:
    try:
        array = tensor_array(cell) if is_tensor(cell) else np.asarray(cell)
    except (ValueError, TypeError, RuntimeError) as error:
        raise SourceError(f"{place}: expected a vector of numbers: {error}") from error
    if not array.ndim:
        raise SourceError(f"{place}: expected a vector, found one number")
    check_dtype(place, array.dtype)
    return array
