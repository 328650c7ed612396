"""The argument ``params``: a store, an array, or a list of arrays that are a table's partitions.

`as_params` makes `Params` of each, which are read by id. Arrays are NumPy's, ``np.memmap``,
``zarr.Array``, or torch tensors on the CPU, which become NumPy arrays over the same memory; torch
itself is never imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embstore.dtypes import has_masked, is_tensor, tensor_array
from embstore.errors import PartitionSizeError
from embstore.settle import as_choice
from embstore.store import EmbeddingStore
from embstore.table.numbering import STRATEGIES, Numbering, Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Params(Protocol):
    """A table, read by id."""

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
        """Whether reading a few rows costs no more than their share of many.

        Otherwise many rows should be read in one call, and each of them once.
        """
        ...

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out``, shape (n, *row_shape), with the rows of ``ids``, shape (n,), in range."""
        ...


@dataclass(frozen=True, slots=True)
class StoreParams:
    """The rows of a store.

    Parameters
    ----------
    store : EmbeddingStore
        The store; it stays open.
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
        """Whether the store is mapped: the page cache keeps each page that was read."""
        return self.store.mapped

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with the rows of ``ids``."""
        self.store.lookup(ids, out=out)


@dataclass(frozen=True, slots=True)
class ArrayParams:
    """The rows of arrays that are the partitions of one table.

    Parameters
    ----------
    partitions : tuple of arrays
        NumPy arrays, or chunked arrays with ``oindex`` (``zarr.Array``).
    strategy : {"mod", "div"}
        How the table was partitioned.

    Raises
    ------
    ValueError, TypeError
        If an array has no axes, or arrays differ in dtype or row shape.
    PartitionSizeError
        If the arrays' sizes are not those of the strategy.
    """

    partitions: tuple[Any, ...]
    strategy: Strategy

    def __post_init__(self) -> None:
        _check_same_rows(self.partitions)
        # Not len(): a zarr.Array has none.
        found = tuple(partition.shape[0] for partition in self.partitions)
        expected = self.numbering.row_counts()
        if found != expected:
            raise PartitionSizeError(
                f"partitions have {found} rows; expected {expected} for {self.rows} rows "
                f"partitioned by {self.strategy!r}: with other sizes, ids would get wrong rows"
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
    def numbering(self) -> Numbering:
        """Map from ids to partitions and rows."""
        return Numbering(self.rows, len(self.partitions), self.strategy)

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with the rows of ``ids``."""
        first = self.partitions[0]
        if self.by_row:
            # `take` would copy the whole array first if its rows were strided or misaligned.
            if first.flags.c_contiguous and first.flags.aligned:
                first.take(ids, 0, out, "clip")  # Ids are in range, so nothing is clipped.
            else:
                out[...] = first[ids]
            return
        partitions, rows = self.numbering.locate(ids)
        order = np.argsort(partitions, kind="stable")
        bounds = np.searchsorted(partitions[order], np.arange(len(self.partitions) + 1))
        for array, start, stop in zip(self.partitions, bounds, bounds[1:], strict=False):
            if start == stop:
                continue
            positions = order[start:stop]
            if _is_chunked(array):
                # Chunked arrays are fastest when each row is read once, in ascending order.
                distinct, inverse = np.unique(rows[positions], return_inverse=True)
                out[positions] = array.oindex[distinct][inverse]
            else:
                out[positions] = array[rows[positions]]


def as_params(
    params: Any, partition_strategy: Strategy | None = None, default: Strategy = "mod"
) -> Params:
    """Return ``params`` as one table.

    Parameters
    ----------
    params : EmbeddingStore, array, or list of arrays
        A list of numbers is one array.
    partition_strategy : {"mod", "div"}, optional
        How a list was partitioned; ``default`` if left out. A store knows its own.
    default : {"mod", "div"}
        The strategy of a list for which none is given.

    Raises
    ------
    ValueError, TypeError, PartitionSizeError
        If ``params`` is not a table; if the strategy is unknown, or differs from the store's.
    """
    check_strategy(params, partition_strategy)
    if isinstance(params, EmbeddingStore):
        return StoreParams(params)
    return ArrayParams(_as_partitions(params), partition_strategy or default)


def check_strategy(params: Any, partition_strategy: Strategy | None) -> None:
    """Raise if the strategy is not a str, is unknown, or differs from the store's."""
    if partition_strategy is not None:
        as_choice(partition_strategy, "partition_strategy", STRATEGIES)
    if not isinstance(params, EmbeddingStore) or params.partition_count == 1:
        return
    if partition_strategy not in (None, params.strategy):
        raise ValueError(
            f"the store {params.location} is partitioned by {params.strategy!r}, not by "
            f"{partition_strategy!r}; omit partition_strategy"
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
    """Return a NumPy array, or a chunked array unchanged."""
    if isinstance(part, EmbeddingStore):
        raise TypeError(
            "a list of partitions cannot contain a store, which has its own partitions; pass the "
            "store itself"
        )
    if has_masked(part):
        raise TypeError("params have masked numbers; replace them with .filled(value)")
    if _is_chunked(part):
        return part
    if not is_tensor(part):
        return np.asarray(part)
    if part.device.type != "cpu" or str(part.layout) != "torch.strided":
        raise TypeError(
            f"tensors in params must be dense and on the CPU; this one is {part.layout} on "
            f"{part.device}"
        )
    return tensor_array(part)


def _is_chunked(array: Any) -> bool:
    return hasattr(array, "oindex")


def _check_same_rows(partitions: tuple[Any, ...]) -> None:
    """Raise ValueError or TypeError unless all partitions have rows of one shape and dtype."""
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
