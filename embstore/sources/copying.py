"""The copying of all batches of a source to a store, with the place of each error in the input."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import is_float
from embstore.errors import RowError
from embstore.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.progress import OnProgress
    from embstore.sources import Batch, Source


def copy_batches(
    source: Source, write: Callable[[Batch], int], progress: OnProgress | None
) -> int | None:
    """Pass all batches of a source on; return the number of rows that are not finite.

    Parameters
    ----------
    source : Source
        The source.
    write : callable
        Called with each batch; returns the rows that were stored so far.
    progress : callable, optional
        As for `embstore.build`.

    Returns
    -------
    int or None
        None where rows are encoded: they are not decoded.

    Raises
    ------
    RowError
        If a row cannot be stored; the message names its place in the input.
    """
    non_finite = 0 if source.encoding is None else None
    for batch in source.batches():
        try:
            rows = write(batch)
        except RowError as error:
            placed = copy(error)  # Of the same kind.
            placed.position += batch.first
            placed.args = (f"{source.place(placed.position)}: {error.problem}",)
            raise placed from error
        if non_finite is not None and is_float(batch.rows.dtype):
            non_finite += _count_non_finite(batch.rows)
        if progress is not None:
            progress(Progress(batch.bytes_done, source.byte_count, rows))
    return non_finite


def _count_non_finite(rows: NDArray[Any]) -> int:
    """Return the number of rows with a value that is nan or infinite."""
    with np.errstate(invalid="ignore", over="ignore"):  # A nan may be signalling.
        # A sum is finite only if all values are; it takes half the time of looking at each.
        if rows.dtype.itemsize >= 4 and np.isfinite(rows.sum()):
            return 0
        finite = np.isfinite(rows).reshape(len(rows), -1)
    return len(finite) - int(finite.all(axis=1).sum())
