"""Casting of rows to a table's dtype, and an account of the numbers that it changes.

1. Floats are rounded to the nearest float; the largest difference that this makes is kept.
2. A finite number that is too large for the dtype is refused, or becomes infinite where that is
   allowed, and is counted. Numbers that are ``inf`` or ``nan`` before stay so.
3. A number that the dtype lacks is refused, as it would become nan: infinity in most float8 types,
   0 and negative numbers in float8_e8m0fnu.
4. Integers that are stored as integers must stay equal, or are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.dtypes import find_dtype, is_extension, is_float, is_safe_cast
from embstore.errors import RowError
from embstore.wording import option

if TYPE_CHECKING:
    from numpy.typing import NDArray

OnOverflow = Literal["error", "inf"]

# Rows that are cast at a time: they stay in the processor's cache over several passes.
CAST_BYTES = 1 << 20


class Caster:
    """Casts batches of rows, and keeps account of the numbers that this changes.

    Parameters
    ----------
    dtype : numpy.dtype
        Dtype of the result.
    on_overflow : {"error", "inf"} or None
        Whether a finite number that is out of the range of a float dtype is refused, or becomes
        infinite. None also refuses it, where the caller has no such choice.

    Raises
    ------
    ValueError
        If numbers are to become infinite in a dtype that has no infinity.

    Attributes
    ----------
    dtype : numpy.dtype
        Dtype of the result.
    largest_error : float
        The largest difference between a number and its result; 0.0 while all are equal.
    overflow_count : int
        Finite numbers that became infinite.

    Examples
    --------
    >>> caster = Caster(np.dtype(np.float16))
    >>> caster.cast(np.array([[1.0, 2.0004]])).tolist()
    [[1.0, 2.0]]
    >>> caster.facts()["largest_cast_error"]
    0.00039999999999995595
    """

    def __init__(self, dtype: np.dtype[Any], on_overflow: OnOverflow | None = "error") -> None:
        row = find_dtype(dtype)
        if on_overflow == "inf" and row is not None and not row.has_inf:
            raise ValueError(
                f"{option('on_overflow', 'inf')} needs a dtype with infinities, which {dtype} "
                "lacks; leave it out, or choose float8_e5m2 or a wider dtype"
            )
        self.largest_error = 0.0
        self.overflow_count = 0
        self.dtype = dtype
        self._on_overflow = on_overflow
        self._has_inf = row is None or row.has_inf
        self._has_zero = row is None or row.has_zero
        self._origin: np.dtype[Any] | None = None

    def cast(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return ``rows`` as the dtype; the same array, if it has that dtype already.

        Parameters
        ----------
        rows : ndarray of integers or floats, shape (n, ...)

        Raises
        ------
        RowError
            If a number does not fit; it names the row.
        TypeError
            If ``rows`` are floats and the dtype is an integer, or if they are not real numbers.
        """
        if rows.dtype == self.dtype:
            return rows
        if not (rows.dtype.kind in "iu" or (is_float(rows.dtype) and is_float(self.dtype))):
            raise TypeError(f"rows are {rows.dtype}; a table of {self.dtype} cannot hold them")
        if _always_exact(rows.dtype, self.dtype):
            with np.errstate(invalid="ignore"):
                return rounded(rows, self.dtype)
        result = np.empty(rows.shape, self.dtype)
        step = max(CAST_BYTES * len(rows) // max(rows.nbytes, 1), 1)
        for start in range(0, len(rows), step):
            piece = rows[start : start + step]
            # Overflows are looked for below; a nan, also a signalling one, is like any number.
            with np.errstate(over="ignore", invalid="ignore"):
                result[start : start + step] = self._cast_piece(piece, start)
        return result

    def facts(self) -> dict[str, Any]:
        """Return the account for a store's ``source``; empty if all numbers stayed equal."""
        if not self.largest_error and not self.overflow_count:
            return {}
        return {
            "cast_from": str(self._origin),
            "largest_cast_error": self.largest_error,
            "overflow_count": self.overflow_count,
        }

    def _cast_piece(self, rows: NDArray[Any], start: int) -> NDArray[Any]:
        cast = rounded(rows, self.dtype)
        if not is_float(self.dtype):
            # NumPy compares integers exactly, also int64 with uint64.
            self._refuse(cast != rows, rows, start)
            return cast
        # Subtract in a wider dtype, where the difference is exact or nearly so. It is nan where
        # both are nan or inf.
        wide = np.longdouble if rows.dtype.kind in "iu" else np.result_type(rows.dtype, np.float32)
        widened = cast.astype(wide)
        errors = np.abs(np.subtract(widened, rows, dtype=wide))
        largest = float(np.fmax.reduce(errors, axis=None, initial=0))
        if not (self._has_inf and self._has_zero):
            self._refuse(np.isnan(widened) & ~np.isnan(rows), rows, start)
        if np.isinf(largest):
            lost = np.isinf(cast) & ~np.isinf(rows)
            if self._on_overflow != "inf":
                self._refuse(lost, rows, start)
            self.overflow_count += int(np.count_nonzero(lost))
            largest = float(np.fmax.reduce(errors, axis=None, initial=0, where=~lost))
        if largest or self.overflow_count:
            self._origin = rows.dtype
        self.largest_error = max(self.largest_error, largest)
        return cast

    def _refuse(self, lost: NDArray[np.bool_], rows: NDArray[Any], start: int) -> None:
        """Raise RowError for the first number that is lost, if there is one."""
        if not lost.any():
            return
        where = tuple(np.argwhere(lost)[0].tolist())
        remedy = "choose a wider dtype"
        if is_float(self.dtype) and self.dtype.itemsize == 1 and self._has_zero:
            remedy += f", or a scale for each row with {option('encoding', self.dtype.name)}"
        if is_float(self.dtype) and self._has_inf and self._on_overflow is not None:
            remedy += f", or store it as infinite with {option('on_overflow', 'inf')}"
        value = rows[where]
        is_missing = np.isinf(value) or (value <= 0 and not self._has_zero)
        problem = "not a number of" if is_missing else "out of the range of"
        raise RowError(f"the value {value} is {problem} {self.dtype}; {remedy}", start + where[0])


def _always_exact(origin: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Say whether ``dtype`` holds every number of ``origin`` exactly."""
    # NumPy calls it safe to cast 64-bit integers to float64, which has only 53 bits for them.
    if origin.kind in "iu" and origin.itemsize == 8 and is_float(dtype):
        return False
    return is_safe_cast(origin, dtype)


def rounded(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers as another dtype, each of them rounded once."""
    if is_extension(dtype) and is_extension(rows.dtype):
        rows = rows.astype(np.float32)  # Exact; ml_dtypes lacks some of these casts.
    # NumPy rounds a long double to float64 first, and that to float16; ml_dtypes rounds these and
    # others to float32 first, and that to its own types. Both may end one number too far.
    is_long = dtype == np.float16 and rows.dtype.itemsize > 8
    if not is_long and not (
        is_extension(dtype) and rows.dtype.itemsize >= 4 and rows.dtype != np.float32
    ):
        return rows.astype(dtype)
    # Rounding to odd in the first step tells the second on which side of the middle it is.
    # Float64 holds all of them exactly but 64-bit integers and long doubles.
    is_wide = rows.dtype.itemsize > 8 or (rows.dtype.itemsize == 8 and rows.dtype.kind in "iu")
    exact = rows.astype(np.longdouble if is_wide else np.float64)
    single = exact.astype(np.float32)
    bits = single.view(np.uint32)
    back = single.astype(exact.dtype)
    bits -= np.abs(back) > np.abs(exact)
    bits |= (back != exact) & ~np.isnan(exact)
    return single.astype(dtype)
