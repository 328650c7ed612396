"""How do several peers compare? They take turns, over several rounds, because machines are noisy.

* Warm, preloaded: every peer's process lives through all cases; in each round each has its turn.
* Cold: each turn has a new process, and the files leave the page cache before it. After each of
  embstore's, the disk's own limit is measured again, because a disk is faster now and then.
* Limited: as cold, in a memory cgroup; one turn fills the group, the next ones count.

A peer that fails or is killed is said to have been, with the reason; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from embstore.bench import work
from embstore.bench.orders import BenchError, Order, Turn, median_rate, percentiles
from embstore.bench.process import Process
from embstore.bench.state import COLD, LIMITED, PRELOADED, evict, memory_group, read_through
from embstore.bench.work import Case

if TYPE_CHECKING:
    from embstore.bench.device import DiskLimit
    from embstore.bench.peers import Peer

Progress = Callable[[str], None]

# Warm rows are drawn from so many that no processor's cache holds them, and not from more, because
# what each of them must be is kept in RAM.
STREAM_ROWS = 1 << 18
SLOW_STREAM_ROWS = 1 << 14
STREAM_BYTES = 384 << 20
# Rows of calls that are timed one after the other, before they are compared.
ROWS_TOGETHER = 4096
SLOW_ROWS_TOGETHER = 256
COLD_ROWS_TOGETHER = 1 << 16
# A cold turn ends when so much of the table has been read: the rest is still cold.
COLD_SHARE = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """How long, and how often.

    Parameters
    ----------
    rounds : int
        Turns of each peer in each case.
    seconds : float
        Length of a turn; a cold turn is five times, a limited one ten times as long at most.
    seed : int
        Which ids.
    """

    rounds: int = 5
    seconds: float = 0.3
    seed: int = 1


@dataclass
class Entry:
    """What one peer did in a case."""

    name: str
    version: str
    rows: int
    note: str = ""
    turns: list[Turn] = field(default_factory=list)
    failure: str | None = None

    @classmethod
    def of(cls, peer: Peer) -> Entry:
        """Return an entry with no turns yet."""
        return cls(peer.name, peer.version(), peer.rows, peer.note)

    def to_json(self) -> dict[str, Any]:
        """Return it with every sample, and the figures drawn from them."""
        figures: dict[str, Any] = {}
        if self.turns:
            seconds = sum(turn.seconds for turn in self.turns)
            reads = [turn.device_reads for turn in self.turns]
            figures = {
                "rows_per_second": median_rate(self.turns),
                "microseconds": percentiles(self.turns),
                "bytes_read_per_second": sum(turn.bytes_read for turn in self.turns) / seconds,
                "device_reads_per_second": None
                if None in reads
                else sum(read or 0 for read in reads) / seconds,
            }
        return {
            "name": self.name,
            "version": self.version,
            "rows": self.rows,
            "note": self.note,
            "failure": self.failure,
            **figures,
            "turns": [turn.to_json() for turn in self.turns],
        }


@dataclass
class Comparison:
    """Peers that took turns at one case, in one state; the first is the one compared."""

    case: Case
    state: str
    entries: list[Entry]
    memory_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it with every sample."""
        return {
            "work": self.case.work,
            "batch": self.case.batch,
            "state": self.state,
            "memory_bytes": self.memory_bytes,
            "entries": [entry.to_json() for entry in self.entries],
        }


def compare_warm(
    peers: Sequence[Peer],
    cases: Iterable[Case],
    state: str,
    settings: Settings,
    progress: Progress,
) -> Iterator[Comparison]:
    """Yield a comparison for each case, rows being in RAM."""
    disk = [peer for peer in peers if not peer.in_ram]
    with ExitStack() as stack:
        processes: dict[int, Process] = {}
        failures: dict[int, str] = {}
        # Those that load the rows from the store disturb its pages, so they go first.
        for peer in sorted(peers, key=lambda peer: not peer.in_ram):
            if disk and peer is disk[0]:
                _bring_in(disk, state)
            progress(f"{peer.name}: opening, {state}")
            try:
                processes[id(peer)] = stack.enter_context(Process(peer))
            except BenchError as error:
                failures[id(peer)] = str(error)
        for case in cases:
            progress(f"{', '.join(peer.name for peer in peers)}: {_shown(case, state)}")
            entries = {id(peer): Entry.of(peer) for peer in peers}
            for key, failure in failures.items():
                entries[key].failure = failure
            for _ in range(settings.rounds):
                for peer in peers:
                    if id(peer) in failures:
                        continue
                    order = _order(peer, case, settings, state)
                    try:
                        entries[id(peer)].turns.append(processes[id(peer)].turn(order))
                    except BenchError as error:
                        failures[id(peer)] = entries[id(peer)].failure = str(error)
            yield Comparison(case, state, list(entries.values()))


