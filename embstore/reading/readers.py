"""The choice of a reader for the records of a table.

A plain table of one column is read by `MappedRecords` or `RangedRecords` itself. Other tables have
one of these for each column, behind `EncodedRecords`, which decodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.encodings.opaque import Opaque
from embstore.encodings.plain import Plain
from embstore.reading.encoded import EncodedRecords
from embstore.reading.mapping import can_map
from embstore.reading.ranged import RangedRecords
from embstore.reading.residence import ResidentLimit
from embstore.reading.warmth import Warmth
from embstore.table.addresses import HUGE_PAGE_BYTES

if TYPE_CHECKING:
    import numpy as np

    from embstore.progress import OnProgress
    from embstore.reading.files import ForeignFiles, StoreFiles
    from embstore.reading.mapped import MappedRecords
    from embstore.table.extents import Column
    from embstore.table.tables import Table

UNMAPPED_CACHE = (
    'row_cache keeps copies of rows in front of a mapping, but reader="chunked" maps nothing, and '
    "some systems cannot; leave row_cache out"
)


def is_direct(table: Table) -> bool:
    """Say whether the records of a table are its rows, in one column."""
    first, *others = table.columns
    is_rows = isinstance(table.encoding, Plain | Opaque)
    return is_rows and not others and first.rows_per_record == 1


def read_records(
    table: Table,
    files: StoreFiles | ForeignFiles,
    *,
    reader: str = "auto",
    resident_limit: int | None = None,
    row_cache: int | None = None,
    preload: bool = False,
    progress: OnProgress | None = None,
) -> MappedRecords | RangedRecords | EncodedRecords:
    """Return a reader of the records of a table.

    Parameters
    ----------
    table, files
        The table, and its files.
    reader, resident_limit, row_cache, preload, progress
        As in `embstore.open`. The columns share the limit; the row cache keeps copies of the
        records of the first column, as they are stored.

    Raises
    ------
    ValueError
        If ``row_cache`` cannot be had, or rows are too long for it and ``resident_limit``.
    StoreCorruptError, StoreMappingError
        If files are missing or too short, or the system refuses to map them.
    """
    direct, encoding = is_direct(table), table.encoding

    def form(column: Column) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
        if direct:
            return encoding.dtype, encoding.row_shape
        return Opaque("", column.record_bytes).dtype, (column.record_bytes,)

    shares = [column.rows_per_record for column in table.columns]
    if reader == "chunked" or (reader == "auto" and not can_map()):
        if row_cache is not None:
            raise ValueError(UNMAPPED_CACHE)
        ranged = [RangedRecords(column, files, *form(column)) for column in table.columns]
        return ranged[0] if direct else EncodedRecords(ranged, shares, encoding)
    # Imported here because it needs modules that are missing on some systems.
    from embstore.reading.mapped import MappedRecords  # noqa: PLC0415

    cache_rows = 0
    if row_cache is not None:
        cache_rows = _cache_rows(table.columns[0], row_cache, resident_limit)
        resident_limit = None if resident_limit is None else resident_limit - row_cache
    limit = None if resident_limit is None else ResidentLimit(resident_limit)
    warmth = Warmth()
    mapped = [
        MappedRecords(
            column,
            files,
            *form(column),
            limit=limit,
            cache_rows=0 if at else cache_rows,
            warmth=warmth,
        )
        for at, column in enumerate(table.columns)
    ]
    records = mapped[0] if direct else EncodedRecords(mapped, shares, encoding)
    if preload:
        records.preload(progress)
    return records


def _cache_rows(column: Column, row_cache: int, limit: int | None) -> int:
    """Return how many records of a column a row cache of some bytes holds."""
    from embstore.reading.row_cache.cache import slots_within  # noqa: PLC0415  # As above.

    if limit is not None and column.record_bytes > HUGE_PAGE_BYTES:
        raise ValueError(
            f"rows of {column.record_bytes} bytes are too long for both row_cache and "
            "resident_limit, which map 2MiB at a time; leave one of the two out"
        )
    return slots_within(row_cache, column.first_rows()[-1], column.record_bytes)
