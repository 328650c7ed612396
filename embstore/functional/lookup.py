"""TensorFlow's embedding lookups, from disk or from RAM.

``params`` is a store, one array, or a list of arrays that are the partitions of one table. The
rows are those of ``tf.compat.v1.nn`` wherever TensorFlow's are defined, with these differences:

================================  ===========================  =====================================
what                              TensorFlow                   here
================================  ===========================  =====================================
an id that the table has not      an error on a CPU, another   `IdRangeError`, which names it
                                  row on a GPU
partitions of other sizes than    rows of other ids, or an     `PartitionSizeError`
the strategy's                    error
more partitions than rows         division by zero under       works; some partitions are empty
                                  ``div``
a ``partition_strategy`` for a    there are no stores          a store knows its own; another one
store                                                          raises
bags without ids at the end       left out of the result of    rows of zeros, as other empty bags
                                  `embedding_lookup_sparse`
`SparseIds` of rank 3 and more    all but the first axis are   ValueError; the safe variant has a
in `embedding_lookup_sparse`      one bag                      bag for each place of the others
weights at other places than ids  not noticed                  ValueError
rows that are no vectors in the   an error                     works
safe variant
rows of integers that are summed  taken                        TypeError
``max_norm`` of 0 or less         rows of zeros                ValueError
``max_norm`` for rows of 16 bits  computed in 16 bits          computed in 32 bits or more
================================  ===========================  =====================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from embstore.functional.bags import RaggedIds, RaggedRows, SparseIds, as_bags, as_ragged
from embstore.functional.combine import combine_bags
from embstore.functional.tables import as_table, check_strategy
from embstore.norms import clip_norms
from embstore.store import EmbeddingStore
from embstore.table.ids import as_ids

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from embstore.functional.bags import Bags
    from embstore.functional.tables import Table
    from embstore.table.partitioning import Strategy

Combiner = Literal["sum", "mean", "sqrtn"]


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
        The table, or its partitions. Arrays are NumPy's, ``np.memmap``, ``zarr.Array`` or torch's
        on the CPU; a list of numbers is one array.
    ids : int or array-like of integers, any shape, or RaggedIds
        Ids in ``0 .. rows - 1``.
    partition_strategy : {"mod", "div"}, optional
        How the list ``params`` was cut, ``"mod"`` by default. A store knows its own; naming
        another one is an error.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it.

    Returns
    -------
    rows : ndarray, shape ``ids.shape + row_shape``
        For `RaggedIds`: `RaggedRows`, with the row splits of the ids.

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
    ragged = as_ragged(ids)
    if ragged is not None:
        rows = embedding_lookup(params, ragged.values, partition_strategy, max_norm)
        return RaggedRows(rows, ragged.row_splits)
    if isinstance(params, EmbeddingStore):
        check_strategy(params, partition_strategy)
        return params.lookup(ids, max_norm=max_norm)  # type: ignore[arg-type]  # They are no longer ragged.
    return _lookup(as_table(params, partition_strategy), ids, max_norm)


def embedding_lookup_sparse(
    params: Any,
    sp_ids: SparseIds | RaggedIds,
    sp_weights: SparseIds | RaggedIds | None = None,
    partition_strategy: Strategy | None = None,
    combiner: Combiner = "mean",
    max_norm: float | None = None,
) -> NDArray[Any]:
    """Return one row for each bag of ids: its rows, combined.

    Parameters
    ----------
    params : EmbeddingStore, array, or list of arrays
        As of `embedding_lookup`, with rows of float16, bfloat16, float32 or float64.
    sp_ids : SparseIds of rank 2, or RaggedIds
        The bags. TensorFlow's ``SparseTensor`` and ``RaggedTensor`` will do.
    sp_weights : SparseIds or RaggedIds, optional
        A weight for each id, at the same places; 1 if left out.
    partition_strategy : {"mod", "div"}, optional
        As of `embedding_lookup`.
    combiner : {"mean", "sqrtn", "sum"}
        ``sum(w * v) / sum(w)``, ``sum(w * v) / sqrt(sum(w ** 2))`` or ``sum(w * v)``; 0 where the
        denominator is 0.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it before they are combined.

    Returns
    -------
    rows : ndarray of the table's dtype, shape ``(bags, *row_shape)``
        A bag without ids gives zeros. Rows of 16 bits are summed in float32.

    Raises
    ------
    IdTypeError, IdRangeError, PartitionSizeError
        As `embedding_lookup`.
    ValueError, TypeError
        Also if ids or weights are of another kind, weights are not at the ids' places, or rows are
        no floats.

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
    _check_combiner(combiner)
    table = as_table(params, partition_strategy)
    bags = as_bags(sp_ids, sp_weights)
    if len(bags.shape) != 1:
        raise ValueError(
            f"sp_ids must have rank 2 (bags, ids), not {len(bags.shape) + 1}; "
            "safe_embedding_lookup_sparse takes any"
        )
    return _combine(table, bags, combiner, max_norm)


