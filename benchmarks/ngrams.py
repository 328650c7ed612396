"""Lookups in n-gram tables of language models, rows of 160 bytes, against EngramDB and others.

Run as ``python -m benchmarks.ngrams``. It is the comparison of ``python -m benchmarks``, on another
table: a token needs 16 rows, a prompt thousands.
"""

from __future__ import annotations

import sys

from benchmarks import goals
from benchmarks.goals import Goal
from benchmarks.measure import Settings
from benchmarks.peers.arrays import Memmap
from benchmarks.peers.databases import Lance, Lmdb
from benchmarks.peers.engram import EngramFetch, EngramPages
from benchmarks.peers.ram import Take
from benchmarks.plan import Plan
from benchmarks.program import parser_of, progress
from benchmarks.run import Comparing, run
from embstore.bench import work
from embstore.bench.state import COLD, WARM
from embstore.bench.work import Case
from embstore.errors import EmbstoreError

DIMENSION = 40  # Of float32: 160 bytes.
BATCHES = (16, 256, 4096)
PEERS = tuple(peer.name for peer in (Take, Memmap, EngramFetch, EngramPages, Lmdb, Lance))
LEAST = {COLD: (1.5, 2.2, 2.7), WARM: (9.0, 18.0, 25.0)}
GOALS = tuple(
    Goal(state, Case(work.RANDOM, batch), least, EngramFetch.name)
    for state, ratios in LEAST.items()
    for batch, least in zip(BATCHES, ratios, strict=True)
)


def main() -> None:
    """Read the arguments, run, print."""
    parser = parser_of("ngrams", __doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn")
    given = parser.parse_args()

    plan = Plan(
        works=(work.RANDOM,),
        states=(WARM, COLD),
        batches=BATCHES,
        settings=Settings(given.rounds, given.seconds),
        disk_seconds=0,
    )
    peers = tuple(given.peer or PEERS)
    try:
        report = run(
            Comparing(given.directory, given.rows, DIMENSION, peers=peers, plan=plan), progress
        )
    except (EmbstoreError, OSError, ValueError) as error:
        sys.exit(f"benchmarks.ngrams: {error}")
    print(f"{report.text()}\n\n{goals.text(report, GOALS)}")


if __name__ == "__main__":
    main()
