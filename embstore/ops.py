"""TensorFlow's embedding lookups, from disk or from RAM.

``params`` is a store, one array, or a list of arrays that are the partitions of one table. The
rows are TensorFlow's wherever TensorFlow's are defined; where it would return wrong rows without a
word (ids out of range, partitions of other sizes than the strategy's), this raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import PartitionSizeError
from embstore.ids import as_ids
from embstore.norms import clip_norms
from embstore.partitions import Partitioning, Strategy
from embstore.store import EmbeddingStore

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def embedding_lookup(
    params: Any,
    ids: ArrayLike,
    partition_strategy: Strategy | None = None,
    max_norm: float | None = None,
) -> NDArray[Any]:
    """Return the rows of ``ids``, in request order.

    Parameters
    ----------
    params : EmbeddingStore, array, or list of arrays
        The table, or its partitions. Arrays are NumPy's, ``np.memmap`` or ``zarr.Array``; a list
        of numbers is one array.
    ids : int or array-like of integers, any shape
        Ids in ``0 .. rows - 1``.
    partition_strategy : {"mod", "div"}, optional
        How the list ``params`` was cut, ``"mod"`` by default. A store knows its own; naming
        another one is an error.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it.

    Returns
    -------
    rows : ndarray, shape ``ids.shape + row_shape``

    Raises
    ------
    IdTypeError, IdRangeError
        If ids are not integers, or out of range.
    PartitionSizeError
        If the arrays' sizes are not those of the strategy.
    ValueError, TypeError
        If the strategy contradicts the store, or arrays differ in dtype or row shape.

    Examples
    --------
    From TensorFlow's documentation; id 3 is row 1 of partition 0:

    >>> embedding_lookup([np.array([1, 2, 3]), np.array([4, 5, 6]), np.array([7, 8, 9])],
    ...                  [0, 3, 4, 1, 7]).tolist()
    [1, 2, 5, 4, 6]
    """
    if partition_strategy not in (None, "mod", "div"):
        raise ValueError(f'partition_strategy must be "mod" or "div", not {partition_strategy!r}')
    if isinstance(params, EmbeddingStore):
        if partition_strategy not in (None, params.strategy) and params.partition_count > 1:
            raise ValueError(
                f"the store {params.path} is partitioned by {params.strategy!r}, not by "
                f"{partition_strategy!r}; leave partition_strategy out"
            )
        return params.lookup(ids, max_norm=max_norm)
    partitions = _as_partitions(params)
    _check_rows_alike(partitions)
    rows = sum(partition.shape[0] for partition in partitions)
    partitioning = Partitioning(rows, len(partitions), partition_strategy or "mod")
    _check_sizes(partitions, partitioning)
    wide = as_ids(ids, rows)
    result = _gather(partitions, partitioning, wide)
    if max_norm is not None:
        clip_norms(result, max_norm, partitions[0].ndim - 1)
    return result


def _as_partitions(params: Any) -> list[Any]:
    if not isinstance(params, list | tuple):
        return [_as_array(params)]
    arrays = [_as_array(part) for part in params]
    if arrays and all(array.ndim == 0 for array in arrays):
        return [np.asarray(params)]
    if not arrays:
        raise ValueError("params is an empty list; expected at least one partition")
    return arrays


def _as_array(part: Any) -> Any:
    """Return a NumPy array, or what is array enough to be read piece by piece."""
    return part if hasattr(part, "oindex") else np.asarray(part)


def _check_rows_alike(partitions: list[Any]) -> None:
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


def _check_sizes(partitions: list[Any], partitioning: Partitioning) -> None:
    # Not len(): a zarr.Array has none.
    found = tuple(partition.shape[0] for partition in partitions)
    expected = partitioning.row_counts()
    if found != expected:
        raise PartitionSizeError(
            f"partitions have {found} rows, but {partitioning.rows} rows partitioned by "
            f"{partitioning.strategy!r} are {expected}: with other sizes, ids would lead to wrong "
            "rows"
        )


def _gather(
    partitions: list[Any], partitioning: Partitioning, ids: NDArray[np.int64]
) -> NDArray[Any]:
    row_shape, dtype = partitions[0].shape[1:], partitions[0].dtype
    result = np.empty((ids.size, *row_shape), dtype)
    numbers, rows = partitioning.locate(ids.ravel())
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(len(partitions) + 1))
    for partition, start, stop in zip(partitions, bounds, bounds[1:], strict=False):
        if start == stop:
            continue
        places = order[start:stop]
        if hasattr(partition, "oindex"):
            # Each row once, ascending: what chunked arrays read best.
            distinct, inverse = np.unique(rows[places], return_inverse=True)
            result[places] = partition.oindex[distinct][inverse]
        else:
            result[places] = partition[rows[places]]
    return result.reshape(ids.shape + row_shape)
