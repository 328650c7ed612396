"""Ids and rows that come in blocks, paired: blocks of both need not end at the same places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import has_masked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Ids = NDArray[np.int64]
    Rows = NDArray[Any]

PIECE_BYTES = 4 << 20


def blocks_of(
    ids: Any,
    rows: Any,
    settle: Callable[[Any], Ids],
    row_shape: tuple[int, ...],
    rows_text: str,
) -> tuple[Iterator[Ids], Iterator[Rows]]:
    """Return the blocks of ids, shape (n,), and those of rows, shape (n, *row_shape).

    Parameters
    ----------
    ids, rows : anything
        As `embstore.update` takes them.
    settle : callable
        Returns ids as int64.
    row_shape : tuple of int
        Shape of a row.
    rows_text : str
        What rows must be, for messages.

    Raises
    ------
    TypeError, ValueError
        If rows are masked, or have another shape; here or from the iterators.
    """
    if isinstance(ids, Iterator):
        some_ids = id_blocks(ids, settle)
    else:
        settled = settle(ids)
        some_ids = iter([settled.reshape(-1)])
        if not isinstance(rows, Iterator):
            array = _as_rows(rows)
            if array.shape != settled.shape + row_shape:
                raise ValueError(
                    f"rows have shape {array.shape}, expected {settled.shape + row_shape} for ids "
                    f"of shape {settled.shape}: give {rows_text}, one for each id"
                )
            return some_ids, iter([array.reshape(-1, *row_shape)])
    blocks = rows if isinstance(rows, Iterator) else iter([rows])
    return some_ids, (_as_block(block, row_shape, rows_text) for block in blocks)


def id_blocks(ids: Any, settle: Callable[[Any], Ids]) -> Iterator[Ids]:
    """Yield ids in blocks, shape (n,); see `blocks_of`."""
    for block in ids if isinstance(ids, Iterator) else [ids]:
        yield settle(block).reshape(-1)


def shaped_as(ids: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of attributes for ids of any shape as columns; a value of one id alone too."""
    if isinstance(ids, Iterator):
        return dict(attributes)
    is_one = isinstance(ids, str) or np.ndim(ids) == 0
    return {
        name: [values]
        if is_one and (isinstance(values, str) or np.ndim(values) == 0)
        else _flat(values, ids)
        for name, values in attributes.items()
    }


def _flat(values: Any, ids: Any) -> Any:
    """Return values in the shape of ids, of several axes, as one axis."""
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.shape == np.shape(ids):
        return values.reshape(-1)
    return values


def in_step(ids: Iterator[Ids], rows: Iterator[Rows]) -> Iterator[tuple[Ids, Rows]]:
    """Yield ids and as many rows, piece by piece.

    Raises
    ------
    ValueError
        If there are more of one than of the other.

    Examples
    --------
    >>> ids = iter([np.array([5, 6]), np.array([7])])
    >>> rows = iter([np.zeros((1, 4)), np.ones((2, 4))])
    >>> [(some.tolist(), block.shape) for some, block in in_step(ids, rows)]
    [([5], (1, 4)), ([6], (1, 4)), ([7], (1, 4))]
    """
    some, block = np.empty(0, np.int64), None
    done = 0
    while True:
        while not len(some):
            following = next(ids, None)
            if following is None:
                left = 0 if block is None else len(block)
                if left or any(len(more) for more in rows):
                    raise ValueError(f"there are more rows than ids, which are {done}")
                return
            some = following
        while block is None or not len(block):
            block = next(rows, None)
            if block is None:
                raise ValueError(f"there are only {done} rows, fewer than ids; give one for each")
        # Of few rows at a time, because they are cast.
        most = max(PIECE_BYTES * len(block) // max(block.nbytes, 1), 1)
        count = min(len(some), len(block), most)
        yield some[:count], block[:count]
        some, block, done = some[count:], block[count:], done + count


def _as_rows(rows: Any) -> NDArray[Any]:
    if has_masked(rows):
        raise TypeError("rows have masked numbers; replace them with .filled(value)")
    return np.asarray(rows)


def _as_block(rows: Any, row_shape: tuple[int, ...], rows_text: str) -> NDArray[Any]:
    array = _as_rows(rows)
    if array.shape == row_shape:
        array = array[np.newaxis]
    if array.shape[1:] != row_shape or array.ndim != len(row_shape) + 1:
        expected = ", ".join(["n", *map(str, row_shape)])
        raise ValueError(f"rows have shape {array.shape}, expected ({expected}): give {rows_text}")
    return array
