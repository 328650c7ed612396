"""One row for each bag of ids: its rows looked up, weighted, summed and divided.

A bag is a run of consecutive ids. The rows of each bag are looked up, scaled down to ``max_norm``,
multiplied by their weights, and combined:

=========  ==============================
``sum``    ``sum(w * v)``
``mean``   ``sum(w * v) / sum(w)``
``sqrtn``  ``sum(w * v) / sqrt(sum(w ** 2))``
=========  ==============================

Missing weights are 1. The result is 0 where a denominator is 0 and for a bag without ids.

`embstore.functional.slices` sums a block of bags. Floats of 8 and 16 bits are summed in float32;
the result is cast back here. A sum beyond the range becomes infinite, or nan in a float8 type
without infinity.

A row that several bags ask for is gathered for each of them: by then it is in the processor's cache
or in the page cache, and finding the distinct rows would cost as much as gathering them. Where
reading is dearer than gathering (`Params.by_row` is false: chunks are decoded, or several arrays
searched), the distinct rows of as many ids as fit in `DISTINCT_BYTES` are read first, each once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embstore.dtypes import DTYPES, find_dtype
from embstore.functional.slices import PIECE_IDS, sum_bags
from embstore.norms import check_max_norm
from embstore.settle import as_choice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.functional.params import Params
    from embstore.functional.slices import Read

Combiner = Literal["sum", "mean", "sqrtn"]

# Memory besides the result: the distinct rows of a block, or the sums of its pieces.
DISTINCT_BYTES = 256 << 20


def as_combiner(combiner: str | None) -> Combiner:
    """Return a combiner; ``"mean"`` for None, as in TensorFlow.

    Raises
    ------
    ValueError, TypeError
        For another one.
    """
    if combiner is None:
        return "mean"
    return as_choice(combiner, "combiner", get_args(Combiner))


def combine_bags(
    params: Params,
    ids: NDArray[np.int64],
    row_splits: NDArray[np.int64],
    weights: NDArray[Any] | None = None,
    *,
    combiner: Combiner = "sum",
    max_norm: float | None = None,
) -> NDArray[Any]:
    """Return one row for each bag.

    Parameters
    ----------
    params : Params
        The table; `embstore.functional.params.as_params` makes one.
    ids : ndarray of int64, shape (n,)
        The ids of all bags, one bag after the other; in range.
    row_splits : ndarray of int64, shape (bags + 1,)
        Bag ``b`` is ``ids[row_splits[b] : row_splits[b + 1]]``. The first is 0, the last n, and
        they never descend.
    weights : ndarray of numbers, shape (n,), optional
        A factor for each id.
    combiner : {"sum", "mean", "sqrtn"}
        See the module's docstring.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it before they are combined.

    Returns
    -------
    rows : ndarray of the table's dtype, shape (bags, *row_shape)

    Raises
    ------
    TypeError
        If the table's rows are not floats.
    ValueError
        For another combiner, or if ``max_norm`` is not above 0.

    Examples
    --------
    >>> from embstore.functional.params import as_params
    >>> params = as_params(np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]))
    >>> combine_bags(params, np.array([0, 2, 1]), np.array([0, 2, 2, 3]), combiner="mean").tolist()
    [[2.0, 20.0], [0.0, 0.0], [2.0, 20.0]]
    """
    combiner = as_combiner(combiner)
    dtype = _sum_dtype(params.dtype)
    if max_norm is not None:
        check_max_norm(max_norm, params.dtype)
    if weights is not None:
        weights = weights.astype(dtype, copy=False)
    width = int(np.prod(params.row_shape, dtype=np.int64))
    sums = np.zeros((len(row_splits) - 1, width), dtype)
    if width:
        _fill(sums, params, ids, row_splits, weights, max_norm)
    if combiner != "sum":
        _divide(sums, row_splits, weights, squared=combiner == "sqrtn")
    # Sums beyond the range of narrow floats become infinite, or nan in most float8 dtypes.
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = sums.astype(params.dtype, copy=False)
    return narrow.reshape(len(sums), *params.row_shape)


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that rows are summed in."""
    row = find_dtype(dtype)
    if row is None or row.kind != "f" or not row.has_zero:
        floats = [row.name for row in DTYPES.values() if row.kind == "f" and row.has_zero]
        raise TypeError(f"cannot combine rows of {dtype}; expected one of {', '.join(floats)}")
    return np.dtype(row.wide)


def _divide(
    sums: NDArray[Any],
    row_splits: NDArray[np.int64],
    weights: NDArray[Any] | None,
    *,
    squared: bool,
) -> None:
    """Divide each bag's sum by the sum of its weights, or by the root of the sum of squares."""
    counts = np.diff(row_splits)
    totals: NDArray[Any] = counts
    if weights is not None:
        bags = np.repeat(np.arange(len(counts)), counts)
        factors = np.square(weights, dtype=np.float64) if squared else weights
        totals = np.bincount(bags, factors, len(counts))
    divisors = (np.sqrt(totals) if squared else totals).astype(sums.dtype)[:, np.newaxis]
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(sums, divisors, out=sums, where=divisors != 0)
    sums[divisors[:, 0] == 0] = 0


def _fill(
    sums: NDArray[Any],
    params: Params,
    ids: NDArray[np.int64],
    row_splits: NDArray[np.int64],
    weights: NDArray[Any] | None,
    max_norm: float | None,
) -> None:
    """Fill ``sums`` block by block; nearly always, one block holds all ids."""
    block_ids = max(DISTINCT_BYTES // (sums.shape[1] * sums.itemsize), 1)
    if params.by_row:
        block_ids *= PIECE_IDS
    for start in range(0, len(ids), block_ids):
        block = ids[start : start + block_ids]
        stop = start + len(block)
        first = int(np.searchsorted(row_splits, start, side="right")) - 1
        last = int(np.searchsorted(row_splits, stop, side="left"))
        splits = row_splits[first : last + 1].clip(start, stop) - start
        # The first bag may have started in the previous block.
        before = sums[first].copy() if row_splits[first] < start else None
        read, numbers = _reader(params, block)
        factors = None if weights is None else weights[start:stop]
        sum_bags(sums[first:last], read, params.dtype, numbers, splits, factors, max_norm)
        if before is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                sums[first] += before


def _reader(params: Params, ids: NDArray[np.int64]) -> tuple[Read, NDArray[np.int64]]:
    """Return a function that reads rows as vectors, and the numbers that it takes for ``ids``."""
    if params.by_row:
        return partial(_read, params), ids
    distinct, inverse = np.unique(ids, return_inverse=True)
    rows = np.empty((len(distinct), *params.row_shape), params.dtype)
    params.read(distinct, rows)
    return partial(_take, rows.reshape(len(rows), -1)), inverse


def _read(params: Params, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
    params.read(ids, out.reshape(len(out), *params.row_shape))


def _take(rows: NDArray[Any], positions: NDArray[np.int64], out: NDArray[Any]) -> None:
    rows.take(positions, 0, out, "clip")
