"""Plain rows as numbers of another dtype: each number is rounded once, to the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.encodings.casting import rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.encodings.plain import Plain


@dataclass(frozen=True, slots=True)
class Cast:
    """The encoding of plain rows that decodes to any float dtype.

    A number that is too large for the dtype becomes infinite, as in ``ndarray.astype``.

    Parameters
    ----------
    plain : Plain
        The encoding of the rows.

    Examples
    --------
    >>> from embstore.encodings.plain import Plain
    >>> out = np.empty((1, 2), np.float16)
    >>> Cast(Plain(np.dtype(np.float32), (2,))).decode(
    ...     (np.array([[0.5, 1e9]], np.float32).view(np.uint8),), out
    ... )
    >>> out.tolist()
    [[0.5, inf]]
    """

    plain: Plain

    @property
    def name(self) -> str:
        """Name of the encoding."""
        return self.plain.name

    @property
    def record_bytes(self) -> int:
        """Size of a record."""
        return self.plain.record_bytes

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self.plain.row_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the numbers as they are stored."""
        return self.plain.dtype

    def decode(self, records: tuple[NDArray[np.uint8], ...], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows; see `embstore.table.protocols.Encoding`."""
        (numbers,) = records
        rows = self.plain.view(numbers)
        with np.errstate(over="ignore", invalid="ignore"):
            out[...] = rounded(rows, out.dtype)
