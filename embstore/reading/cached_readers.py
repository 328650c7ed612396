"""Readers of remote stores through a cache: a reader of a mapping, and one by range, for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.encodings.opaque import Opaque
from embstore.encodings.plain import Plain
from embstore.reading.cached import CachedRecords
from embstore.reading.cached_shards import CachedShards
from embstore.reading.encoded import EncodedRecords
from embstore.reading.present import ExtentNumbers, Presence
from embstore.reading.ranged import RangedRecords
from embstore.reading.resident_limit import ResidentLimit
from embstore.reading.shards import MappedShards, RangedShards

if TYPE_CHECKING:
    import numpy as np

    from embstore.reading.file_cache import FileCache
    from embstore.table.extents import Column
    from embstore.table.tables import Table


def cached_records(
    table: Table,
    files: Any,
    cache: FileCache,
    dtype: np.dtype[np.generic],
    row_shape: tuple[int, ...],
    limit_bytes: int | None,
) -> CachedRecords:
    """Return the reader of a table of one column, not compressed.

    Parameters
    ----------
    table, files
        The table, and its files on an object store.
    cache : FileCache
        Their cache.
    dtype, row_shape
        Of a record, as the readers of a column return it.
    limit_bytes : int, optional
        The limit on what is resident of the mapping.
    """
    from embstore.reading.mapped import MappedRecords  # noqa: PLC0415  # Missing on some systems.
    from embstore.reading.mapping import places_of  # noqa: PLC0415

    (column,) = table.columns
    limit = None if limit_bytes is None else ResidentLimit(limit_bytes)
    mapped = MappedRecords(column, cache, dtype, row_shape, limit=limit, at_once=False)
    presence = Presence(mapped.slices.space, places_of(column, mapped.addresses))
    ranged = RangedRecords(column, files, dtype, row_shape)
    brings = cache.column([extent.file for extent in column.extents], presence)
    numbers = ExtentNumbers(column.first_rows())
    if isinstance(table.encoding, Plain | Opaque):
        return CachedRecords(mapped, ranged, presence, numbers, brings)
    warm = EncodedRecords([mapped], [column.rows_per_record], table.encoding)
    cold = EncodedRecords([ranged], [column.rows_per_record], table.encoding)
    return CachedRecords(warm, cold, presence, numbers, brings)


def cached_shards(
    column: Column, files: Any, cache: FileCache, limit_bytes: int | None
) -> CachedShards:
    """Return the shards of a compressed column."""
    ranged = RangedShards(column, files)
    mapped = MappedShards(
        column, cache, resident_limit=limit_bytes, layout=ranged.layout, at_once=False
    )
    presence = Presence(mapped.space, mapped.places)
    brings = cache.column([extent.file for extent in column.extents], presence)
    return CachedShards(mapped, ranged, presence, brings)
