"""Vectors in a mapping of ids, ``{id: vector}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError
from embstore.settle import as_count
from embstore.sources.array_objects import as_rows
from embstore.sources.arrays import cast_exactly, common_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class VectorsById:
    """The vectors of a mapping as one array, in the order of their ids.

    Parameters
    ----------
    vectors : mapping of int to array-like, shape row_shape
        The vector of each id; the ids are 0 to n - 1, in any order.

    Raises
    ------
    SourceError
        If a key is missing or not an id, or vectors differ in shape.
    """

    def __init__(self, vectors: Mapping[Any, Any]) -> None:
        name = type(vectors).__name__
        count = len(vectors)
        for key in vectors:
            try:
                as_count(key, "an id", high=count - 1)
            except (TypeError, ValueError) as error:
                raise SourceError(
                    f"{name}: expected words as keys, or ids from 0 to {count - 1}, each once; "
                    f"found {key!r}. Pass {{word: vector}}, or the rows as one array"
                ) from error
        self._names = [f"{name}[{number}]" for number in range(count)]
        self._rows = [
            as_rows(vectors[number], place)[np.newaxis] for number, place in enumerate(self._names)
        ]
        row_shape, self.dtype = common_rows(self._rows, self._names)
        self.shape = (count, *row_shape)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self._rows))
        result = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for row in range(start, stop):
            result[row - start] = cast_exactly(self._rows[row], self.dtype, self._names[row])[0]
        return result
