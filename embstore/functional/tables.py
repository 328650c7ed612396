"""What may `params` be? A store, an array, or a list of arrays that are one table's partitions.

`as_table` makes one `Table` of them, which is read by id. Arrays are NumPy's, ``np.memmap``,
``zarr.Array`` or torch's tensors on the CPU, which are seen as NumPy arrays where they are; torch
itself is never imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embstore.dtypes import has_masked, is_tensor, tensor_array
from embstore.errors import PartitionSizeError
from embstore.store import EmbeddingStore
from embstore.table.partitioning import STRATEGIES, Partitioning, Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Table(Protocol):
    """Rows by id."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows."""
        ...

    @property
    def by_row(self) -> bool:
        """Whether a few rows cost no more than their share of many.

        Otherwise many are to be read in one call, and each of them once.
        """
        ...

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out``, shape (n, *row_shape), with the rows of ``ids``, shape (n,), in range."""
        ...


@dataclass(frozen=True, slots=True)
class StoreTable:
    """A store.

    Parameters
    ----------
    store : EmbeddingStore
        It stays open.
    """

    store: EmbeddingStore

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.store.rows

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.store.row_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows."""
        return self.store.dtype

    @property
    def by_row(self) -> bool:
        """Whether the store is mapped: its pages are read from disk once, however often asked."""
        return self.store.mapped

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with the rows of ``ids``."""
        self.store.lookup(ids, out=out)


@dataclass(frozen=True, slots=True)
class ArrayTable:
    """Arrays that are the partitions of one table.

    Parameters
    ----------
    partitions : tuple of arrays
        NumPy arrays, or what is array enough to be read piece by piece (``zarr.Array``).
    strategy : {"mod", "div"}
        How the table was cut.

    Raises
    ------
    ValueError, TypeError
        If arrays have no rows, or differ in dtype or row shape.
    PartitionSizeError
        If the arrays' sizes are not those of the strategy.
    """

    partitions: tuple[Any, ...]
    strategy: Strategy

    def __post_init__(self) -> None:
        _check_rows_alike(self.partitions)
        # Not len(): a zarr.Array has none.
        found = tuple(partition.shape[0] for partition in self.partitions)
        expected = self.partitioning.row_counts()
        if found != expected:
            raise PartitionSizeError(
                f"partitions have {found} rows, but {self.rows} rows partitioned by "
                f"{self.strategy!r} are {expected}: with other sizes, ids would lead to wrong rows"
            )

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(partition.shape[0] for partition in self.partitions)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.partitions[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows."""
        dtype: np.dtype[Any] = self.partitions[0].dtype
        return dtype

    @property
    def by_row(self) -> bool:
        """Whether this is one array, in memory or mapped."""
        return len(self.partitions) == 1 and not _is_chunked(self.partitions[0])

    @property
    def partitioning(self) -> Partitioning:
        """Where each id is."""
        return Partitioning(self.rows, len(self.partitions), self.strategy)

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with the rows of ``ids``."""
        first = self.partitions[0]
        if self.by_row:
            # A copy of the whole array is what `take` begins with if rows do not lie side by side.
            if first.flags.c_contiguous and first.flags.aligned:
                first.take(ids, 0, out, "clip")  # Ids are in range, so nothing is clipped.
            else:
                out[...] = first[ids]
            return
        numbers, rows = self.partitioning.locate(ids)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(len(self.partitions) + 1))
        for partition, start, stop in zip(self.partitions, bounds, bounds[1:], strict=False):
            if start == stop:
                continue
            places = order[start:stop]
            if _is_chunked(partition):
                # Each row once, ascending: what chunked arrays read best.
                distinct, inverse = np.unique(rows[places], return_inverse=True)
                out[places] = partition.oindex[distinct][inverse]
            else:
                out[places] = partition[rows[places]]


def as_table(
    params: Any, partition_strategy: Strategy | None = None, default: Strategy = "mod"
) -> Table:
    """Return ``params`` as one table.

    Parameters
    ----------
    params : EmbeddingStore, array, or list of arrays
        A list of numbers is one array.
    partition_strategy : {"mod", "div"}, optional
        How a list was cut; ``default`` if left out. A store knows its own.

    Raises
    ------
    ValueError, TypeError, PartitionSizeError
        If ``params`` is no table; if the strategy is none, or contradicts the store.
    """
    check_strategy(params, partition_strategy)
    if isinstance(params, EmbeddingStore):
        return StoreTable(params)
    return ArrayTable(_as_partitions(params), partition_strategy or default)


def check_strategy(params: Any, partition_strategy: Strategy | None) -> None:
    """Raise ValueError if the strategy is none, or not that of the store."""
    if partition_strategy not in (None, *STRATEGIES):
        raise ValueError(f'partition_strategy must be "mod" or "div", not {partition_strategy!r}')
    if not isinstance(params, EmbeddingStore) or params.partition_count == 1:
        return
    if partition_strategy not in (None, params.strategy):
        raise ValueError(
            f"the store {params.path} is partitioned by {params.strategy!r}, not by "
            f"{partition_strategy!r}; leave partition_strategy out"
        )


def _as_partitions(params: Any) -> tuple[Any, ...]:
    if not isinstance(params, list | tuple):
        return (_as_array(params),)
    arrays = tuple(map(_as_array, params))
    if arrays and all(array.ndim == 0 for array in arrays):
        return (np.asarray(params),)
    if not arrays:
        raise ValueError("params is an empty list; expected at least one partition")
    return arrays


def _as_array(part: Any) -> Any:
    """Return a NumPy array, or what is array enough to be read piece by piece."""
    if isinstance(part, EmbeddingStore):
        raise TypeError(
            "a list of partitions cannot hold a store, which has its own; give the store itself"
        )
    if has_masked(part):
        raise TypeError("params have masked numbers; say with .filled() what they are")
    if _is_chunked(part):
        return part
    if is_tensor(part):
        return _from_torch(part)
    return np.asarray(part)


def _from_torch(tensor: Any) -> NDArray[Any]:
    """Return a tensor's numbers where they are."""
    if tensor.device.type != "cpu" or str(tensor.layout) != "torch.strided":
        raise TypeError(
            f"params must be dense tensors on the CPU; this one is {tensor.layout} on "
            f"{tensor.device}"
        )
    return tensor_array(tensor)


def _is_chunked(array: Any) -> bool:
    return hasattr(array, "oindex")


def _check_rows_alike(partitions: tuple[Any, ...]) -> None:
    first = partitions[0]
    for number, partition in enumerate(partitions):
        if partition.ndim == 0:
            name = "params" if len(partitions) == 1 else f"partition {number}"
            raise ValueError(f"{name} is a single number; expected an array of rows")
        if partition.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"partition {number} has rows of shape {partition.shape[1:]}, partition 0 of "
                f"{first.shape[1:]}"
            )
        if partition.dtype != first.dtype:
            raise TypeError(
                f"partition {number} is {partition.dtype}, partition 0 is {first.dtype}"
            )
