"""Lookups in the tables of language models, where they lie, against other readers.

Run as ``python -m benchmarks.models``. It makes tables of generated records, as models keep them:

========= ========================================================================================
160       float8, one scale for the whole table; 160-parts: as 128 tensors in 16 files
162, 164  float8, a bfloat16 or float32 scale a row, in two columns
264       float8, 8 e8m0 scales a row, in two columns
144       GGUF, a Q4_K block of 256 values a row
========= ========================================================================================

Tables of two columns are also built into a store, where a row is one record. Rows are decoded to
bfloat16, those of GGUF to float32. Every row is compared with a decode by `ml_dtypes` or gguf-py,
outside of the timing.

Lookups take turns in the states ``warm``, ``cold`` and ``limited`` (a memory cgroup of an eighth of
the table, and 64 MiB for results); libraries are imported before the cgroup counts. EngramDB reads
records from files of its own; the others read the model's. Besides lookups, it measures:

* decoding of records in RAM (``decode``);
* the pages that cold lookups read, by the kernel's count, for each page that they need;
* opening a directory of 48 files until the first lookup has returned (``open``);
* direct reads of 4 KiB: fio's best, and its io_uring engine at depth 64, which bounds any reader
  with O_DIRECT.
"""

from __future__ import annotations

import resource
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import decoding
from benchmarks.device import flush, io_uring_rate, measure_limit
from benchmarks.measure import (
    Settings,
    compare_cold,
    compare_limited,
    compare_open,
    compare_warm,
    prepare,
)
from benchmarks.model_tables import KINDS, Kind, ModelTable, write_parts
from benchmarks.orders import share_of_limit
from benchmarks.peers.models import PEERS, FirstLookup, InPlace, OneRecord
from benchmarks.program import parser_of, progress, scratch
from benchmarks.report import PeerReport
from benchmarks.times import Times, at_least, at_most, microseconds
from embstore.bench import work
from embstore.bench.state import COLD, LIMITED, LIMITED_SHARE, WARM, NoMemoryGroupError, evict
from embstore.bench.timing import BLOCK_BYTES, check_rows, percentiles
from embstore.bench.work import Case
from embstore.errors import EmbstoreError
from embstore.table.addresses import PAGE_BYTES
from tools.make_table import as_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.device import DiskLimit
    from benchmarks.peers.models import ModelPeer
    from embstore.bench.report import Comparison, Entry

BATCHES = (16, 48, 4096, 65536)
STATES = (WARM, COLD, LIMITED)
DECODE, OPEN = "decode", "open"
SLOW_BATCH = 4096  # Slow peers get no larger batches.
RESULT_BYTES = 64 << 20
IO_URING_DEPTH = 64

