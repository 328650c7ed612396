"""The full comparison of embstore with its peers, one peer after the other.

1. Make the table from generated rows, so that every row can be checked.
2. Measure the limit of the disk.
3. For each peer: let it write its files, let it take turns with embstore in every case, warm and
   cold, and delete its files. There are never more than two copies of the rows on the disk.
4. Do the same with words, on a table of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import device
from benchmarks.measure import compare_warm, prepare
from benchmarks.orders import BUILD, WORDS, WORDS_BATCH
from benchmarks.peers import ALL, BY_ID, BY_WORD
from benchmarks.peers.arrays import Memmap
from benchmarks.peers.own import Embstore, EmbstoreInto
from benchmarks.peers.ram import Take
from benchmarks.plan import Plan, compare
from benchmarks.report import PeerReport
from benchmarks.table import GeneratedTable
from embstore.bench import state, work
from embstore.bench.report import Comparison, Entry
from embstore.bench.work import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.peers.base import Peer

# Some peers need milliseconds for a row: they get fewer rows and fewer rounds.
SLOW_BATCHES = (1, 32, 256, 4096)
SLOW_ROUNDS = 3
COLD_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Comparing:
    """A full comparison.

    Parameters
    ----------
    directory : Path
        The directory of tables and of the peers' files, which are deleted at the end.
    rows, dimension : int
        Size of the table.
    word_rows : int
        Rows of the table with words, at most ``rows``.
    store : Path, optional
        A store by ``tools/make_table`` to use instead of making one.
    peers : tuple of str
        Names of the peers; empty for all.
    plan : Plan
        The measurements.
    """

    directory: Path
    rows: int = 4_000_000
    dimension: int = 300
    word_rows: int = 1_000_000
    store: Path | None = None
    peers: tuple[str, ...] = ()
    plan: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        known = [peer.name for peer in ALL]
        if unknown := [name for name in self.peers if name not in known]:
            raise ValueError(f"unknown peer {unknown[0]!r}; expected one of {', '.join(known)}")


def run(comparing: Comparing, progress: Callable[[str], None]) -> PeerReport:
    """Run the comparison.

    Parameters
    ----------
    comparing : Comparing
        The comparison.
    progress : callable
        Gets a line before each measurement.
    """
    comparing.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=comparing.directory, prefix="embstore-bench-") as scratch:
        place = Path(scratch)
        if comparing.store is None:
            progress(f"making a table of {comparing.rows:,} x {comparing.dimension}")
            table = GeneratedTable.make(
                place / "table.embstore", comparing.rows, comparing.dimension
            )
        else:
            table = GeneratedTable.at(comparing.store)
        shape = (table.rows, *table.row_shape)
        report = PeerReport.of(table.path, shape, np.dtype(table.dtype))
        if comparing.plan.disk_seconds:
            report.disk_limit = device.measure_limit(
                Embstore(table).files(), seconds=comparing.plan.disk_seconds, progress=progress
            )
        _by_id(comparing, table, place, report, progress)
        if comparing.store is None:
            shutil.rmtree(table.path)
        if WORDS in comparing.plan.works:
            _by_word(comparing, place, report, progress)
    return report


def _by_id(
    comparing: Comparing,
    table: GeneratedTable,
    place: Path,
    report: PeerReport,
    progress: Callable[[str], None],
) -> None:
    plan = comparing.plan
    own_build: Entry | None = None
    if BUILD in plan.works:
        with _written(Embstore(table), place, progress) as (_, own_build):
            pass
    for kind in _installed(BY_ID, comparing.peers, report.skipped):
        with _written(kind(table), place, progress) as (peer, build):
            if own_build is not None and not peer.in_ram:
                case = Case(BUILD, 0)
                report.comparisons.append(Comparison(case, state.WARM, [own_build, build]))
            if build.note:
                report.skipped.append(f"{peer.name}: {build.note}")
                continue
            own = EmbstoreInto(table) if kind is Take else Embstore(table)
            for part in _plans(peer, plan):
                report.comparisons += compare(own, [peer], part, report, progress)


def _by_word(
    comparing: Comparing, place: Path, report: PeerReport, progress: Callable[[str], None]
) -> None:
    rows = min(comparing.word_rows, comparing.rows)
    kinds = list(_installed(BY_WORD, comparing.peers, report.skipped))
    states = [s for s in (state.PRELOADED, state.WARM) if s in comparing.plan.states]
    if not kinds or not states:
        return
    progress(f"making a table of {rows:,} words")
    table = GeneratedTable.make(place / "words.embstore", rows, comparing.dimension, words=True)
    for kind in kinds:
        with _written(kind(table), place, progress) as (peer, build):
            if build.note:
                report.skipped.append(f"{peer.name}: {build.note}")
                continue
            for name in states:
                own = Embstore(table, preload=name == state.PRELOADED)
                settings = comparing.plan.settings
                cases = [Case(WORDS, WORDS_BATCH)]
                report.comparisons += compare_warm([own, peer], cases, name, settings, progress)
    shutil.rmtree(table.path)


def _plans(peer: Peer, plan: Plan) -> Iterator[Plan]:
    """Yield the plans for a peer: warm states, then the others with fewer rounds."""
    warm = {state.WARM, state.PRELOADED} if peer.in_ram else {state.WARM}
    others = {state.COLD, state.LIMITED} if isinstance(peer, Memmap) else {state.COLD}
    # A single row is the same call, with and without a reused array.
    works = tuple(name for name in plan.works if name not in work.WARM_ONLY or not peer.reuse)
    rounds = plan.settings.rounds
    batches = plan.batches
    if peer.slow:
        rounds = min(rounds, SLOW_ROUNDS)
        batches = tuple(batch for batch in batches if batch in SLOW_BATCHES) or batches[:1]
    yield replace(
        plan,
        works=works,
        batches=batches,
        states=tuple(name for name in plan.states if name in warm),
        settings=replace(plan.settings, rounds=rounds),
    )
    if not peer.in_ram:
        yield replace(
            plan,
            works=works,
            batches=batches,
            states=tuple(name for name in plan.states if name in others),
            settings=replace(plan.settings, rounds=min(rounds, COLD_ROUNDS)),
        )


def _installed(
    kinds: Sequence[type[Peer]], chosen: tuple[str, ...], skipped: list[str]
) -> Iterator[type[Peer]]:
    for kind in kinds:
        if chosen and kind.name not in chosen:
            continue
        missing = kind.missing()
        if missing is None:
            yield kind
        else:
            skipped.append(f"{kind.name}: {missing} is not installed")


@contextmanager
def _written(
    peer: Peer, place: Path, progress: Callable[[str], None]
) -> Iterator[tuple[Peer, Entry]]:
    """Let a peer write its files, and delete them at the end."""
    if peer.in_ram:
        yield peer, Entry(peer.name, peer.table.rows)
        return
    directory = place / "peer"
    directory.mkdir()
    try:
        there = replace(peer, directory=directory)
        yield there, prepare(there, progress)
    finally:
        shutil.rmtree(directory)
