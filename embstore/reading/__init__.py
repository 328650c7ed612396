"""How do rows get from disk into an array? Two readers behind one protocol.

`embstore.reading.mapped` takes them out of one address space over all chunk files; it is the fast
one. `embstore.reading.chunked` fetches chunk after chunk through zarr; it works wherever zarr does.
Both give the same rows, to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from embstore.reading.stats import StatsCounter
    from embstore.table.numbering import PhysicalRows

    # Gets the ids of consecutive rows of a partition, and these rows, which it must not change.
    Visit = Callable[[range, NDArray[Any]], None]


class Reader(Protocol):
    """Rows by id.

    Attributes
    ----------
    numbering : PhysicalRows
        How it numbers rows.
    page_bytes : int or None
        The least that it reads: a page of this size, or None for whole chunks.
    stats : StatsCounter
        What it has read.
    """

    numbering: PhysicalRows
    page_bytes: int | None
    stats: StatsCounter

    def read(self, ids: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows.

        Parameters
        ----------
        ids : ndarray of int64, any shape
            Ids, in request order; in range.
        out : ndarray, shape ``ids.shape + row_shape``, C-contiguous
            Where the rows go.
        """
        ...

    def read_one(self, number: int) -> NDArray[Any]:
        """Return the row of one id, shape ``row_shape``."""
        ...

    def prefetch(self, ids: NDArray[np.int64]) -> None:
        """Start reading the rows of ids, shape (n,), and return; a reader need not do anything."""
        ...

    def scan(self, start: int, stop: int, visit: Visit) -> None:
        """Show the rows of the ids ``start .. stop - 1``; see `embstore.EmbeddingStore.scan`."""
        ...
