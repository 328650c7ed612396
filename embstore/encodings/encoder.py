"""Encoding of rows as scaled codes, and an account of what the rounding cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embstore.encodings.casting import Caster
from embstore.errors import RowError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.encodings.scaled import Scaled

# Numbers that are encoded at a time: they stay in the processor's cache over several passes.
PIECE_VALUES: Final = 1 << 16


class Encoder:
    """Encodes batches of rows, and keeps account of the rounding.

    Parameters
    ----------
    encoding : Scaled
        With a scale for each group, and all fields in one record.

    Attributes
    ----------
    largest_error : float
        The largest difference between a number and its decoded one; 0.0 while all are equal.

    Examples
    --------
    >>> from embstore.encodings.named import parse_encoding
    >>> encoder = Encoder(parse_encoding("int8", (3,)))
    >>> encoder.encode(np.array([[1.27, 0.5, -0.004]])).tolist()
    [[127, 50, 0, 11, 215, 35, 60]]
    >>> {name: round(number, 5) for name, number in encoder.facts().items()}
    {'largest_encoding_error': 0.004, 'mean_encoding_error': 0.00133, 'mean_cosine': 1.0,
     'smallest_cosine': 1.0}
    """

    def __init__(self, encoding: Scaled) -> None:
        self.encoding = encoding
        self.largest_error = 0.0
        self._sum_of_errors = 0.0
        self._number_count = 0
        self._sum_of_cosines = 0.0
        self._smallest_cosine = 1.0
        self._cosine_count = 0
        self._caster = Caster(np.dtype(np.float32), None)

    def encode(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the records of rows.

        Parameters
        ----------
        rows : ndarray of integers or floats, shape (n, *row_shape)

        Returns
        -------
        ndarray of uint8, shape (n, record_bytes)

        Raises
        ------
        RowError
            If a number is out of the range of float32, or is nan or inf and the codes have none;
            it names the row.
        """
        rows = rows.reshape(len(rows), self.encoding.values)
        records = np.empty((len(rows), self.encoding.record_bytes), np.uint8)
        step = max(PIECE_VALUES // max(self.encoding.values, 1), 1)
        for first in range(0, len(rows), step):
            piece = rows[first : first + step]
            try:
                single = self._caster.cast(piece)
                made = self.encoding.encode(single)
            except RowError as error:
                raise RowError(error.problem, error.position + first) from None
            records[first : first + step] = made
            decoded = np.empty(single.shape, np.float32)
            self.encoding.decode((made,), decoded.reshape(-1, *self.encoding.row_shape))
            self._count(single, decoded)
        return records

    def facts(self) -> dict[str, Any]:
        """Return the account for a store's ``source``.

        ``largest_encoding_error`` and ``mean_encoding_error`` are differences of numbers, without
        nan and inf; ``mean_cosine`` and ``smallest_cosine`` are cosines of the angle between a row
        and its decoded one, without rows of zeros. Empty before the first row.
        """
        if not self._number_count:
            return {}
        cosines = {}
        if self._cosine_count:
            cosines = {
                "mean_cosine": self._sum_of_cosines / self._cosine_count,
                "smallest_cosine": self._smallest_cosine,
            }
        return {
            "largest_encoding_error": self.largest_error,
            "mean_encoding_error": self._sum_of_errors / self._number_count,
            **cosines,
        }

    def _count(self, rows: NDArray[np.float32], decoded: NDArray[np.float32]) -> None:
        # In float64, products of float32 are exact and neither overflow nor vanish.
        before, after = rows.astype(np.float64), decoded.astype(np.float64)
        with np.errstate(invalid="ignore"):
            errors = np.abs(before - after)
        total = float(errors.sum())
        if not math.isfinite(total):
            fine = np.isfinite(before)
            errors, before, after = (np.where(fine, part, 0) for part in (errors, before, after))
            total = float(errors.sum())
        self.largest_error = max(self.largest_error, float(errors.max(initial=0)))
        self._sum_of_errors += total
        self._number_count += errors.size
        norms = np.einsum("ij,ij->i", before, before) * np.einsum("ij,ij->i", after, after)
        some = norms > 0
        cosines = np.einsum("ij,ij->i", before, after)[some] / np.sqrt(norms[some])
        self._sum_of_cosines += float(cosines.sum())
        self._cosine_count += len(cosines)
        self._smallest_cosine = min(self._smallest_cosine, float(cosines.min(initial=1.0)))