def safe_embedding_lookup_sparse(
    params: Any,
    sp_ids: SparseIds | RaggedIds,
    sp_weights: SparseIds | RaggedIds | None = None,
    combiner: Combiner = "mean",
    default_id: int | None = None,
    partition_strategy: Strategy | None = None,
    max_norm: float | None = None,
) -> NDArray[Any]:
    """Return one row for each bag of ids, without those that are no ids.

    Ids below 0 are dropped, and, unless the combiner is ``"sum"``, ids whose weight is not above 0.

    Parameters
    ----------
    params, sp_weights, combiner, max_norm
        As of `embedding_lookup_sparse`.
    sp_ids : SparseIds of rank 2 or more, or RaggedIds
        The bags; the last axis is a bag.
    default_id : int, optional
        Whose row a bag gets that has no ids, or has none left; zeros if left out.
    partition_strategy : {"mod", "div"}, optional
        How the list ``params`` was cut: here, as TensorFlow has it, ``"div"`` by default.

    Returns
    -------
    rows : ndarray of the table's dtype, shape ``(*bags, *row_shape)``
        ``bags`` are the axes of the ids but the last one.

    Raises
    ------
    IdTypeError, IdRangeError, PartitionSizeError, ValueError, TypeError
        As `embedding_lookup_sparse`; an id that is too large is not dropped.

    Examples
    --------
    >>> table = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    >>> ids = RaggedIds([0, -1, -1, 1], row_splits=[0, 2, 3, 4])
    >>> safe_embedding_lookup_sparse(table, ids, default_id=2).tolist()
    [[1.0, 10.0], [3.0, 30.0], [2.0, 20.0]]
    """
    _check_combiner(combiner)
    table = as_table(params, partition_strategy, default="div")
    bags = as_bags(sp_ids, sp_weights)
    if bags.ids.dtype.kind in "iu":  # Others are refused later.
        kept = bags.ids >= 0
        if bags.weights is not None and combiner != "sum":
            kept &= bags.weights > 0
        if not kept.all():
            bags = bags.keep(kept)
    rows = _combine(table, bags, combiner, max_norm)
    if default_id is not None:
        default = _lookup(table, default_id, max_norm)
        rows[np.diff(bags.row_splits) == 0] = default
    return rows.reshape(bags.shape + table.row_shape)


def _check_combiner(combiner: str) -> None:
    if combiner not in get_args(Combiner):
        raise ValueError(f'combiner must be "sum", "mean" or "sqrtn", not {combiner!r}')


def _combine(table: Table, bags: Bags, combiner: Combiner, max_norm: float | None) -> NDArray[Any]:
    """Return one row for each bag, all on one axis."""
    ids = as_ids(bags.ids, table.rows)
    return combine_bags(
        table, ids, bags.row_splits, bags.weights, combiner=combiner, max_norm=max_norm
    )


def _lookup(table: Table, ids: Any, max_norm: float | None) -> NDArray[Any]:
    """Return the rows of ids of any shape."""
    wide = as_ids(ids, table.rows)
    result = np.empty((wide.size, *table.row_shape), table.dtype)
    table.read(wide.ravel(), result)
    if max_norm is not None:
        clip_norms(result, max_norm, len(table.row_shape))
    return result.reshape(wide.shape + table.row_shape)
