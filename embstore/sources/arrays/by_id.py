"""Mappings with ids: vectors by id, ``{id: vector}``, and what is ``{word: id}`` instead."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError
from embstore.settle import as_count
from embstore.sources.arrays.objects import as_rows
from embstore.sources.arrays.source import cast_exactly, common_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def is_vocabulary(found: Mapping[Any, Any]) -> bool:
    """Say whether the values of a mapping are the integers from 0, each once.

    Examples
    --------
    >>> is_vocabulary({"like": 1, "the": 0}), is_vocabulary({"like": 0.5, "the": 0.1})
    (True, False)
    """
    values = list(islice(found.values(), 1))
    if not values or not isinstance(values[0], int | np.integer):
        return False
    values = list(found.values())
    kinds = set(map(type, values))
    return all(issubclass(kind, int | np.integer) for kind in kinds) and sorted(values) == list(
        range(len(values))
    )


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
