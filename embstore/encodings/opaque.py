"""The opaque encoding: rows of bytes, whose meaning only their name tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Opaque:
    """The encoding of records that are returned as they are stored.

    Parameters
    ----------
    name : str
        Name of what the bytes are, such as ``"IQ2_XS"``.
    record_bytes : int
        Size of a record.
    """

    name: str
    record_bytes: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of rows: uint8."""
        return np.dtype(np.uint8)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row: its bytes."""
        return (self.record_bytes,)

    def decode(self, records: tuple[NDArray[np.uint8], ...], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Encoding`."""
        (out[...],) = records
