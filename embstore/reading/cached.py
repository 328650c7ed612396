"""Records of a remote store through a cache: mapped where their files have come, else by range.

1. While every file is mapped, a lookup is that of a local store (`embstore.reading.mapped`), with a
   look at `Presence.token` before and after.
2. Otherwise, the rows are split: those in mapped extents are gathered, the others are read range by
   range. Both parts fill arrays of their own, so that nothing of a part that must be dropped is
   left in the result.
3. A file that costs less than the reads from it is brought first. Otherwise, the cache is told what
   was used, and what the other rows cost, so that it can bring whole files.
4. `guarded` is the short path of a local store between two looks at the token.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import RemoteError
from embstore.reading.file_cache import REQUEST_BYTES, or_from_disk
from embstore.reading.read_ahead import Later
from embstore.reading.results import as_out
from embstore.reading.short_path import NO_SHORT_PATH, ShortPath
from embstore.table.ids import as_ids
from embstore.table.row_functions import rows_function
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.progress import OnProgress
    from embstore.reading.encoded import EncodedRecords
    from embstore.reading.file_cache import Cache
    from embstore.reading.incore import Residency
    from embstore.reading.mapped import MappedRecords
    from embstore.reading.present import ExtentNumbers, Presence
    from embstore.reading.ranged import RangedRecords
    from embstore.reading.stats import LookupStats, StatsCounter
    from embstore.table.numbering import Numbering
    from embstore.table.plan import LookupPlan
    from embstore.table.protocols import VisitRecords

# Gathers that must be dropped before the whole lookup is read range by range.
MAX_DROPPED = 3


class CachedStats:
    """The counts of both readers, as a `StatsCounter` gives them.

    Parameters
    ----------
    warm, cold : StatsCounter
        Those of the mapping and of the reads by range.
    """

    def __init__(self, warm: StatsCounter, cold: StatsCounter) -> None:
        self._warm, self._cold = warm, cold
        self.split_lookups = 0  # Counted by both.

    def snapshot(self) -> LookupStats:
        """Return the sums so far."""
        warm, cold = self._warm.snapshot(), self._cold.snapshot()
        return replace(
            cold,
            lookups=warm.lookups + cold.lookups - self.split_lookups,
            rows=warm.rows + cold.rows,
            bytes_needed=warm.bytes_needed + cold.bytes_needed,
            bytes_read=warm.bytes_read + cold.bytes_read,
            cold_slices=warm.cold_slices + cold.cold_slices,
            warm_slices=warm.warm_slices + cold.warm_slices,
            seconds=warm.seconds + cold.seconds,
            file_cache_rows=warm.rows,
        )

    def add_wait(self, seconds: float) -> None:
        """Count one wait for rows that were still being read."""
        self._cold.add_wait(seconds)


class CachedRecords:
    """Records that are mapped where their files have come, and else read by range.

    Parameters
    ----------
    warm : MappedRecords or EncodedRecords
        The reader of what is mapped; it has its place for every extent.
    cold : RangedRecords or EncodedRecords
        The reader of everything, range by range.
    presence : Presence
        Which extents are mapped.
    numbers : ExtentNumbers
        Numbers the extents of rows.
    cache : Cache
        Brings files.
    stats : CachedStats, optional
        Shared by the forms of a lookup.

    Attributes
    ----------
    record_bytes : int
        Size of a record.
    decodes : bool
        Whether it gives rows, and not records.
    """

    mapped: Literal[False] = False
    cache = None  # No copies of rows.

    def __init__(
        self,
        warm: MappedRecords | EncodedRecords,
        cold: RangedRecords | EncodedRecords,
        presence: Presence,
        numbers: ExtentNumbers,
        cache: Cache,
        stats: CachedStats | None = None,
    ) -> None:
        self.warm_records, self.cold_records, self.presence = warm, cold, presence
        self._numbers, self.file_cache = numbers, cache
        self.stats = CachedStats(warm.stats, cold.stats) if stats is None else stats
        self.decodes = warm.decodes
        self.preloaded = False

    def like(
        self, warm: MappedRecords | EncodedRecords, cold: RangedRecords | EncodedRecords
    ) -> CachedRecords:
        """Return the same records in another form, given both readers of it."""
        of = self.presence, self._numbers, self.file_cache, self.stats
        return CachedRecords(warm, cold, *of)

    @property
    def record_bytes(self) -> int:
        """Size of a record."""
        size: int = self._columns(self.warm_records)[0].record_bytes
        return size

    def take_one(self, row: int) -> NDArray[Any]:
        """Return the record of one row, or the row, a new array."""
        rows = np.array([row])
        if token := self.presence.token:
            found = self.warm_records.take_one(row)
            if self.presence.token == token:
                return found
        extents = self._numbers.of(rows)
        self._bring_at_once(extents)
        version = self.presence.version
        if self._are_here(rows):
            found = self.warm_records.take_one(row)
            if self.presence.version == version:
                self._note(extents, None)
                return found
        self._note(extents, np.zeros(1, np.bool_))
        read = partial(self.cold_records.take_one, row)
        warm = partial(self.warm_records.take_one, row)
        return or_from_disk(read, warm, extents, self.presence, self.file_cache)

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`."""
        if token := self.presence.token:
            self.warm_records.take(rows, out)
            if self.presence.token == token:
                return
        if not len(rows):
            self.cold_records.take(rows, out)
            return
        extents = self._numbers.of(rows)
        self._bring_at_once(extents)
        for _ in range(MAX_DROPPED):
            version = self.presence.version
            here = self.presence.here.take(extents)
            if here.all():
                self.warm_records.take(rows, out)
                if self.presence.version == version:
                    self._note(extents, None)
                    return
            elif self._take_split(rows, extents, here, version, out):
                return
        self._note(extents, np.zeros(len(rows), np.bool_))
        self._take_cold(rows, extents, out)

    def _take_split(
        self,
        rows: NDArray[np.int64],
        extents: NDArray[np.int64],
        here: NDArray[np.bool_],
        version: int,
        out: NDArray[Any],
    ) -> bool:
        """Fill ``out`` from both readers; return False if the mapped part must be dropped."""
        at = np.flatnonzero(here)
        if len(at):
            some = np.empty((len(at), *out.shape[1:]), out.dtype)
            self.warm_records.take(rows[at], some)
            if self.presence.version != version:
                return False
            out[at] = some
            self.stats.split_lookups += 1
        at = np.flatnonzero(~here)
        target = out if len(at) == len(out) else np.empty((len(at), *out.shape[1:]), out.dtype)
        self._note(extents, here)
        self._take_cold(rows[at], extents[at], target)
        if target is not out:
            out[at] = target
        return True

    def _take_cold(
        self, rows: NDArray[np.int64], extents: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        """Fill ``out`` range by range or, if that fails, from files that are on the disk."""
        read = partial(self.cold_records.take, rows, out)
        warm = partial(self.warm_records.take, rows, out)
        or_from_disk(read, warm, extents, self.presence, self.file_cache)

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def announce_ranges(self, ranges: Sequence[range]) -> None:
        """Do nothing: only files that are all mapped are announced."""

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one.

        A visitor may keep what it gets, so it gets copies of what is mapped. A scan brings no
        files: it would push out those that lookups need.
        """
        version = self.presence.version
        mapped, others = self._split_ranges(ranges)

        def show(rows: range, records: NDArray[Any]) -> None:
            block = records if self.decodes else records.copy()
            if self.presence.version == version:
                visit(rows, block)
            else:
                self.cold_records.scan_ranges([rows], visit)

        if mapped:
            self.warm_records.scan_ranges(mapped, show)
        if others:
            self.cold_records.scan_ranges(others, visit)

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Bring the files of rows and read the rows; return how many are in memory."""
        rows = np.unique(rows)
        extents = self._numbers.of(rows)
        wanted = np.unique(extents)
        self.file_cache.bring(wanted.tolist())
        self.file_cache.used(wanted)
        here = rows[self.presence.here.take(extents)]
        return self.warm_records.warm(here, None) if len(here) else 0

    def preload(self, progress: OnProgress | None) -> None:
        """Bring all files, then read them into RAM.

        Raises
        ------
        RemoteError
            If the cache cannot hold them.
        """
        extents = np.flatnonzero(~self.presence.here)
        self.file_cache.bring(extents.tolist(), progress)
        if not self.presence.here.all():
            problem = (
                self.file_cache.counts().get("file_cache_problem") or "files are missing from it"
            )
            raise RemoteError(
                f"{option('preload', True)} keeps the whole table in the cache and in RAM, but "
                f"{problem}; make room or leave it out"
            )
        self.warm_records.preload(progress)
        self.preloaded = True

    def plan(self, rows: NDArray[np.int64], numbering: Numbering) -> LookupPlan:
        """Return the plan of a lookup of rows: of those that are not mapped, reads by range."""
        whole = self.cold_records.plan(rows, numbering)
        flat = rows.ravel()
        here = self.presence.here.take(self._numbers.of(flat))
        if not here.any():
            return whole
        some = self.cold_records.plan(flat[~here], numbering)
        return replace(
            some,
            row_count=whole.row_count,
            distinct_row_count=whole.distinct_row_count,
            partition_count=whole.partition_count,
            chunk_count=whole.chunk_count,
            bytes_needed=whole.bytes_needed,
            groups=whole.groups,
            file_cache_row_count=int(here.sum()),
        )

    def residency(self, rows: int) -> Residency:
        """Return how much of a table of some rows is in memory."""
        return self.warm_records.residency(rows)

    @property
    def ahead(self) -> CachedReadAhead:
        """Reads ahead of lookups."""
        return CachedReadAhead(self)

    def _are_here(self, rows: NDArray[np.int64]) -> bool:
        return bool(self.presence.here.take(self._numbers.of(rows)).all())

    def _note(self, extents: NDArray[np.int64], here: NDArray[np.bool_] | None) -> None:
        """Tell the cache what a lookup uses; without ``here``, all of it is mapped."""
        if here is None:
            self.file_cache.used(extents)
            self.presence.sampled()
            return
        self.file_cache.used(extents[here])
        self.file_cache.missed(*self._costs(extents[~here]))

    def _bring_at_once(self, extents: NDArray[np.int64]) -> None:
        """Bring the files that cost a lookup less than reading its records from them by range."""
        missing = extents[~self.presence.here.take(extents)]
        if len(missing):
            self.file_cache.bring_cheap(*self._costs(missing))

    def _costs(self, extents: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the distinct ones of some extents, and what reading from each costs, in bytes."""
        distinct, counts = np.unique(extents, return_counts=True)
        return distinct, counts.astype(np.float64) * (self.record_bytes + REQUEST_BYTES)

    def _split_ranges(self, ranges: Sequence[range]) -> tuple[list[range], list[range]]:
        """Cut ranges of rows into those that are mapped and the others."""
        found: tuple[list[range], list[range]] = [], []
        for rows in ranges:
            for part, here in self._parts(rows):
                found[not here].append(part)
        return found

    def _parts(self, rows: range) -> Iterator[tuple[range, bool]]:
        """Yield the parts of a range between changes from mapped to not, and whether it is."""
        if not len(rows):
            return
        here, bounds = self.presence.here.copy(), self._numbers.first_rows
        start = rows.start
        extent = int(bounds.searchsorted(start, "right")) - 1
        while start < rows.stop:
            is_here, stop = bool(here[extent]), start
            while stop < rows.stop and bool(here[extent]) == is_here:
                extent += 1
                stop = min(int(bounds[extent]), rows.stop)
            yield range(start, stop), is_here
            start = stop

    @staticmethod
    def _columns(records: Any) -> tuple[Any, ...]:
        columns: tuple[Any, ...] = getattr(records, "columns", (records,))
        return columns


class CachedReadAhead:
    """Reads ahead of lookups: of mapped rows as those of a local store, of others none.

    Parameters
    ----------
    records : CachedRecords
        The records.
    """

    def __init__(self, records: CachedRecords) -> None:
        self._records = records

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Announce a few mapped rows, and return the rest of the lookup."""
        records, presence = self._records, self._records.presence
        token = presence.token
        if not token:
            return Later(partial(records.take, rows), quick=False)
        warm = records.warm_records.ahead.later(rows)

        def take(out: NDArray[Any]) -> None:
            warm.take(out)
            if presence.token != token:
                records.take(rows, out)

        return Later(take, warm.quick)

    def fetch(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Return functions that read mapped rows into RAM, and wait."""
        here = self._records.presence.here.take(self._records._numbers.of(rows))
        return self._records.warm_records.ahead.fetch(rows[here])


def guarded(
    short: ShortPath,
    records: CachedRecords,
    numbering: Numbering,
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    others: tuple[str, ...],
) -> ShortPath:
    """Return the short path of mapped records, for while everything is mapped.

    Parameters
    ----------
    short : ShortPath
        That of ``records.warm_records``.
    records : CachedRecords
        The records, which serve the other lookups.
    numbering : Numbering
        The table's numbering.
    row_shape, dtype, others
        As of `embstore.reading.forms.Form`.
    """
    inner_one, inner_few, inner_warm = short.one, short.few, short.warm
    if inner_one is None or inner_few is None or inner_warm is None:
        return NO_SHORT_PATH
    presence, rows_of, row_of = records.presence, rows_function(numbering), numbering.row_of

    def one(number: int) -> NDArray[Any]:
        if token := presence.token:
            found = inner_one(number)
            if presence.token == token:
                return found
        return records.take_one(row_of(number))

    def few(ids: NDArray[np.int64], out: NDArray[Any] | None) -> NDArray[Any]:
        if token := presence.token:
            if out is not None and (ids.base is not None or out.base is not None):
                ids = ids.copy()  # `out` may overlap them, and they may be needed again.
            found = inner_few(ids, out)
            if presence.token == token:
                return found
        wide = as_ids(ids, numbering.rows)
        shape = wide.shape + row_shape
        filled = np.empty(shape, dtype) if out is None else as_out(out, shape, dtype, others)
        rows = rows_of(wide.flatten())  # A copy, for the same reason.
        records.take(rows, filled.reshape(len(rows), *row_shape))
        return filled

    def warm(ids: NDArray[np.int64]) -> NDArray[Any] | None:
        if token := presence.token:
            found = inner_warm(ids)
            if presence.token == token:
                return found
        return None

    return ShortPath(one, few, short.most, warm)
