"""Which numbers can a table hold? NumPy's integers and floats, and bfloat16.

Neither NumPy nor zarr-python knows bfloat16. `ml_dtypes` gives NumPy the type; it is imported only
where a table has it. On disk such an array is of ``uint16``, the numbers' bits, so that any Zarr
reader opens it; `embstore.formats.own.spec` specifies that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

BFLOAT16: Final = "bfloat16"
STORABLE: Final = (
    *("float16", BFLOAT16, "float32", "float64"),
    *("int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
)


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``np.dtype(dtype)``, where ``"bfloat16"`` is known, too.

    Raises
    ------
    TypeError
        If there is no such dtype.

    Examples
    --------
    >>> as_dtype("bfloat16").itemsize
    2
    """
    if isinstance(dtype, str) and dtype == BFLOAT16:
        import ml_dtypes  # noqa: PLC0415

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(dtype)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Say whether numbers of this dtype are floats; NumPy's ``kind`` of bfloat16 is not "f"."""
    return dtype.kind == "f" or dtype.name == BFLOAT16


def has_masked(array: Any) -> bool:
    """Say whether this is one of NumPy's masked arrays, with a mask that hides a number of it.

    As a plain array, it would show what is hidden.
    """
    return isinstance(array, np.ma.MaskedArray) and bool(np.ma.is_masked(array))


def storage_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the Zarr array that holds numbers of ``dtype``, of the same size."""
    return np.dtype(np.uint16).newbyteorder("<") if dtype.name == BFLOAT16 else dtype


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 for the 16-bit floats, all of which it holds exactly; else ``dtype``.

    Numbers are parsed, printed and computed with as this.
    """
    return np.dtype(np.float32) if is_float(dtype) and dtype.itemsize == 2 else dtype


def is_storable(dtype: np.dtype[Any]) -> bool:
    """Return whether a table can hold numbers of this dtype, in either byte order."""
    return dtype.newbyteorder("=").name in STORABLE
