"""May these numbers be stored as that dtype, and what does it cost? Rounding is fine, and counted.

1. Floats are rounded to the nearest float; the largest difference that this made is kept.
2. A finite number that is too large for the dtype is refused, or becomes infinite where that is
   allowed, and is counted. What is ``inf`` or ``nan`` already stays so.
3. Integers must come out equal, or are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embstore.dtypes import is_extension, is_float
from embstore.errors import RowError

if TYPE_CHECKING:
    from numpy.typing import NDArray

OnOverflow = Literal["error", "inf"]

PIECE_BYTES = 1 << 20


class Caster:
    """Casts one batch of rows after the other, and keeps account of what that changed.

    Parameters
    ----------
    dtype : numpy.dtype
        What the numbers become.
    on_overflow : {"error", "inf"}
        Whether a finite number that is out of the range of a float dtype is refused, or becomes
        infinite.

    Attributes
    ----------
    dtype : numpy.dtype
        What the numbers become.
    largest_error : float
        The largest difference between a number and what it became; 0.0 while all were equal.
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

    def __init__(self, dtype: np.dtype[Any], on_overflow: OnOverflow = "error") -> None:
        if on_overflow not in get_args(OnOverflow):
            raise ValueError(f'on_overflow must be "error" or "inf", not {on_overflow!r}')
        self.largest_error = 0.0
        self.overflow_count = 0
        self.dtype = dtype
        self._on_overflow = on_overflow
        self._origin: np.dtype[Any] | None = None

    def cast(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return ``rows`` as the dtype; the same array, if it has that already.

        Parameters
        ----------
        rows : ndarray of integers or floats, shape (n, ...)

        Raises
        ------
        RowError
            If a number does not fit; it names the row.
        TypeError
            If the kinds of numbers do not go together, as floats in an integer table.
        """
        if rows.dtype == self.dtype:
            return rows
        if not (rows.dtype.kind in "iu" or (is_float(rows.dtype) and is_float(self.dtype))):
            raise TypeError(f"rows are {rows.dtype}, which a table of {self.dtype} cannot hold")
        if _always_exact(rows.dtype, self.dtype):
            with np.errstate(invalid="ignore"):
                return rows.astype(self.dtype)
        result = np.empty(rows.shape, self.dtype)
        # In pieces that stay in the processor's cache, between what needs several passes.
        step = max(PIECE_BYTES * len(rows) // max(rows.nbytes, 1), 1)
        for start in range(0, len(rows), step):
            piece = rows[start : start + step]
            # What overflows is looked for below; nan, also a signalling one, is like any number.
            with np.errstate(over="ignore", invalid="ignore"):
                result[start : start + step] = self._cast_piece(piece, start)
        return result

    def facts(self) -> dict[str, Any]:
        """Return what a store's ``source`` says about this; nothing if all numbers were equal."""
        if not self.largest_error and not self.overflow_count:
            return {}
        return {
            "cast_from": str(self._origin),
            "largest_cast_error": self.largest_error,
            "overflow_count": self.overflow_count,
        }

    def _cast_piece(self, rows: NDArray[Any], start: int) -> NDArray[Any]:
        cast = _round(rows, self.dtype)
        if not is_float(self.dtype):
            self._refuse((cast != rows) | ((cast < 0) != (rows < 0)), rows, start)
            return cast
        # A difference of two wider numbers, which is exact or nearly so; nan beside nan and inf.
        wide = np.longdouble if rows.dtype.kind in "iu" else np.result_type(rows.dtype, np.float32)
        errors = np.abs(np.subtract(cast.astype(wide), rows, dtype=wide))
        largest = float(np.fmax.reduce(errors, axis=None, initial=0))
        if np.isinf(largest):
            lost = np.isinf(cast) & ~np.isinf(rows)
            if self._on_overflow == "error":
                self._refuse(lost, rows, start)
            self.overflow_count += int(np.count_nonzero(lost))
            largest = float(np.fmax.reduce(errors, axis=None, initial=0, where=~lost))
        if largest or self.overflow_count:
            self._origin = rows.dtype
        self.largest_error = max(self.largest_error, largest)
        return cast

    def _refuse(self, lost: NDArray[np.bool_], rows: NDArray[Any], start: int) -> None:
        if not lost.any():
            return
        where = tuple(np.argwhere(lost)[0].tolist())
        remedy = "choose a wider dtype"
        if is_float(self.dtype):
            remedy += (
                ', or have it become infinite with on_overflow="inf" (--on-overflow inf on the '
                "command line)"
            )
        raise RowError(
            f"the value {rows[where]} is out of the range of {self.dtype}; {remedy}",
            start + where[0],
        )


def _always_exact(origin: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Say whether every number of one dtype is one of the other, too."""
    # To NumPy, 64-bit integers go safely into float64, which has only 53 bits for them.
    if origin.kind in "iu" and origin.itemsize == 8 and is_float(dtype):
        return False
    return bool(np.can_cast(origin, dtype))


def _round(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Cast, rounding once."""
    if not is_extension(dtype) or rows.dtype.itemsize < 4 or rows.dtype == np.float32:
        return rows.astype(dtype)
    # ml_dtypes rounds these to float32 first, and that to bfloat16, which may end up a number too
    # far. Rounding to odd in the first step makes the second see which side of the middle it is on.
    exact = rows.astype(np.float64)
    single = exact.astype(np.float32)
    bits = single.view(np.uint32)
    back = single.astype(np.float64)
    bits -= np.abs(back) > np.abs(exact)
    bits |= (back != exact) & ~np.isnan(exact)
    return single.astype(dtype)