OPEN_FILES, OPEN_OTHERS, OPEN_ROWS = 48, 50, 48_000
FIRST_IDS = tuple(range(0, OPEN_ROWS, OPEN_ROWS // 16))

# Lookups whose pages are counted: (batch, calls).
COUNTED = ((48, 64), (4096, 4))
WARM_MOST_US = {"160": 9.0, "160-parts": 9.0, "162": 15.0, "164": 15.0}
WARM_BATCH, COLD_BATCH = 48, 4096
COLD_LEAST = 0.85
PAGES_MOST = 1.15
OPEN_MOST_MS = 50.0


@dataclass
class Found:
    """What was measured on one table.

    Attributes
    ----------
    table : ModelTable
        The table; its files may be gone.
    report : PeerReport
        The comparisons.
    pages : dict
        Pages read for each page needed, by (name of the peer, batch).
    io_uring : float, optional
        Direct reads per second of fio's io_uring engine.
    """

    table: ModelTable
    report: PeerReport
    pages: dict[tuple[str, int], float] = field(default_factory=dict)
    io_uring: float | None = None

    def text(self) -> str:
        """Return the tables and the goals."""
        lines = ["", f"{self.table.kind.name}: {self.report.text()}"]
        if self.io_uring is not None:
            rows = self.io_uring * COLD_BATCH / self.table.pages(self._cold_ids)
            lines.append(
                f"O_DIRECT, io_uring at depth {IO_URING_DEPTH}, by fio: {self.io_uring:,.0f} reads "
                f"a second, so {rows:,.0f} rows at most"
            )
        for (name, batch), times in self.pages.items():
            lines.append(f"pages read for each that is needed, {name}, batch {batch}: {times:.3f}")
        return "\n".join([*lines, *self.goals()])

    def goals(self) -> Iterator[str]:
        """Yield a line for each goal that was measured."""
        kind = self.table.kind.name
        for comparison, entry in self._own():
            what = f"{kind}, {entry.name}, {comparison.state}, batch {comparison.case.batch}"
            placed = comparison.state, comparison.case.batch
            if placed == (WARM, WARM_BATCH) and kind in WARM_MOST_US:
                p50 = percentiles(entry.turns)["p50"]
                yield at_most(f"{what}, us", p50, WARM_MOST_US[kind])
            if placed == (COLD, COLD_BATCH):
                share = share_of_limit(entry.turns, self.report.disk_best)
                if share is not None:
                    yield at_least(f"{what}, of the disk's best", share, COLD_LEAST)
        for (name, batch), times in self.pages.items():
            if name == InPlace.name and self.table.scales:
                what = f"{kind}, {name}, {COLD}, batch {batch}, of the pages needed"
                yield at_most(what, times, PAGES_MOST)

    @property
    def _cold_ids(self) -> NDArray[np.int64]:
        return np.random.default_rng(0).integers(0, self.table.rows, COLD_BATCH)

    def _own(self) -> Iterator[tuple[Comparison, Entry]]:
        for comparison in self.report.comparisons:
            for entry in comparison.entries:
                if entry.turns and entry.name in {InPlace.name, OneRecord.name}:
                    yield comparison, entry


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured on a table.

    Parameters
    ----------
    states : sequence of str
        The states.
    batches : sequence of int
        Ids in a call.
    peers : sequence of str
        Names of peers; all if empty.
    settings : Settings
        Length and number of the turns.
    disk_seconds : float
        How long the disk is measured at each depth; 0 for not at all.
    """

    states: Sequence[str]
    batches: Sequence[int]
    peers: Sequence[str]
    settings: Settings
    disk_seconds: float


def measure(place: Path, kind: Kind, size: int, plan: Plan) -> Found:
    """Make a table of ``size`` bytes in a directory, and measure all on it."""
    progress(f"{kind.name}: making a table of {size / 1e6:,.0f} MB")
    table = ModelTable.make(place / "model", kind, max(size // kind.record_bytes, kind.parts))
    report = PeerReport.of(table.path, (table.rows, *table.row_shape), np.dtype(table.dtype))
    report.table |= {"dtype": kind.about, "bytes": table.total_bytes}
    found = Found(table, report)
    own = InPlace(table)
    flush(own.files())
    peers = list(_peers(table, place, plan, report.skipped))
    limit = _disk_limit(own, plan, found)
    for state in plan.states:
        for some, batches in _split(peers, plan.batches):
            cases = [Case(work.RANDOM, batch) for batch in batches]
            try:
                report.comparisons += _compare(state, [own, *some], cases, plan, limit)
            except NoMemoryGroupError as error:
                report.skipped.append(f"{state}: {error}")
                break
    if COLD in plan.states:
        for peer in (own, *(peer for peer in peers if isinstance(peer, OneRecord))):
            for batch, calls in COUNTED:
                times = pages_read(peer, batch, calls)
                if times is not None:
                    found.pages[peer.name, batch] = times
    return found


def pages_read(peer: InPlace, batch: int, calls: int) -> float | None:
    """Return the pages that cold lookups read for each page that they need.

    None if the kernel counts no reads, as on a file system in memory.
    """
    table = peer.table
    random = np.random.default_rng([batch, calls])
    # The first lookup does what is done only once.
    ids = random.integers(0, table.rows, (calls + 1, batch))
    evict(peer.files())
    peer.open()
    results = [peer.lookup(ids[0])]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    results += [peer.lookup(some) for some in ids[1:]]
    read = (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - before) * BLOCK_BYTES
    peer.close()
    for some, rows in zip(ids, results, strict=True):
        check_rows(peer.name, some, rows, table.expected(some))
    needed = peer.pages(ids.reshape(-1)) - peer.pages(ids[0])
    return read / PAGE_BYTES / max(needed, 1) if read else None


def measure_open(place: Path, rounds: int, files: int = OPEN_FILES) -> dict[str, list[float]]:
    """Return the milliseconds of opening a directory and looking up 16 rows, by state."""
    progress(f"opening a directory of {files} files")
    kind = Kind("open", "float8, one scale for all", 160, "BF16", 0, files)
    path = place / "open"
    path.mkdir()
    codes = write_parts(path, kind, OPEN_ROWS, files=files, others=OPEN_OTHERS)
    table = ModelTable(path, kind, OPEN_ROWS, codes, ())
    table.write(codes, slice(None))
    peer = FirstLookup(table, first_ids=FIRST_IDS)
    found = {}
    for state in (COLD, WARM):
        (entry,) = compare_open([peer], state, Settings(rounds), progress).entries
        if entry.note:
            raise ValueError(entry.note)
        found[state] = [turn.seconds * 1e3 for turn in entry.turns]
    ids = np.array(FIRST_IDS)
    peer.open()
    check_rows(peer.name, ids, peer.lookup(ids), table.expected(ids))
    peer.close()
    return found


def open_lines(found: dict[str, list[float]]) -> Iterator[str]:
    """Yield the lines of the times of opening; the goal is the median of each state."""
    for state, milliseconds in found.items():
        what = f"open and first lookup, {OPEN_FILES} files, {state}, ms"
        yield at_most(what, statistics.median(milliseconds), OPEN_MOST_MS)


def _peers(table: ModelTable, place: Path, plan: Plan, skipped: list[str]) -> Iterator[ModelPeer]:
    """Yield the peers that are installed and read such a table, with their files written."""
    for kind in PEERS:
        if not kind.fits(table.kind) or (plan.peers and kind.name not in plan.peers):
            continue
        if (missing := kind.missing()) is not None:
            skipped.append(f"{kind.name}: {missing} is not installed")
            continue
        directory = place / kind.folder if kind.folder else None
        peer = kind(table, directory)
        if directory is not None and not directory.exists():
            directory.mkdir()
            if note := prepare(peer, progress).note:
                skipped.append(f"{peer.name}: {note}")
                continue
        yield peer


def _split(
    peers: list[ModelPeer], batches: Sequence[int]
) -> Iterator[tuple[list[ModelPeer], list[int]]]:
    """Yield peers and their batches: slow ones get no large batches."""
    small = [batch for batch in batches if batch <= SLOW_BATCH]
    large = [batch for batch in batches if batch > SLOW_BATCH]
    for some, chosen in ((peers, small), ([peer for peer in peers if not peer.slow], large)):
        if chosen:
            yield some, chosen


def _compare(
    state: str,
    peers: Sequence[ModelPeer],
    cases: Sequence[Case],
    plan: Plan,
    limit: DiskLimit | None,
) -> Iterable[Comparison]:
    settings = plan.settings
    if state == WARM:
        return compare_warm(peers, cases, state, settings, progress)
    if state == COLD:
        return compare_cold(peers, cases, settings, progress, limit)
    memory = peers[0].table.total_bytes // LIMITED_SHARE + RESULT_BYTES
    return compare_limited(peers, cases, memory, settings, progress)


def _disk_limit(own: InPlace, plan: Plan, found: Found) -> DiskLimit | None:
    if COLD not in plan.states or not plan.disk_seconds:
        return None
    limit = measure_limit(own.files(), seconds=plan.disk_seconds, progress=progress)
    found.report.disk_limit = limit
    if limit is not None:
        found.io_uring = io_uring_rate(limit, IO_URING_DEPTH, plan.disk_seconds)
    return limit


def main() -> None:
    """Read the arguments, measure, print."""
    given = _parse()
    states = given.state or STATES
    plan = Plan(
        states,
        given.batch or BATCHES,
        given.peer or (),
        Settings(given.rounds, given.seconds),
        given.disk_seconds,
    )
    works = given.work or (work.RANDOM, DECODE, OPEN)
    kinds = [KINDS[name] for name in given.kind or KINDS]
    sections: list[str] = []
    try:
        if DECODE in works:
            batches = [batch for batch in plan.batches if batch > WARM_BATCH] or plan.batches
            times: Times = decoding.time_decodes(kinds, batches, given.rounds, progress)
            sections += ["", *microseconds(times), *decoding.goals(times, batches)]
        if OPEN in works:
            with scratch(given.directory, "models") as place:
                sections += ["", *open_lines(measure_open(place, given.rounds))]
        for kind in kinds if work.RANDOM in works else ():
            with scratch(given.directory, "models") as place:
                sections.append(measure(place, kind, given.bytes, plan).text())
    except (EmbstoreError, OSError, ValueError) as error:
        sys.exit(f"benchmarks.models: {error}")
    print("\n".join(sections))


def _parse() -> argparse.Namespace:
    parser = parser_of("models", __doc__, rounds=3)
    parser.add_argument("--work", action="append", choices=(work.RANDOM, DECODE, OPEN))
    parser.add_argument("--kind", action="append", choices=KINDS, help="kind of table")
    parser.add_argument("--state", action="append", choices=STATES)
    parser.add_argument("--batch", type=int, action="append", help="16, 48, 4096, 65536")
    parser.add_argument("--peer", action="append", choices=[peer.name for peer in PEERS])
    parser.add_argument("--bytes", type=as_bytes, default=1_000_000_000, help="size of a table")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn")
    parser.add_argument("--disk-seconds", type=float, default=1.0, help="of each queue depth")
    return parser.parse_args()


if __name__ == "__main__":
    main()
