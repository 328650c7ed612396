"""Lists of arrays that are the partitions of one table, as TensorFlow keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import PartitionSizeError, SourceError
from embstore.sources.arrays.objects import as_array
from embstore.sources.arrays.source import cast_exactly, common_rows
from embstore.table.numbering import Numbering, Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Partitioned:
    """A list of partitions as one array, in the order of ids.

    Parameters
    ----------
    partitions : list or tuple of array-like, shape (n, *row_shape)
        The partitions.
    strategy : {"mod", "div"}
        How ids are split among them.

    Raises
    ------
    SourceError
        If these are no arrays whose rows fit together.
    PartitionSizeError
        If their sizes are not those of the strategy.
    """

    def __init__(self, partitions: Any, strategy: Strategy) -> None:
        if not isinstance(partitions, list | tuple) or not partitions:
            raise SourceError(
                "partition_strategy= goes with a list of partitions, not with "
                f"{type(partitions).__name__}"
            )
        self._parts = []
        for number, partition in enumerate(partitions):
            array = as_array(partition)
            if array is None or not array.shape:
                raise SourceError(f"partition {number} is {type(partition).__name__}, not an array")
            self._parts.append(array)
        names = [f"partition {number}" for number in range(len(self._parts))]
        row_shape, self.dtype = common_rows(self._parts, names)
        found = tuple(int(array.shape[0]) for array in self._parts)
        self.shape = (sum(found), *row_shape)
        self._numbering = Numbering(sum(found), len(found), strategy)
        if found != self._numbering.row_counts():
            raise PartitionSizeError(
                f"partitions have {found} rows, but {sum(found)} rows partitioned by {strategy!r} "
                f"are {self._numbering.row_counts()}: with other sizes, ids would lead to wrong "
                "rows"
            )

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        result = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for partition, piece in self._numbering.spread(start, stop):
            _, row = self._numbering.locate_one(start + piece.start)
            count = len(range(*piece.indices(stop - start)))
            found = np.asarray(self._parts[partition][row : row + count])
            result[piece] = cast_exactly(found, self.dtype, f"partition {partition}")
        return result
