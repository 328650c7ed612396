"""TensorFlow's embedding lookups, from disk or from RAM.

``params`` is a store, one array, or a list of arrays that are the partitions of one table. The
rows are TensorFlow's wherever TensorFlow's are defined; where it would return wrong rows without a
word (ids out of range, partitions of other sizes than the strategy's), this raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.ids import as_ids
from embstore.norms import clip_norms
from embstore.store import EmbeddingStore
from embstore.tables import as_table, check_strategy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from embstore.partitions import Strategy


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
    if isinstance(params, EmbeddingStore):
        check_strategy(params, partition_strategy)
        return params.lookup(ids, max_norm=max_norm)
    table = as_table(params, partition_strategy)
    wide = as_ids(ids, table.rows)
    result = np.empty((wide.size, *table.row_shape), table.dtype)
    table.read(wide.ravel(), result)
    if max_norm is not None:
        clip_norms(result, max_norm, len(table.row_shape))
    return result.reshape(wide.shape + table.row_shape)
