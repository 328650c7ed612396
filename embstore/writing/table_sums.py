"""The sums of a store in progress, from which its fingerprint is made.

The background adds up most rows. While it is busy writing, or if the rows may change after the
call, the producer does it: it would only wait otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from embstore.formats.own.row_sums import RowSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.writing.disk.background import Background
    from embstore.writing.new_attributes import NewAttributes
    from embstore.writing.words.new_words import NewWords


class TableSums:
    """The sums of a store in progress.

    Parameters
    ----------
    background : Background
        The threads of the build.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._here, self._there = RowSums(), RowSums()  # By the producer, and by the background.

    def append(self, rows: NDArray[Any], start: int, *, copy: bool) -> None:
        """Add rows, shape (n, *row_shape), of the ids from ``start`` on.

        ``copy`` is whether they may change after the call.
        """
        ids = range(start, start + len(rows))
        if copy or self._background.is_busy:
            self._here.add(rows, ids)
        else:
            self._background.write(partial(self._there.add, rows, ids), rows.nbytes)

    def total(self) -> RowSums:
        """Return the sums of all rows, once the background has finished."""
        sums = RowSums()
        sums.merge(self._here)
        sums.merge(self._there)
        return sums

    def fingerprint(self, manifest: Manifest, words: NewWords, attributes: NewAttributes) -> str:
        """Return the fingerprint of the table, once the background has finished."""
        sums = self.total()
        sums.merge(attributes.sums)
        first = 0
        for hashes in words.hashes():
            sums.add_words(hashes, first)
            first += len(hashes)
        return sums.fingerprint(manifest.heading)
