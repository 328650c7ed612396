"""Extents and columns: the places of a table's records in files.

A record is the bytes of one row in one column. An extent is consecutive records in one file. A
column is a list of extents; its rows are numbered through them:

>>> column = Column((Extent("part-0", 8, 100), Extent("part-1", 8, 50)), record_bytes=12)
>>> column.rows
150

An extent without a file is a gap: rows that no id has, such as those after the last row of a
partition, or rows that another machine holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive records in one file.

    Parameters
    ----------
    file : str
        Name of the file, as `embstore.table.protocols.Files` knows it; ``""`` for a gap, rows
        without records.
    offset : int
        First byte of the first record in the file.
    rows : int
        Number of records.

    Raises
    ------
    ValueError
        If a number is negative, or a gap has an offset.
    """

    file: str
    offset: int
    rows: int

    def __post_init__(self) -> None:
        if self.offset < 0 or self.rows < 0:
            raise ValueError(
                f"an extent of {self.file!r} must have rows and an offset of 0 or more, not "
                f"{self.rows} rows at byte {self.offset}"
            )
        if not self.file and self.offset:
            raise ValueError(f"a gap has no file, so its offset must be 0, not {self.offset}")


@dataclass(frozen=True, slots=True)
class InnerChunks:
    """The division of compressed extents: the same number of rows is encoded together each time.

    Parameters
    ----------
    rows : int
        Rows in an inner chunk, a power of two that divides those of every extent.
    codec : str
        Their codec, a name of `embstore.formats.own.compression`.
    """

    rows: int
    codec: str


@dataclass(frozen=True, slots=True)
class Column:
    """The extents that hold one field of every row.

    Parameters
    ----------
    extents : tuple of Extent
        In the order of the column's rows.
    record_bytes : int
        Size of a record.
    rows_per_record : int
        Rows that share a record; 1, except for scales that apply to a block of rows.
    inner_chunks : InnerChunks, optional
        How the records of an extent are compressed. Each extent is then a whole file, a shard: its
        index tells where the inner chunks are.

    Raises
    ------
    ValueError
        If ``record_bytes`` or ``rows_per_record`` is less than 1.
    """

    extents: tuple[Extent, ...]
    record_bytes: int
    rows_per_record: int = 1
    inner_chunks: InnerChunks | None = None

    def __post_init__(self) -> None:
        if self.record_bytes < 1:
            raise ValueError(f"record_bytes must be 1 or more, not {self.record_bytes}")
        if self.rows_per_record < 1:
            raise ValueError(f"rows_per_record must be 1 or more, not {self.rows_per_record}")

    @property
    def rows(self) -> int:
        """Number of records, including those of gaps."""
        return sum(extent.rows for extent in self.extents)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all records in files."""
        return sum(extent.rows for extent in self.extents if extent.file) * self.record_bytes

    def first_rows(self) -> list[int]:
        """Return the first row of each extent, followed by the number of rows.

        Examples
        --------
        >>> Column((Extent("a", 0, 3), Extent("", 0, 1), Extent("b", 0, 4)), 8).first_rows()
        [0, 3, 4, 8]
        """
        return list(accumulate((extent.rows for extent in self.extents), initial=0))
