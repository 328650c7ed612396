"""How do the rows of many bags become one row each? Looked up, weighted, summed, divided.

A bag is a run of consecutive ids. For each bag its rows are looked up, scaled down to ``max_norm``,
multiplied by their weights, and combined:

=========  ==========================================
``sum``    ``sum(w * v)``
``mean``   ``sum(w * v) / sum(w)``
``sqrtn``  ``sum(w * v) / sqrt(sum(w ** 2))``
``max``    the largest of each column; takes no weights
=========  ==========================================

A weight is 1 where there are none; a quotient whose denominator is 0, and a bag without ids, is 0.

How a block of bags is summed, `embstore.functional.slices` says; it takes 16-bit floats to float32,
and here the result is narrowed again.

A row that several bags ask for is gathered for each: it is in the processor's cache or in the page
cache by then, and finding out which rows are distinct would cost as much as gathering them. Where
reading is more than gathering (`Table.by_row` is false: chunks are decoded, several arrays
searched), the distinct rows of as many ids as fit in `TOGETHER_BYTES` are read first, each once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embstore.dtypes import DTYPES, find_dtype
from embstore.functional.slices import PIECE_IDS, sum_bags

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.functional.slices import Read
    from embstore.functional.tables import Table

Combiner = Literal["sum", "mean", "sqrtn", "max"]

# What may be held besides the result: distinct rows, or the sums of pieces.
TOGETHER_BYTES = 256 << 20


def combine_bags(
    table: Table,
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
    table : Table
        Where rows come from; `embstore.functional.tables.as_table` makes one.
    ids : ndarray of int64, shape (n,)
        The ids of all bags, one bag after the other; in range.
    row_splits : ndarray of int64, shape (bags + 1,)
        Bag ``b`` is ``ids[row_splits[b] : row_splits[b + 1]]``; from 0 to n, never descending.
    weights : ndarray of numbers, shape (n,), optional
        A factor for each id.
    combiner : {"sum", "mean", "sqrtn", "max"}
        See the module's text.
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
        For another combiner, or ``max`` with weights, or a ``max_norm`` that is not above 0.

    Examples
    --------
    >>> from embstore.functional.tables import as_table
    >>> table = as_table(np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]))
    >>> combine_bags(table, np.array([0, 2, 1]), np.array([0, 2, 2, 3]), combiner="mean").tolist()
    [[2.0, 20.0], [0.0, 0.0], [2.0, 20.0]]
    """
    if combiner not in get_args(Combiner):
        raise ValueError(f'combiner must be "sum", "mean" or "sqrtn", not {combiner!r}')
    if combiner == "max" and weights is not None:
        raise ValueError('the combiner "max" takes no weights')
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, not {max_norm}")
    wide = _sum_dtype(table.dtype)
    if weights is not None:
        weights = weights.astype(wide, copy=False)
    width = int(np.prod(table.row_shape, dtype=np.int64))
    sums = np.zeros((len(row_splits) - 1, width), wide)
    if width:
        largest = combiner == "max"
        _fill(sums, table, ids, row_splits, weights, largest=largest, max_norm=max_norm)
    if combiner in ("mean", "sqrtn"):
        _divide(sums, row_splits, weights, squared=combiner == "sqrtn")
    with np.errstate(over="ignore"):  # What float16 cannot hold is infinite.
        narrow = sums.astype(table.dtype, copy=False)
    return narrow.reshape(len(sums), *table.row_shape)


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that rows are summed in."""
    row = find_dtype(dtype)
    if row is None or row.kind != "f":
        floats = [row.name for row in DTYPES.values() if row.kind == "f"]
        raise TypeError(f"cannot combine rows of {dtype}; expected one of {', '.join(floats)}")
    return np.dtype(row.wide)


def _divide(
    sums: NDArray[Any],
    row_splits: NDArray[np.int64],
    weights: NDArray[Any] | None,
    *,
    squared: bool,
) -> None:
    """Divide each bag's sum by its weights' sum, or by the root of their squares' sum."""
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
    table: Table,
    ids: NDArray[np.int64],
    row_splits: NDArray[np.int64],
    weights: NDArray[Any] | None,
    *,
    largest: bool,
    max_norm: float | None,
) -> None:
    """Fill ``sums`` from as many ids at a time as may be held together; nearly always, from all."""
    block_ids = max(TOGETHER_BYTES // (sums.shape[1] * sums.itemsize), 1)
    if table.by_row:
        block_ids *= PIECE_IDS
    for start in range(0, len(ids), block_ids):
        block = ids[start : start + block_ids]
        stop = start + len(block)
        first = int(np.searchsorted(row_splits, start, side="right")) - 1
        last = int(np.searchsorted(row_splits, stop, side="left"))
        splits = row_splits[first : last + 1].clip(start, stop) - start
        # The first bag may have begun in the block before.
        before = sums[first].copy() if row_splits[first] < start else None
        read, numbers = _reader(table, block)
        factors = None if weights is None else weights[start:stop]
        sum_bags(
            sums[first:last],
            read,
            table.dtype,
            numbers,
            splits,
            factors,
            largest=largest,
            max_norm=max_norm,
        )
        if before is not None:
            (np.maximum if largest else np.add)(before, sums[first], out=sums[first])


def _reader(table: Table, ids: NDArray[np.int64]) -> tuple[Read, NDArray[np.int64]]:
    """Return what reads rows of one axis, and the numbers it takes instead of ``ids``."""
    if table.by_row:
        return partial(_read, table), ids
    distinct, inverse = np.unique(ids, return_inverse=True)
    rows = np.empty((len(distinct), *table.row_shape), table.dtype)
    table.read(distinct, rows)
    return partial(_take, rows.reshape(len(rows), -1)), inverse


def _read(table: Table, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
    table.read(ids, out.reshape(len(out), *table.row_shape))


def _take(rows: NDArray[Any], ids: NDArray[np.int64], out: NDArray[Any]) -> None:
    rows.take(ids, 0, out, "clip")
