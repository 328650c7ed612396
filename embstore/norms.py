"""Limits on the norms of rows: ``max_norm``.

As in TensorFlow's ``clip_by_norm``, a row whose L2 norm over all its axes exceeds ``max_norm`` is
multiplied by ``max_norm / norm``; every other row keeps its bits. Norms are summed in float64, so
that squares of large float32 numbers do not overflow; 16-bit floats are scaled as float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import is_float, wide_dtype
from embstore.settle import as_positive

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_max_norm(max_norm: float, dtype: np.dtype[Any]) -> float:
    """Return ``max_norm``, which must be a number above 0, for rows of floats.

    Raises
    ------
    ValueError
        If it is not above 0.
    TypeError
        If it is not a number, or the rows are not floats.
    """
    max_norm = as_positive(max_norm, "max_norm")
    if not is_float(dtype):
        raise TypeError(f"max_norm needs rows of floats; these are {dtype}")
    return max_norm


def clip_norms(rows: NDArray[Any], max_norm: float, row_rank: int) -> None:
    """Scale rows down to ``max_norm``, in place.

    Parameters
    ----------
    rows : ndarray of floats, shape (..., *row_shape), C-contiguous
        The rows.
    max_norm : float
        The largest norm, above 0.
    row_rank : int
        Number of trailing axes that make up a row.

    Raises
    ------
    ValueError
        If ``max_norm`` is not above 0.
    TypeError
        If the rows are not floats.

    Examples
    --------
    >>> rows = np.array([[3.0, 4.0], [0.3, 0.4]])
    >>> clip_norms(rows, 2.5, row_rank=1)
    >>> rows.tolist()
    [[1.5, 2.0], [0.3, 0.4]]
    """
    max_norm = check_max_norm(max_norm, rows.dtype)
    if not rows.size:
        return
    count = int(np.prod(rows.shape[: rows.ndim - row_rank], dtype=np.int64))
    flat = rows.reshape(count, -1)
    with np.errstate(invalid="ignore"):  # An inf in a long row becomes nan, as in TensorFlow.
        wide = flat.astype(wide_dtype(rows.dtype), copy=False)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide, dtype=np.float64, casting="same_kind"))
        over = np.flatnonzero(norms > max_norm)
        scaled = wide[over] * (max_norm / norms[over])[:, np.newaxis]
        flat[over] = scaled.astype(wide.dtype, copy=False)
