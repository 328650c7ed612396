"""Comparisons of peers that take turns over several rounds, because machines are noisy.

* Warm, preloaded: each peer's process lives through all cases, and takes its turn in each round.
* Cold: each turn has a new process, and the files leave the page cache before it. After each turn
  of embstore, the limit of the disk is measured again, because a disk's speed varies.
* Limited: as cold, in a memory cgroup. One turn fills the group's memory; the next ones count.

A peer that fails or is killed is reported with the reason; the others continue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.orders import BenchError, Order
from benchmarks.process import Process
from embstore.bench import work
from embstore.bench.report import Comparison, Entry
from embstore.bench.state import COLD, LIMITED, PRELOADED, evict, memory_group, read_through
from embstore.bench.timing import calls_together, limits_of
from embstore.bench.work import STREAM_ROWS, Case

if TYPE_CHECKING:
    from benchmarks.device import DiskLimit
    from benchmarks.peers.base import Peer

Progress = Callable[[str], None]

SLOW_STREAM_ROWS = 1 << 14
# The rows that repeated ids must give are kept in RAM.
STREAM_BYTES = 384 << 20
# Rows of a slow peer's calls that are timed back to back before they are compared.
SLOW_ROWS_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """Length and number of the turns.

    Parameters
    ----------
    rounds : int
        Turns of each peer in each case.
    seconds : float
        Length of a turn; a cold turn is at most 5 times, a limited one 10 times as long.
    seed : int
        Seed of the ids.
    """

    rounds: int = 5
    seconds: float = 0.3
    seed: int = 1


def compare_warm(
    peers: Sequence[Peer],
    cases: Iterable[Case],
    state: str,
    settings: Settings,
    progress: Progress,
) -> Iterator[Comparison]:
    """Yield a comparison for each case, the rows being in RAM."""
    disk = [peer for peer in peers if not peer.in_ram]
    with ExitStack() as stack:
        processes: dict[int, Process] = {}
        failures: dict[int, str] = {}
        # Peers that load the rows from the store disturb its pages, so they start first.
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
            entries = {id(peer): _entry(peer) for peer in peers}
            for key, failure in failures.items():
                entries[key].note = failure
            for _ in range(settings.rounds):
                for peer in peers:
                    if id(peer) in failures:
                        continue
                    order = _order(peer, case, settings, state)
                    try:
                        entries[id(peer)].turns.append(processes[id(peer)].turn(order))
                    except BenchError as error:
                        failures[id(peer)] = entries[id(peer)].note = str(error)
            yield Comparison(case, state, list(entries.values()))


def compare_cold(
    peers: Sequence[Peer],
    cases: Iterable[Case],
    settings: Settings,
    progress: Progress,
    disk_limit: DiskLimit | None = None,
) -> Iterator[Comparison]:
    """Yield a comparison for each case, no row being in RAM.

    If the limit of the disk is given, it is measured again after each turn of the first peer.
    """
    for case in cases:
        progress(f"{', '.join(peer.name for peer in peers)}: {_shown(case, COLD)}")
        entries = [_entry(peer) for peer in peers]
        for number in range(settings.rounds):
            for peer, entry in zip(peers, entries, strict=True):
                if entry.note:
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
    """Yield a comparison for each case, each peer in a cgroup of ``memory_bytes``.

    Raises
    ------
    NoMemoryGroupError
        If the group cannot be made.
    """
    for case in cases:
        size = f"{memory_bytes >> 20} MiB"
        entries = [_entry(peer) for peer in peers]
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
    """Compare the time of opening, each time in a new process."""
    progress(f"{', '.join(peer.name for peer in peers)}: open, {state}")
    entries = [_entry(peer) for peer in peers]
    for _ in range(settings.rounds):
        for peer, entry in zip(peers, entries, strict=True):
            if not entry.note:
                if state == COLD:
                    evict(peer.files())
                with _noting(entry), Process(peer) as process:
                    entry.turns.append(process.opened)
    return Comparison(Case(work.OPEN, 0), state, entries)


def prepare(peer: Peer, progress: Progress) -> Entry:
    """Let a peer write its files; return the time until they are on the disk."""
    progress(f"{peer.name}: writing its files")
    entry = _entry(peer)
    with _noting(entry), Process(peer, prepare=True) as process:
        entry.turns.append(process.opened)
    return entry


def _entry(peer: Peer) -> Entry:
    return Entry(peer.name, peer.table.rows)


def _order(peer: Peer, case: Case, settings: Settings, state: str, number: int = 0) -> Order:
    limits = limits_of(state, case, settings.seconds, peer.table.total_bytes)
    if peer.slow:
        together = calls_together(SLOW_ROWS_TOGETHER, case.batch)
        limits = replace(limits, calls_together=together)
    if peer.reuse:
        # The next call overwrites the rows.
        limits = replace(limits, calls_together=1)
    most = min(STREAM_BYTES // max(peer.table.row_bytes, 1), 4 * peer.table.rows)
    return Order(
        case=case,
        limits=limits,
        seed=settings.seed + number,
        stream_rows=max(min(SLOW_STREAM_ROWS if peer.slow else STREAM_ROWS, most), 1),
    )


def _bring_in(peers: Sequence[Peer], state: str) -> None:
    """Read the files in order, which fills the page cache in large pieces."""
    files = dict.fromkeys(file for peer in peers for file in peer.files())
    evict(files)
    # Preloading includes reading the files.
    preloaded = peers[0].files() if state == PRELOADED else []
    read_through(file for file in files if file not in preloaded)


@contextmanager
def _noting(entry: Entry) -> Iterator[None]:
    """Note a failure in the entry instead of raising it."""
    try:
        yield
    except BenchError as error:
        entry.note = str(error)


def _shown(case: Case, state: str) -> str:
    return f"{case.work}, batch {case.batch}, {state}"
