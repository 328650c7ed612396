"""Norms of rows, limits on them (``max_norm``), and rows scaled to length 1.

Squares of very large numbers overflow, and those of very small ones vanish: float32 has no square
of 1e20 or of 1e-23. A norm near these ends is extreme, and computed again from the row divided by
its largest number. All other rows are read once.

As in TensorFlow's ``clip_by_norm``, a row whose L2 norm over all its axes exceeds ``max_norm`` is
multiplied by ``max_norm / norm``, and a row with a NaN becomes NaN, because its norm is; every
other row keeps its bits. Norms are summed in float64, so
that squares of large float32 numbers do not overflow; narrower floats are scaled as float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import is_float, wide_dtype
from embstore.settle import as_positive
from embstore.wording import parameter

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
        raise TypeError(f"{parameter('max_norm')} needs rows of floats; these are {dtype}")
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
    # An inf in a long row becomes nan, as in TensorFlow.
    with np.errstate(invalid="ignore", over="ignore"):
        wide = flat.astype(wide_dtype(rows.dtype), copy=False)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide, dtype=np.float64, casting="same_kind"))
        over = np.flatnonzero(~(norms <= max_norm))  # Those of NaN, too.
        scaled = wide[over] * (max_norm / norms[over])[:, np.newaxis]
        infinite = np.isinf(norms[over])
        if infinite.any():
            scaled[infinite] = unit(wide[over][infinite]) * max_norm
        flat[over] = scaled.astype(wide.dtype, copy=False)


def are_extreme(norms: NDArray[Any]) -> NDArray[np.bool_]:
    """Say of each norm whether it may be wrong: near the ends of its dtype's range, 0, inf or nan.

    Parameters
    ----------
    norms : ndarray of floats, any shape
        Norms that were computed in their own dtype.

    Examples
    --------
    >>> are_extreme(np.array([1e-20, 1e-3, 1e19, 0], np.float32)).tolist()
    [True, False, True, True]
    """
    limits = np.finfo(norms.dtype)
    least, most = np.sqrt(limits.tiny / limits.eps), np.sqrt(limits.max) / 2
    ordinary: NDArray[np.bool_] = (norms > least) & (norms < most)
    return ~ordinary


def row_norms(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the L2 norms of vectors of floats, shape (n, dimension), in their dtype.

    Examples
    --------
    >>> row_norms(np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], np.float32))
    array([5.e+30, 5.e-30, 0.e+00], dtype=float32)
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norms: NDArray[Any] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        extreme = are_extreme(norms)
        if extreme.any():
            some, scales = _scaled(rows[extreme])
            norms[extreme] = np.sqrt(np.einsum("ij,ij->i", some, some)) * scales[:, 0]
    return norms


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Scale vectors of floats, shape (..., dimension), to length 1; zeros stay zeros.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [3e-300, 4e-300], [0.0, 0.0]])).round(9).tolist()
    [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
        extreme = are_extreme(norms)
        if extreme.any():
            scaled, _ = _scaled(vectors)
            vectors = np.where(extreme, scaled, vectors)
            norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.asarray(vectors / np.where(norms == 0, 1, norms))


def _scaled(vectors: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return vectors divided by their largest numbers, and these, shape (..., 1).

    A vector of zeros, or with a number that is not finite, is divided by 1.
    """
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0)
    scales = np.where((largest > 0) & np.isfinite(largest), largest, 1).astype(vectors.dtype)
    return vectors / scales, scales
