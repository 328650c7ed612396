"""Groups: scales or zero points, one for some consecutive values of a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from embstore.encodings.codes import CODES, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Persistent: the names stand in manifests. The sizes are in bytes.
SCALE_DTYPES: Final = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e8m0fnu": 1,
    "float8_e4m3fn": 1,
}
ZERO_DTYPES: Final = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "int32": 4,
}
_SIZES: Final = SCALE_DTYPES | ZERO_DTYPES


@dataclass(frozen=True, slots=True)
class Groups:
    """Scales or zero points of a row, one for each group of consecutive values.

    Parameters
    ----------
    dtype : str
        Their dtype: a name of `SCALE_DTYPES`; of zero points, one of `ZERO_DTYPES`.
    count : int
        Groups in a row.
    values : int
        Values in a group, at least 1; the last one of a row may have fewer.

    Raises
    ------
    ValueError
        If the dtype is unknown, or a number is too small.

    Examples
    --------
    >>> Groups("float8_e8m0fnu", 3, 32).record_bytes
    3
    """

    dtype: str
    count: int
    values: int

    def __post_init__(self) -> None:
        if self.dtype not in _SIZES:
            raise ValueError(f"the dtype is {self.dtype!r}; expected one of {', '.join(_SIZES)}")
        if self.values < 1 or self.count < 0:
            raise ValueError(f"{self.count} groups of {self.values} values are not possible")

    @property
    def record_bytes(self) -> int:
        """Size of a row's scales."""
        return self.count * _SIZES[self.dtype]

    def read(self, field: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the numbers of rows.

        Parameters
        ----------
        field : ndarray of uint8, shape (n, record_bytes)
            With any strides between rows.

        Returns
        -------
        ndarray of float32, shape (n, count)
            Maybe of the same memory.
        """
        if self.dtype == "float32":
            single = field.view(np.float32)
            return single if single.flags.aligned else single.copy()
        if self.dtype in CODES:
            return numbers(self.dtype).take(field, mode="clip")
        if self.dtype == "bfloat16":
            return _bfloat16_numbers().take(field.view(np.uint16), mode="clip")
        return field.view(self.dtype).astype(np.float32)


@cache
def _bfloat16_numbers() -> NDArray[np.float32]:
    """Return the number of each bfloat16, the upper half of a float32, shape (65536,)."""
    return np.left_shift(np.arange(1 << 16, dtype=np.uint32), 16).view(np.float32)


def apply(
    operation: np.ufunc,
    rows: NDArray[np.float32],
    few: NDArray[np.float32],
    values: int,
    out: NDArray[np.float32],
) -> None:
    """Combine each value of rows with the number of its group.

    Parameters
    ----------
    operation : ufunc
        ``np.multiply``, for example.
    rows : ndarray of float32, shape (n, width), C-contiguous
    few : ndarray of float32, shape (n, count)
    values : int
        Values in a group.
    out : ndarray of float32, shape (n, width), C-contiguous
        Filled with the results. It may be ``rows``.

    Examples
    --------
    >>> rows = np.ones((1, 5), np.float32)
    >>> apply(np.multiply, rows, np.array([[2, 3]], np.float32), 3, rows)
    >>> rows.tolist()
    [[2.0, 2.0, 2.0, 3.0, 3.0]]
    """
    if values == 1 or few.shape[1] == 1:
        operation(rows, few, out)
        return
    whole, rest = divmod(rows.shape[1], values)
    if whole:
        # Splitting an axis never copies.
        shape = len(rows), whole, values
        stop = whole * values
        body, filled = rows[:, :stop].reshape(shape), out[:, :stop].reshape(shape)
        operation(body, few[:, :whole, None], filled)
    if rest:
        operation(rows[:, -rest:], few[:, whole:], out[:, -rest:])


def reduce_groups(
    operation: np.ufunc, rows: NDArray[np.float32], values: int
) -> NDArray[np.float32]:
    """Reduce each group of values of rows to one number, shape (n, count).

    Examples
    --------
    >>> reduce_groups(np.maximum, np.array([[1, 2, 3]], np.float32), 2).tolist()
    [[2.0, 3.0]]
    """
    reduced: NDArray[np.float32] = operation.reduceat(
        rows, np.arange(0, rows.shape[1], values), axis=1
    )
    return reduced
