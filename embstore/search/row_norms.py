"""The norms of a table's rows: computed when a row is first seen, and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.norms import are_extreme, row_norms

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of more rows, norms are computed again in each search: they are to take 256 MiB of memory at most,
# and as much for partitions by ``mod``, whose norms lie apart.
MOST_KEPT = 1 << 26


class RowNorms:
    """L2 norms by id; many threads may ask for them.

    Parameters
    ----------
    rows : int
        Rows of the table.
    dtype : numpy.dtype
        Dtype of the norms.

    Attributes
    ----------
    have_extremes : bool
        Whether a norm so far is so large or small that products with its row may be wrong
        (`embstore.norms`).

    Examples
    --------
    >>> norms = RowNorms(5, np.dtype(np.float32))
    >>> norms.of(range(0, 4, 2), np.array([[3, 4], [6, 8]], np.float32))
    array([ 5., 10.], dtype=float32)
    """

    def __init__(self, rows: int, dtype: np.dtype[Any]) -> None:
        # A norm of -1 is not known yet.
        self._kept = np.full(rows, -1, dtype) if rows <= MOST_KEPT else None
        self._are_known = False
        self._of_partitions: dict[int, NDArray[Any]] = {}
        self.have_extremes = False

    @property
    def are_kept(self) -> bool:
        """Whether a later search finds them."""
        return self._kept is not None

    def known(self) -> NDArray[Any] | None:
        """Return all norms, if they are known."""
        if not self._are_known and self._kept is not None:
            self._are_known = not (self._kept < 0).any()
        return self._kept if self._are_known else None

    def of(self, ids: range | NDArray[np.int64], rows: NDArray[Any]) -> NDArray[Any]:
        """Return the norms of ids, whose rows are given, shape (n,)."""
        if self._are_known and isinstance(ids, range) and ids.step > 1:
            return self._of_partition(ids)
        where = slice(ids.start, ids.stop, ids.step) if isinstance(ids, range) else ids
        if self._kept is not None:
            norms: NDArray[Any] = self._kept[where]
            if self._are_known or not (norms < 0).any():
                return norms
        found = row_norms(rows)
        if (are_extreme(found) & (found != 0)).any():
            self.have_extremes = True  # Before another thread can see such a norm.
        if self._kept is not None:
            # Another thread may compute the same norms; both write the same numbers.
            self._kept[where] = found
        return found

    def _of_partition(self, ids: range) -> NDArray[Any]:
        """Return the norms of ids at equal distances, side by side, once all are known."""
        count = ids.step
        if count not in self._of_partitions:
            assert self._kept is not None  # They would not be known.
            padded = np.pad(self._kept, (0, -len(self._kept) % count))
            self._of_partitions[count] = np.ascontiguousarray(padded.reshape(-1, count).T)
        norms: NDArray[Any] = self._of_partitions[count][ids.start % count]
        return norms[ids.start // count :][: len(ids)]
