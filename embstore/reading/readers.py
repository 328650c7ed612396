"""The choice of a reader for the records of a table.

A plain table of one column is read by `MappedRecords` or `RangedRecords` itself. Other tables have
one of these for each column, behind `EncodedRecords`, which decodes. A compressed column is read by
`CompressedRecords`. Rows without numbers have no columns, and `NoRecords`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.encodings.opaque import Opaque
from embstore.encodings.plain import Plain
from embstore.errors import StoreMappingError
from embstore.reading.cached_readers import cached_records, cached_shards
from embstore.reading.compressed import CompressedRecords
from embstore.reading.decoded import DEFAULT_CACHE_BYTES
from embstore.reading.encoded import EncodedRecords
from embstore.reading.files import LocalFiles
from embstore.reading.mapping import can_map
from embstore.reading.memory import free_bytes
from embstore.reading.no_records import NoRecords
from embstore.reading.ranged import RangedRecords
from embstore.reading.resident_limit import MIN_RESIDENT_BYTES, ResidentLimit
from embstore.reading.shards import MappedShards, RangedShards
from embstore.reading.warmth import Warmth
from embstore.settle import size_text
from embstore.table.addresses import HUGE_PAGE_BYTES, lay_out
from embstore.wording import option, parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from embstore.progress import OnProgress
    from embstore.reading.compressed import AnyShards
    from embstore.reading.file_cache import FileCache
    from embstore.reading.forms import AnyRecords
    from embstore.reading.mapped import MappedRecords
    from embstore.table.extents import Column
    from embstore.table.protocols import Files
    from embstore.table.tables import Table

# Rows that have no copies are read through the page cache, which needs some memory, too.
LEFT_TO_PAGES = 100 << 20


def _unmapped_cache() -> str:
    return (
        f"{parameter('row_cache')} keeps copies of rows in front of a mapping, but "
        f"{option('reader', 'chunked')} maps nothing, nor can some systems, nor are files at a URL "
        f"mapped; leave {parameter('row_cache')} out"
    )


def check_row_cache(cache: int, limit: int | None, reader: str, *, preload: bool) -> None:
    """Raise ValueError unless there may be a row cache of ``cache`` bytes.

    The other parameters are those of `read_records`.
    """
    if reader == "chunked":
        raise ValueError(_unmapped_cache())
    if preload:
        raise ValueError(
            f"{option('preload', True)} keeps all rows in RAM, and {option('row_cache')} would "
            "copy some; leave out one of the two"
        )
    if limit is not None and limit - cache < MIN_RESIDENT_BYTES:
        raise ValueError(
            f"{parameter('row_cache')} counts toward {parameter('resident_limit')}, of which "
            f"{size_text(MIN_RESIDENT_BYTES)} or more must remain; {parameter('resident_limit')} "
            f"is {size_text(limit)}, and {parameter('row_cache')} {size_text(cache)}"
        )
    free = free_bytes()
    if free is not None and cache > free - LEFT_TO_PAGES:
        raise ValueError(
            f"{parameter('row_cache')} must leave {size_text(LEFT_TO_PAGES)} of memory to the page "
            f"cache; it is {size_text(cache)}, and {free >> 20}MiB are free, on this machine or in "
            "a control group of this process"
        )


def is_direct(table: Table) -> bool:
    """Say whether the records of a table are its rows, in one column."""
    first, *others = table.columns
    is_rows = isinstance(table.encoding, Plain | Opaque)
    return is_rows and not others and first.rows_per_record == 1


def read_records(
    table: Table,
    files: Files,
    *,
    reader: str = "auto",
    resident_limit: int | None = None,
    row_cache: int | None = None,
    preload: bool = False,
    progress: OnProgress | None = None,
    cache: FileCache | None = None,
) -> AnyRecords:
    """Return a reader of the records of a table.

    Parameters
    ----------
    table, files
        The table, and its files.
    reader, resident_limit, row_cache, preload, progress
        As in `embstore.open`. The columns share the limit; the row cache keeps copies of the
        records of the first column, as they are stored.
    cache : FileCache, optional
        The cache of a remote store.

    Raises
    ------
    ValueError
        If ``row_cache`` cannot be had, or rows are too long for it and ``resident_limit``.
    StoreCorruptError, StoreMappingError
        If files are missing or too short, or the system refuses a mapping that is asked for.
    """
    if not table.columns:
        return NoRecords(table.encoding)
    direct, encoding = is_direct(table), table.encoding

    def form(column: Column) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
        if direct:
            return encoding.dtype, encoding.row_shape
        return Opaque("", column.record_bytes).dtype, (column.record_bytes,)

    shares = [column.rows_per_record for column in table.columns]
    first = table.columns[0]
    is_mapped = reader != "chunked" and can_map() and isinstance(files, LocalFiles)
    if cache is not None:
        _check_cache(first, row_cache)
        if first.inner_chunks is None:
            cached = cached_records(table, files, cache, *form(first), resident_limit)
            if preload:
                cached.preload(progress)
            return cached
    if first.inner_chunks is not None:
        if preload:
            raise ValueError(
                f"{option('preload', True)} keeps rows in RAM as they are stored, but this store "
                f"is compressed; give {option('row_cache')} the memory for decoded rows, or build "
                "it again without compression"
            )
        packed = _compressed(
            first, files, *form(first), resident_limit, row_cache, is_mapped, cache, reader
        )
        return packed if direct else EncodedRecords([packed], shares, encoding)
    if not is_mapped and (reader != "mapped" or not isinstance(files, LocalFiles)):
        if row_cache is not None:
            raise ValueError(_unmapped_cache())
        ranged = [RangedRecords(column, files, *form(column)) for column in table.columns]
        return ranged[0] if direct else EncodedRecords(ranged, shares, encoding)
    assert isinstance(files, LocalFiles)
    cache_rows = 0
    if row_cache is not None:
        cache_rows = _cache_rows(table.columns[0], row_cache, resident_limit)
        resident_limit = None if resident_limit is None else resident_limit - row_cache
    forms = [form(column) for column in table.columns]
    needs_mapping = reader == "mapped" or preload or cache_rows > 0
    mapped = _mapped(table, files, forms, resident_limit, cache_rows, is_needed=needs_mapping)
    if mapped is None:
        return read_records(table, files, reader="chunked")
    records = mapped[0] if direct else EncodedRecords(mapped, shares, encoding)
    if preload:
        records.preload(progress)
    return records


def _check_cache(first: Column, row_cache: int | None) -> None:
    """Raise ValueError unless files of a cache can be read, and the row cache goes with them."""
    if not can_map():
        raise ValueError(
            f"{parameter('cache_dir')} keeps files that are mapped, but this system cannot map "
            "them; leave it out"
        )
    if row_cache is not None and first.inner_chunks is None:
        raise ValueError(
            f"{parameter('row_cache')} keeps copies of rows of files that stay, but those in "
            f"{parameter('cache_dir')} come and go; leave one of the two out"
        )


def _limit_of(columns: Sequence[Column], limit: int | None) -> ResidentLimit | None:
    """Return the limit on what is resident of columns; None where all of them are within it."""
    if limit is None:
        return None
    sizes = (lay_out(column).size_bytes for column in columns)
    if sum(column.stored_bytes for column in columns) <= limit and sum(sizes) <= limit:
        return None
    return ResidentLimit(limit)


def _mapped(
    table: Table,
    files: LocalFiles,
    forms: list[tuple[np.dtype[np.generic], tuple[int, ...]]],
    limit_bytes: int | None,
    cache_rows: int,
    *,
    is_needed: bool,
) -> list[MappedRecords] | None:
    """Return the readers of mapped columns; None if the system refuses and it is not needed."""
    # Imported here because it needs modules that are missing on some systems.
    from embstore.reading.mapped import MappedRecords  # noqa: PLC0415

    limit = _limit_of(table.columns, limit_bytes)
    warmth = Warmth()
    try:
        return [
            MappedRecords(
                column,
                files,
                *form,
                limit=limit,
                cache_rows=0 if at else cache_rows,
                warmth=warmth,
            )
            for at, (column, form) in enumerate(zip(table.columns, forms, strict=True))
        ]
    except StoreMappingError:
        if is_needed:
            raise
        return None


def _compressed(
    column: Column,
    files: Files,
    dtype: np.dtype[np.generic],
    row_shape: tuple[int, ...],
    limit: int | None,
    row_cache: int | None,
    is_mapped: bool,
    cache: FileCache | None,
    reader: str,
) -> CompressedRecords:
    """Return the reader of a compressed column."""
    assert column.inner_chunks is not None
    inner_bytes = column.inner_chunks.rows * column.record_bytes
    if row_cache is not None and row_cache < inner_bytes:
        raise ValueError(
            f"{parameter('row_cache')} keeps decoded inner chunks of this store, of {inner_bytes} "
            f"bytes each; it is {row_cache} bytes"
        )
    if row_cache is None:
        row_cache = DEFAULT_CACHE_BYTES
        row_cache = row_cache if limit is None else min(row_cache, limit // 4)
    shards: AnyShards | None = None
    left = None if limit is None else limit - row_cache
    if cache is not None:
        shards = cached_shards(column, files, cache, left)
    elif is_mapped and isinstance(files, LocalFiles):
        try:
            shards = MappedShards(column, files, resident_limit=left)
        except StoreMappingError:
            if reader == "mapped":
                raise
    if shards is None:
        shards = RangedShards(column, files)
    return CompressedRecords(column, shards, dtype, row_shape, cache_bytes=row_cache)


def _cache_rows(column: Column, row_cache: int, limit: int | None) -> int:
    """Return how many records of a column a row cache of some bytes holds."""
    from embstore.reading.row_cache.cache import slots_within  # noqa: PLC0415  # As above.

    if limit is not None and column.record_bytes > HUGE_PAGE_BYTES:
        raise ValueError(
            f"rows of {column.record_bytes} bytes are too long for both {parameter('row_cache')} "
            f"and {parameter('resident_limit')}, which map 2MiB at a time; leave one of the two out"
        )
    gaps = sum(extent.rows for extent in column.extents if not extent.file)
    return slots_within(row_cache, column.rows, column.record_bytes, gap_count=gaps)
