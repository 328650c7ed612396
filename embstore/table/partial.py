"""The numbering of a table of which only some partitions are here.

Ids stay those of the whole table. The rows of the other partitions are gaps in the columns: an
address there is not mapped, so every way from ids to rows goes through the checks of this class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from embstore.errors import IdRangeError
from embstore.table.numbering import Numbering, scalar

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHOWN_PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class PartialNumbering(Numbering):
    """A numbering that raises for ids of partitions that are elsewhere.

    Parameters
    ----------
    present : tuple of int
        The partitions that are here, ascending.

    Examples
    --------
    >>> numbering = PartialNumbering(13, 5, "mod", present=(0, 3))
    >>> numbering.rows_of(np.array([5, 3])).tolist()
    [1, 9]
    >>> numbering.row_of(7)
    Traceback (most recent call last):
      ...
    embstore.errors.IdRangeError: id 7 is in partition 2, which is not here: of 5 partitions, only \
0, 3 were opened
    """

    present: tuple[int, ...] = ()

    @property
    def present_rows(self) -> int:
        """Number of ids that are here."""
        return sum(map(self.row_count, self.present))

    # The base class is named, because a class with slots is made twice.
    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each id in the columns; as `Numbering.rows_of`.

        Raises
        ------
        IdRangeError
            If one is in a partition that is elsewhere.
        """
        partition, row = Numbering.locate(self, ids)
        is_here = _mask(self.partition_count, self.present)[partition]
        if not is_here.all():
            self._refuse(ids, partition, is_here)
        partition *= scalar(self.distance)
        partition += row
        return partition

    def row_of(self, number: int) -> int:
        """Return the row of one id in the columns; errors as `rows_of`."""
        partition, row = Numbering.locate_one(self, number)
        if not _mask(self.partition_count, self.present)[partition]:
            raise IdRangeError(f"id {number} is in partition {partition}, which {self._lacks()}")
        return partition * self.distance + row

    def row_ranges(self, start: int, stop: int) -> list[range]:
        """Return the rows of consecutive ids; as `Numbering.row_ranges`, errors as `rows_of`."""
        for partition, piece in Numbering.spread(self, start, stop):
            if not _mask(self.partition_count, self.present)[partition]:
                raise IdRangeError(
                    f"ids {start} to {stop - 1} cannot all be read: id {start + piece.start} is in "
                    f"partition {partition}, which {self._lacks()}"
                )
        return Numbering.row_ranges(self, start, stop)

    def _refuse(
        self,
        ids: NDArray[np.int64],
        partition: NDArray[np.int64],
        is_here: NDArray[np.bool_],
    ) -> None:
        first = int(np.flatnonzero(~is_here)[0])
        count = int(np.count_nonzero(~is_here))
        others = f" ({count} of the {ids.size} ids are elsewhere)" if count > 1 else ""
        raise IdRangeError(
            f"id {ids.reshape(-1)[first]} is in partition {partition.reshape(-1)[first]}, which "
            f"{self._lacks()}{others}"
        )

    def _lacks(self) -> str:
        shown = ", ".join(map(str, self.present[:_SHOWN_PARTITIONS]))
        more = ", ..." if len(self.present) > _SHOWN_PARTITIONS else ""
        return f"is not here: of {self.partition_count} partitions, only {shown}{more} were opened"


@lru_cache(maxsize=64)
def _mask(partition_count: int, present: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return whether each partition is here, shape (partition_count,)."""
    mask = np.zeros(partition_count, np.bool_)
    mask[list(present)] = True
    mask.flags.writeable = False
    return mask
