"""May these numbers be stored as that dtype? Rounding is fine, another number is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import RowError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cast_rows(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return ``rows`` as ``dtype``.

    Floats are rounded to the nearest float. Integers must come out equal, and nothing finite may
    become infinite.

    Parameters
    ----------
    rows : ndarray of integers or floats, shape (n, ...)
    dtype : numpy.dtype

    Raises
    ------
    RowError
        If a number does not fit; it names the row.
    TypeError
        If the kinds of numbers do not go together, as floats in an integer table.
    """
    if rows.dtype == dtype:
        return rows
    if rows.dtype.kind not in ("iu" if dtype.kind in "iu" else "iuf"):
        raise TypeError(f"rows are {rows.dtype}, which a table of {dtype} cannot hold")
    with np.errstate(over="ignore"):
        cast = rows.astype(dtype)
    if dtype.kind == "f":
        lost = np.isinf(cast) & ~np.isinf(rows)
    else:
        lost = (cast != rows) | ((cast < 0) != (rows < 0))
    if lost.any():
        where = tuple(np.argwhere(lost)[0].tolist())
        raise RowError(
            f"the value {rows[where]} is out of the range of {dtype}; choose a wider dtype",
            where[0],
        )
    return cast