def compare_cold(
    peers: Sequence[Peer],
    cases: Iterable[Case],
    settings: Settings,
    progress: Progress,
    disk_limit: DiskLimit | None = None,
) -> Iterator[Comparison]:
    """Yield a comparison for each case, no row being in RAM.

    What the disk can do is measured again after each turn of the first peer, if it was before.
    """
    for case in cases:
        progress(f"{', '.join(peer.name for peer in peers)}: {_shown(case, COLD)}")
        entries = [Entry.of(peer) for peer in peers]
        for number in range(settings.rounds):
            for peer, entry in zip(peers, entries, strict=True):
                if entry.failure is not None:
                    continue
                evict(peer.files())
                order = _order(peer, case, settings, COLD, number)
                with _noting(entry), Process(peer) as process:
                    turn = process.turn(order)
                    if disk_limit is not None and peer is peers[0]:
                        turn = replace(turn, disk_reads_per_second=disk_limit.again())
                    entry.turns.append(turn)
        yield Comparison(case, COLD, entries)


def compare_limited(
    peers: Sequence[Peer],
    cases: Iterable[Case],
    memory_bytes: int,
    settings: Settings,
    progress: Progress,
) -> Iterator[Comparison]:
    """Yield a comparison for each case, each peer in a cgroup of so much memory.

    Raises
    ------
    NoMemoryGroupError
        If such a group cannot be made.
    """
    for case in cases:
        size = f"{memory_bytes >> 20} MiB"
        entries = [Entry.of(peer) for peer in peers]
        for peer, entry in zip(peers, entries, strict=True):
            progress(f"{peer.name}: {_shown(case, LIMITED)}, {size}")
            evict(peer.files())
            with (
                memory_group(memory_bytes) as group,
                _noting(entry),
                Process(peer, group) as process,
            ):
                order = _order(peer, case, settings, LIMITED)
                process.turn(order)  # The group fills up.
                for _ in range(settings.rounds):
                    entry.turns.append(process.turn(order))
        yield Comparison(case, LIMITED, entries, memory_bytes)


def compare_open(
    peers: Sequence[Peer], state: str, settings: Settings, progress: Progress
) -> Comparison:
    """Compare how long opening takes, each time in a new process."""
    progress(f"{', '.join(peer.name for peer in peers)}: open, {state}")
    entries = [Entry.of(peer) for peer in peers]
    for _ in range(settings.rounds):
        for peer, entry in zip(peers, entries, strict=True):
            if entry.failure is None:
                if state == COLD:
                    evict(peer.files())
                with _noting(entry), Process(peer) as process:
                    entry.turns.append(process.opened)
    return Comparison(Case(work.OPEN, 0), state, entries)


def prepare(peer: Peer, progress: Progress) -> Entry:
    """Have a peer write its files; return how long that took, until they were on the disk."""
    progress(f"{peer.name}: writing its files")
    entry = Entry.of(peer)
    with _noting(entry), Process(peer, prepare=True) as process:
        entry.turns.append(process.opened)
    return entry


def _order(peer: Peer, case: Case, settings: Settings, state: str, number: int = 0) -> Order:
    together = COLD_ROWS_TOGETHER if state == COLD else ROWS_TOGETHER
    limit = min(STREAM_BYTES // max(peer.table.row_bytes, 1), 4 * peer.rows)
    stream_rows = max(min(SLOW_STREAM_ROWS if peer.slow else STREAM_ROWS, limit), 1)
    return Order(
        case=case,
        seconds=settings.seconds * {COLD: 5, LIMITED: 10}.get(state, 1),
        seed=settings.seed + number,
        again=state not in (COLD, LIMITED),
        stream_rows=case.batch if case.work == work.SAME else stream_rows,
        bytes_read=peer.table.total_bytes // COLD_SHARE if state == COLD else 1 << 62,
        rows_together=SLOW_ROWS_TOGETHER if peer.slow else together,
    )


def _bring_in(peers: Sequence[Peer], state: str) -> None:
    """Bring the files into the page cache in the large pieces that reading in order gives."""
    files = dict.fromkeys(file for peer in peers for file in peer.files())
    evict(files)
    # Who preloads reads its own files; that is part of what preloading is.
    preloaded = peers[0].files() if state == PRELOADED else []
    read_through(file for file in files if file not in preloaded)


@contextmanager
def _noting(entry: Entry) -> Iterator[None]:
    """Turn a failure into a line of the result."""
    try:
        yield
    except BenchError as error:
        entry.failure = str(error)


def _shown(case: Case, state: str) -> str:
    return f"{case.work}, batch {case.batch}, {state}"
