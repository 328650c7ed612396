"""TensorFlow's embedding lookups, from disk or from RAM.

``params`` is a store, one array, or a list of arrays that are the partitions of one table. The
docstring of `embstore.functional` lists the differences to TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from embstore.errors import IdTypeError
from embstore.functional.bags import RaggedIds, RaggedRows, SparseIds, as_bags, as_ragged
from embstore.functional.combine import as_combiner, combine_bags
from embstore.functional.params import as_params, check_strategy
from embstore.norms import clip_norms
from embstore.store import EmbeddingStore
from embstore.table.ids import as_ids, check_range

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from embstore.functional.bags import Bags
    from embstore.functional.combine import Combiner
    from embstore.functional.params import Params
    from embstore.table.numbering import Strategy


@overload
def embedding_lookup(
    params: Any,
    ids: RaggedIds,
    partition_strategy: Strategy | None = None,
    max_norm: float | None = None,
) -> RaggedRows: ...


@overload
def embedding_lookup(
    params: Any,
    ids: ArrayLike,
    partition_strategy: Strategy | None = None,
    max_norm: float | None = None,
) -> NDArray[Any]: ...


def embedding_lookup(
    params: Any,
    ids: ArrayLike | RaggedIds,
    partition_strategy: Strategy | None = None,
    max_norm: float | None = None,
) -> NDArray[Any] | RaggedRows:
    """Return the rows of ``ids``, in request order.

    Parameters
    ----------
    params : EmbeddingStore, array, or list of arrays
        The table, or its partitions. Arrays are NumPy's, ``np.memmap``, ``zarr.Array`` or torch
        tensors on the CPU; a list of numbers is one array.
    ids : int or array-like of integers, any shape, or RaggedIds
        Ids in ``0 .. rows - 1``; also TensorFlow's ``RaggedTensor``, of any rank.
    partition_strategy : {"mod", "div"}, optional
        How the list ``params`` was partitioned, ``"mod"`` by default. A store knows its own;
        another one is an error.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it.

    Returns
    -------
    rows : ndarray, shape ``ids.shape + row_shape``
        `RaggedRows` for `RaggedIds`, with the row splits of the ids.

    Raises
    ------
    IdTypeError, IdRangeError
        If ids are not integers, or out of range.
    PartitionSizeError
        If the arrays' sizes are not those of the strategy.
    ValueError, TypeError
        If the strategy differs from the store's, or arrays differ in dtype or row shape.

    Examples
    --------
    From TensorFlow's documentation; id 3 is row 1 of partition 0:

    >>> embedding_lookup([np.array([1, 2, 3]), np.array([4, 5, 6]), np.array([7, 8, 9])],
    ...                  [0, 3, 4, 1, 7]).tolist()
    [1, 2, 5, 4, 6]
    """
    ragged = as_ragged(ids)
    if ragged is not None:
        rows = embedding_lookup(params, ragged.values, partition_strategy, max_norm)
        return RaggedRows(rows, ragged.row_splits.copy())
    if isinstance(params, EmbeddingStore):
        check_strategy(params, partition_strategy)
        return params.lookup(ids, max_norm=max_norm)  # type: ignore[arg-type]  # Ragged ids have returned.
    return _lookup(as_params(params, partition_strategy), ids, max_norm)


def embedding_lookup_sparse(
    params: Any,
    sp_ids: SparseIds | RaggedIds,
    sp_weights: SparseIds | RaggedIds | None = None,
    partition_strategy: Strategy | None = None,
    combiner: Combiner | None = "mean",
    max_norm: float | None = None,
) -> NDArray[Any]:
    """Combine the rows of each bag of ids into one row.

    Parameters
    ----------
    params : EmbeddingStore, array, or list of arrays
        As for `embedding_lookup`, with rows of floats.
    sp_ids : SparseIds of rank 2, or RaggedIds
        The bags; also TensorFlow's ``SparseTensor`` or ``RaggedTensor``.
    sp_weights : SparseIds or RaggedIds, optional
        A weight for each id, with the same indices or splits; 1 by default.
    partition_strategy : {"mod", "div"}, optional
        As for `embedding_lookup`.
    combiner : {"mean", "sqrtn", "sum"}
        ``sum(w * v) / sum(w)``, ``sum(w * v) / sqrt(sum(w ** 2))`` or ``sum(w * v)``; 0 where the
        denominator is 0. None means ``"mean"``.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it before they are combined.

    Returns
    -------
    rows : ndarray of the table's dtype, shape ``(bags, *row_shape)``
        A bag without ids gives zeros. Narrower floats are summed in float32.

    Raises
    ------
    IdTypeError, IdRangeError, PartitionSizeError
        As `embedding_lookup`.
    ValueError, TypeError
        As `embedding_lookup`; also if ids or weights are of another kind, if their indices or
        splits differ, or if rows are not floats.

    Examples
    --------
    >>> table = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    >>> ids = RaggedIds([0, 2, 1], row_splits=[0, 2, 2, 3])
    >>> embedding_lookup_sparse(table, ids).tolist()
    [[2.0, 20.0], [0.0, 0.0], [2.0, 20.0]]
    >>> weights = RaggedIds([1.0, 3.0, 0.5], row_splits=[0, 2, 2, 3])
    >>> embedding_lookup_sparse(table, ids, weights, combiner="sum").tolist()
    [[10.0, 100.0], [0.0, 0.0], [1.0, 10.0]]
    """
    combiner = as_combiner(combiner)
    table = as_params(params, partition_strategy)
    bags = as_bags(sp_ids, sp_weights)
    if len(bags.shape) != 1:
        raise ValueError(
            f"sp_ids must have rank 2 (bags, ids), not {len(bags.shape) + 1}; use "
            "safe_embedding_lookup_sparse for a higher rank"
        )
    return _combine(table, bags, combiner, max_norm)


def safe_embedding_lookup_sparse(
    params: Any,
    sp_ids: SparseIds | RaggedIds,
    sp_weights: SparseIds | RaggedIds | None = None,
    combiner: Combiner | None = "mean",
    default_id: int | None = None,
    partition_strategy: Strategy | None = None,
    max_norm: float | None = None,
) -> NDArray[Any]:
    """Combine the rows of each bag of ids into one row, ignoring negative ids.

    Unless the combiner is ``"sum"``, ids whose weight is not above 0 are ignored as well.

    Parameters
    ----------
    params, sp_weights, combiner, max_norm
        As for `embedding_lookup_sparse`.
    sp_ids : SparseIds of rank 2 or more, or RaggedIds
        The bags; the last axis is a bag.
    default_id : int, optional
        The id whose row stands for a bag without ids, or with none left; zeros by default.
    partition_strategy : {"mod", "div"}, optional
        How the list ``params`` was partitioned; here ``"div"`` by default, as in TensorFlow.

    Returns
    -------
    rows : ndarray of the table's dtype, shape ``(*bags, *row_shape)``
        ``bags`` are all axes of the ids but the last.

    Raises
    ------
    IdTypeError, IdRangeError, PartitionSizeError, ValueError, TypeError
        As `embedding_lookup_sparse`; an id that is too large is an error, too.

    Examples
    --------
    >>> table = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    >>> ids = RaggedIds([0, -1, -1, 1], row_splits=[0, 2, 3, 4])
    >>> safe_embedding_lookup_sparse(table, ids, default_id=2).tolist()
    [[1.0, 10.0], [3.0, 30.0], [2.0, 20.0]]
    """
    combiner = as_combiner(combiner)
    table = as_params(params, partition_strategy, default="div")
    bags = as_bags(sp_ids, sp_weights)
    if bags.ids.dtype.kind in "iu":  # Other ids are refused later.
        kept = bags.ids >= 0
        if bags.weights is not None and combiner != "sum":
            kept &= bags.weights > 0
        if not kept.all():
            # Checked before the others are left out, so that an error tells the caller's position.
            check_range(bags.ids, kept & (bags.ids >= table.rows), table.rows)
            bags = bags.keep(kept)
    rows = _combine(table, bags, combiner, max_norm)
    if default_id is not None:
        default = _lookup(table, default_id, max_norm)
        if default.ndim != len(table.row_shape):
            raise IdTypeError(f"default_id must be one id, not {default_id!r}")
        rows[np.diff(bags.row_splits) == 0] = default
    return rows.reshape(bags.shape + table.row_shape)


def _combine(table: Params, bags: Bags, combiner: Combiner, max_norm: float | None) -> NDArray[Any]:
    """Return one row for each bag, shape (bags, *row_shape)."""
    ids = as_ids(bags.ids, table.rows)
    return combine_bags(
        table, ids, bags.row_splits, bags.weights, combiner=combiner, max_norm=max_norm
    )


def _lookup(table: Params, ids: Any, max_norm: float | None) -> NDArray[Any]:
    """Return the rows of ids of any shape."""
    wide = as_ids(ids, table.rows)
    result = np.empty((wide.size, *table.row_shape), table.dtype)
    table.read(wide.ravel(), result)
    if max_norm is not None:
        clip_norms(result, max_norm, len(table.row_shape))
    return result.reshape(wide.shape + table.row_shape)
