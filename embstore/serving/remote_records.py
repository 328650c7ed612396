"""Records from servers: a lookup asks all that have its rows at once, and fills its result.

1. Ids are grouped by the servers that have their partitions (`Replicas`). A group that is too large
   for one request is cut into several.
2. One request is asked by the thread of the caller, without another thread. Several are shared with
   helper threads, which wait for other servers meanwhile.
3. Records are copied from each batch into their places, in request order.

Here, the rows of the column are the ids: servers have the partitions. Records come as they are
stored, and the client decodes them as a local store does; plain numbers come as they are.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from embstore.encodings.plain import Plain
from embstore.reading.gather import as_records
from embstore.reading.incore import Residency
from embstore.reading.read_ahead import Later, NoReadAhead
from embstore.reading.stats import StatsCounter
from embstore.reading.workers import together
from embstore.serving.protocol import Header
from embstore.serving.remote_plan import RemotePlan, RequestGroup
from embstore.serving.replies import Expected, records_of
from embstore.threads import LazyPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from embstore.serving.calls import Call, Calls
    from embstore.serving.replicas import Replicas
    from embstore.serving.served_table import ServedTable
    from embstore.table.protocols import VisitRecords
    from embstore.threads import Pool, Task

THREAD_COUNT = 32  # Of all connections: they wait for servers.
REQUEST_BYTES = 64 << 20  # Of rows: a failure costs no more than these.
SMALL_BYTES = 1 << 20  # Of rows: such requests are asked on streams that are kept.
SCAN_BYTES, SCANS_AHEAD = 4 << 20, 3
_ID_BYTES = 8

_pool = LazyPool(THREAD_COUNT, "embstore_servers")


def pool() -> Pool:
    """Return the threads that ask servers; without threads if none can be started."""
    return _pool.get()


class Group(NamedTuple):
    """Servers with the same partitions, and the most rows that they take in one request."""

    replicas: Replicas
    partitions: tuple[int, ...]
    most_rows: int


class Piece(NamedTuple):
    """One request: some ids, and their places in the result; consecutive ones are a slice."""

    group: Group
    ids: NDArray[np.int64]
    places: slice | NDArray[np.intp]


class RemoteRecords:
    """Records of a table that servers have.

    Parameters
    ----------
    table : ServedTable
        The table.
    groups : sequence of Group
        The servers of each partition; all partitions, each once.
    calls : Calls
        Begins calls, which bounds how long a lookup may take.

    Attributes
    ----------
    record_bytes : int
        Size of a record.
    stats : StatsCounter
        Counts of what was received.
    """

    mapped: Literal[False] = False
    decodes: Literal[False] = False
    cache = file_cache = None

    def __init__(self, table: ServedTable, groups: Sequence[Group], calls: Calls) -> None:
        self.record_bytes = table.encoding.record_bytes
        self.stats = StatsCounter(self.record_bytes)
        self._encoding, self._numbering = table.encoding, table.numbering
        self._groups, self.calls = tuple(groups), calls
        self._group_of = np.zeros(table.numbering.partition_count, np.uint16)
        for number, group in enumerate(groups):
            self._group_of[list(group.partitions)] = number
        is_plain = isinstance(table.encoding, Plain)
        self._header = Header("rows", raw=not is_plain, fingerprint=table.fingerprint)
        self._fingerprint = table.fingerprint

    def take_one(self, row: int) -> NDArray[Any]:
        """Return the record of one row, shape ``row_shape``."""
        out = np.empty((1, *self._encoding.row_shape), self._encoding.dtype)
        self.take(np.array([row]), out)
        record: NDArray[Any] = out[0]
        return record

    def take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` with records; see `embstore.table.protocols.Records`.

        Raises
        ------
        RemoteError
            If servers do not answer in time, or answer wrongly.
        """
        start = time.perf_counter()
        pieces = self._pieces(rows) if len(rows) else []
        if pieces:
            self._ask(pieces, as_records(out, self.record_bytes))
        size_bytes, seconds = len(rows) * self.record_bytes, time.perf_counter() - start
        self.stats.add(len(rows), size_bytes, len(pieces), 0, seconds)

    def warm(self, rows: NDArray[np.int64], counts: NDArray[np.float64] | None) -> int:
        """Do nothing, because nothing is kept in memory; return 0."""
        return 0

    def residency(self, rows: int) -> Residency:
        """Return that nothing of a table of some rows is kept in memory."""
        return Residency(table_bytes=rows * self.record_bytes)

    def plan(self, rows: NDArray[np.int64]) -> RemotePlan:
        """Return the plan of a lookup of rows, any shape."""
        ids = rows.ravel()
        pieces = self._pieces(ids) if len(ids) else []
        groups = []
        for group in dict.fromkeys(piece.group for piece in pieces):
            own = [piece.ids for piece in pieces if piece.group is group]
            touched = np.unique(self._numbering.locate(np.concatenate(own))[0])
            groups.append(
                RequestGroup(
                    group.replicas.addresses,
                    tuple(touched.tolist()),
                    sum(map(len, own)),
                    len(own),
                )
            )
        distinct = np.unique(ids).size
        return RemotePlan(
            row_count=ids.size,
            distinct_row_count=distinct,
            partition_count=sum(len(group.partitions) for group in groups),
            server_count=len(groups),
            request_count=len(pieces),
            bytes_needed=distinct * self.record_bytes,
            bytes_sent=ids.size * _ID_BYTES,
            bytes_received=ids.size * self.record_bytes,
            groups=tuple(groups),
        )

    @property
    def ahead(self) -> RemoteAhead:
        """Lookups that are asked ahead of their use."""
        return RemoteAhead(self, self.take)

    def fetches(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Return functions that have servers read rows ahead, and wait until they have."""
        distinct = np.unique(rows)
        call = self.calls.begin()
        pieces = self._pieces(distinct) if len(distinct) else []
        return [partial(self._fetch, call, piece) for piece in pieces]

    def _fetch(self, call: Call, piece: Piece) -> None:
        import pyarrow as pa  # noqa: PLC0415

        header = replace(self._header, operation="prefetch", raw=False)
        expected = Expected("ids", pa.int64(), 0, self._fingerprint)
        piece.group.replicas.ask(header, _payload(piece.ids), expected, _drop, call)

    def scan(self, first: int, stop: int, visit: VisitRecords) -> None:
        """Pass records to ``visit``; see `embstore.table.protocols.Records`."""
        self.scan_ranges([range(first, stop)], visit)

    def scan_ranges(self, ranges: Sequence[range], visit: VisitRecords) -> None:
        """Pass the records of several ranges to ``visit``, as `scan` does for one.

        Blocks are asked ahead. Each may take as long as a lookup.
        """
        step = max(SCAN_BYTES // self.record_bytes, 1)
        blocks = (
            rows[start : start + step] for rows in ranges for start in range(0, len(rows), step)
        )
        pool, coming = _pool.get(), deque[tuple[range, "Task[NDArray[np.uint8]]"]]()
        try:
            for block in blocks:
                coming.append((block, pool.submit(partial(self._block, block))))
                if len(coming) > SCANS_AHEAD:
                    self._show(pool, coming, visit)
            while coming:
                self._show(pool, coming, visit)
        finally:
            for _, task in coming:
                task.cancel()

    @staticmethod
    def _show(
        pool: Pool, coming: deque[tuple[range, Task[NDArray[np.uint8]]]], visit: VisitRecords
    ) -> None:
        rows, task = coming.popleft()
        visit(rows, pool.result(task))

    def _block(self, rows: range) -> NDArray[np.uint8]:
        """Return the records of consecutive rows, shape (n, record_bytes)."""
        out = np.empty((len(rows), self.record_bytes), np.uint8)
        self.take(np.arange(rows.start, rows.stop), out)
        return out

    def _pieces(self, ids: NDArray[np.int64]) -> list[Piece]:
        """Return the requests for ids, shape (n,), n 1 or more."""
        if len(self._groups) == 1:
            return list(_cut(self._groups[0], ids, None))
        partitions, _ = self._numbering.locate(ids)
        groups = self._group_of[partitions]
        order = np.argsort(groups, kind="stable")
        stops = np.cumsum(np.bincount(groups, minlength=len(self._groups))).tolist()
        found: list[Piece] = []
        for group, start, stop in zip(self._groups, [0, *stops], stops, strict=False):
            if start < stop:
                places = order[start:stop]
                found += _cut(group, ids[places], places)
        return found

    def _ask(self, pieces: list[Piece], out: NDArray[np.void]) -> None:
        call = self.calls.begin()
        if len(pieces) == 1:
            self._ask_one(call, pieces[0], out)
            return
        queue = deque(pieces)

        def drain() -> None:
            while not call.is_stopped:
                try:
                    piece = queue.popleft()
                except IndexError:
                    return
                try:
                    self._ask_one(call, piece, out)
                except Exception:
                    if call.is_stopped:  # The error that stopped it is raised.
                        return
                    raise

        together([drain] * min(len(pieces), THREAD_COUNT), call.stop, _pool.get())

    def _ask_one(self, call: Call, piece: Piece, out: NDArray[np.void]) -> None:
        size, places = self.record_bytes, piece.places

        def put(position: int, values: Any) -> None:
            records = as_records(records_of(values, size), size)
            if isinstance(places, slice):
                first = places.start + position
                out[first : first + len(records)] = records
            else:
                out[places[position : position + len(records)]] = records

        expected = Expected("rows", self._kind, len(piece.ids), self._fingerprint)
        is_small = len(piece.ids) * size <= SMALL_BYTES
        replicas = piece.group.replicas
        replicas.ask(self._header, _payload(piece.ids), expected, put, call, is_small=is_small)

    @cached_property
    def _kind(self) -> Any:
        import pyarrow as pa  # noqa: PLC0415  # Opening and lookups on disk must not wait for it.

        return pa.binary(self.record_bytes)

    def take_since(
        self,
        begun: float,
        take: Callable[[NDArray[np.int64], NDArray[Any]], None],
        rows: NDArray[np.int64],
        out: NDArray[Any],
    ) -> None:
        """Call ``take(rows, out)``, which looks up here, as a call that began at a time."""
        with self.calls.one(begun):
            take(rows, out)


class RemoteAhead(NoReadAhead):
    """Submitted lookups at servers: threads of their own ask, so servers are asked at once.

    Parameters
    ----------
    records : RemoteRecords
        The records.
    take : callable
        Fills an array with rows that are made of them: ``take(rows, out)``.
    """

    def __init__(
        self,
        records: RemoteRecords,
        take: Callable[[NDArray[np.int64], NDArray[Any]], None],
    ) -> None:
        super().__init__(take)
        self._records = records

    def later(self, rows: NDArray[np.int64]) -> Later:
        """Return the lookup of rows; its time runs from now on."""
        begun = time.monotonic()
        take = partial(self._records.take_since, begun, self._take, rows)
        return Later(take, quick=False, pool=_pool.get())

    @property
    def pool(self) -> Pool:  # type: ignore[override]  # Made when it is needed.
        """The threads that ask servers."""
        return _pool.get()

    def fetch(self, rows: NDArray[np.int64]) -> list[Callable[[], None]]:
        """Return a function for each request that has a server read rows ahead."""
        return self._records.fetches(rows)

    def of(self, take: Callable[[NDArray[np.int64], NDArray[Any]], None]) -> RemoteAhead:
        """Return the same for rows that are made of these records."""
        return RemoteAhead(self._records, take)


def _payload(ids: NDArray[np.int64]) -> memoryview:
    return np.ascontiguousarray(ids, "<i8").data.cast("B")


def _drop(position: int, values: Any) -> None:
    """Take values that do not come."""


def _cut(group: Group, ids: NDArray[np.int64], places: NDArray[np.intp] | None) -> Iterator[Piece]:
    """Yield requests for ids that a group has, of as many rows as it takes at a time."""
    for start in range(0, len(ids), group.most_rows):
        stop = min(start + group.most_rows, len(ids))
        where = slice(start, stop) if places is None else places[start:stop]
        yield Piece(group, ids[start:stop], where)
