"""Requests for pages of mappings: what an announcement asks the kernel to read.

Records that are neighbours share pages, and neighbouring pages are read together: so a request is a
run of pages, as long as the kernel reads at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.table.addresses import PAGE_BYTES
from embstore.table.plan import runs

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from embstore.reading.mapping import AddressSpace
    from embstore.table.plan import Runs

# The kernel reads at most the device's read-ahead of an announced range.
ANNOUNCED_BYTES = 128 << 10
ANNOUNCED_PAGES = ANNOUNCED_BYTES // PAGE_BYTES
# Rows of a cold slice, if each is on pages of its own. Its reads are all in flight at once, beside
# those of other threads' slices.
COLD_SLICE_ROWS = 128
# Most pages of a cold slice whose rows share pages: 4 MiB, and the ends of each run of them.
DENSE_SLICE_PAGES = (5 << 20) // PAGE_BYTES
# Rows for each request, at least, that make a slice dense.
DENSE_ROWS = 8


@dataclass(frozen=True, slots=True)
class Requests:
    """Runs of pages, in one mapping or several.

    Attributes
    ----------
    parts : tuple of (AddressSpace, Runs)
        The mappings, and the runs in each.
    """

    parts: tuple[tuple[AddressSpace, Runs], ...]

    @property
    def count(self) -> int:
        """Number of requests."""
        return sum(len(found) for _, found in self.parts)

    @property
    def page_count(self) -> int:
        """Number of pages."""
        return sum(int(found.counts.sum()) for _, found in self.parts)

    def announce(self) -> None:
        """Have the kernel start reading the pages that are not cached."""
        for space, found in self.parts:
            if len(found):
                space.announce(found.firsts * PAGE_BYTES, found.counts * PAGE_BYTES)


def requests_for(space: AddressSpace, offsets: NDArray[np.int64], record_bytes: int) -> Requests:
    """Return the requests for records at addresses, shape (n,), in any order."""
    if _are_neighbours(offsets, record_bytes):
        offsets, record_bytes = offsets[:1], len(offsets) * record_bytes
    found = runs(offsets, record_bytes, unit=PAGE_BYTES, max_run=ANNOUNCED_PAGES)
    return Requests(((space, found),))


def cold_slice_rows(
    spots: NDArray[np.int64],
    least_rows: int,
    requests_of: Callable[[NDArray[np.int64]], Requests],
) -> int:
    """Return the rows of each cold slice of a lookup.

    Rows that share pages make larger slices: a slice has a fixed cost, and a page that is in two
    slices is announced twice. Slices of half the lookup or less are tried, the largest first.

    Parameters
    ----------
    spots : ndarray of int64, shape (n,)
        The lookup. Its first rows tell how dense the others are.
    least_rows : int
        Rows of a slice whose rows share no pages.
    requests_of : callable
        Returns the requests for some spots.
    """
    rows = least_rows << max((len(spots) // (2 * least_rows)).bit_length() - 1, 0)
    while rows > least_rows:
        found = requests_of(spots[:rows])
        if found.page_count <= DENSE_SLICE_PAGES and found.count * DENSE_ROWS <= rows:
            return rows
        rows //= 2
    return least_rows


def _are_neighbours(offsets: NDArray[np.int64], record_bytes: int) -> bool:
    """Return whether each record follows the one before it."""
    # The ends settle nearly all other cases.
    if not len(offsets) or int(offsets[-1]) - int(offsets[0]) != (len(offsets) - 1) * record_bytes:
        return False
    return bool((offsets[1:] - offsets[:-1] == record_bytes).all())
