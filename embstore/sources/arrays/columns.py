"""Attributes in arrays: one-dimensional arrays beside the rows, sliced along with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.given import as_values
from embstore.attributes.values import dtype_name, part_of
from embstore.errors import RowError, SourceError
from embstore.wording import shape_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embstore.attributes.values import Values


class ArrayColumns:
    """Attributes of the rows of arrays.

    Parameters
    ----------
    arrays : mapping of str to array-like, shape (n,)
        The values of each attribute: numbers, booleans or strings. NumPy's arrays are converted at
        once, others slice by slice.
    row_count : int
        The number of rows.
    rows_name : str
        The name of the rows in messages.

    Attributes
    ----------
    dtypes : dict of str to str
        The dtype of each attribute.

    Raises
    ------
    SourceError
        If an array has another length, or cannot be an attribute.
    """

    def __init__(self, arrays: Mapping[str, Any], row_count: int, rows_name: str) -> None:
        self._rows_name = rows_name
        self._whole: dict[str, Values] = {}
        self._sliced: dict[str, Any] = {}
        self.dtypes: dict[str, str] = {}
        for name, array in arrays.items():
            if tuple(array.shape) != (row_count,):
                raise SourceError(
                    f"{rows_name}: attribute {name!r} has shape {shape_text(tuple(array.shape))}; "
                    f"expected {shape_text((row_count,))}, one value for each row"
                )
            if isinstance(array, np.ndarray):
                found = self._whole[name] = self._values(name, array)
            else:
                self._sliced[name] = array
                found = self._values(name, np.empty(0, array.dtype))
            self.dtypes[name] = dtype_name(found)

    def part(self, start: int, stop: int) -> dict[str, Values] | None:
        """Return the values of the rows ``start .. stop - 1``; None without attributes.

        Raises
        ------
        SourceError
            If a value cannot be stored; the error names the row.
        """
        found: dict[str, Values] = {}
        for name in self.dtypes:
            if name in self._whole:
                found[name] = part_of(self._whole[name], start, stop)
            else:
                found[name] = self._values(name, np.asarray(self._sliced[name][start:stop]), start)
        return found or None

    def _values(self, name: str, array: Any, first: int = 0) -> Values:
        try:
            return as_values(name, array)
        except RowError as error:
            row = first + error.position
            raise SourceError(f"{self._rows_name}: row {row}: {error.problem}") from error
        except TypeError as error:
            raise SourceError(f"{self._rows_name}: {error}") from error
