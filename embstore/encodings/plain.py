"""The plain encoding: a record is the row's numbers, little endian, in C order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plain:
    """The encoding of records that are the rows themselves.

    Parameters
    ----------
    dtype : numpy.dtype
        Dtype of the numbers, in native byte order.
    row_shape : tuple of int
        Shape of a row; ``()`` for scalars.

    Examples
    --------
    >>> encoding = Plain(np.dtype(np.float32), (2, 3))
    >>> encoding.record_bytes
    24
    """

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the encoding."""
        return "plain"

    @property
    def record_bytes(self) -> int:
        """Size of a record."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    def decode(self, records: tuple[NDArray[np.uint8], ...], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows; see `embstore.table.protocols.Encoding`."""
        (numbers,) = records
        out[...] = self.view(numbers)

    def view(self, records: NDArray[np.uint8]) -> NDArray[Any]:
        """Return records, shape (n, record_bytes), as rows; a copy only if they are misaligned.

        Examples
        --------
        >>> Plain(np.dtype(np.int16), ()).view(np.array([[1, 0], [2, 1]], np.uint8)).tolist()
        [1, 258]
        """
        rows = records.reshape(-1).view(self.dtype).reshape(len(records), *self.row_shape)
        return rows if rows.flags.aligned else rows.copy()
