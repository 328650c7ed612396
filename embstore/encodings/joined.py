"""Records side by side: the bytes of a row from all columns, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Joined:
    """The encoding of a row as the bytes of its records, one column after the other.

    Parameters
    ----------
    sizes : tuple of int
        Size of a record in each column.

    Examples
    --------
    >>> out = np.empty((1, 3), np.uint8)
    >>> Joined((2, 1)).decode((np.array([[1, 2]], np.uint8), np.array([[3]], np.uint8)), out)
    >>> out.tolist()
    [[1, 2, 3]]
    """

    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the encoding."""
        return "raw"

    @property
    def record_bytes(self) -> int:
        """Bytes of a row in all columns."""
        return sum(self.sizes)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row: its bytes."""
        return (self.record_bytes,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of rows: uint8."""
        return np.dtype(np.uint8)

    def decode(self, records: tuple[NDArray[np.uint8], ...], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Encoding`."""
        for some, start in zip(records, accumulate(self.sizes, initial=0), strict=False):
            out[:, start : start + some.shape[1]] = some
