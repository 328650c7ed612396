"""Lookups of warm and cold rows, ``read_mixed``, against np.memmap.

Run as ``python -m benchmarks.mixed``. Calls of 32 rows come in four mixtures:

========= ======================================================================================
warm      rows that were looked up before
cold      rows that were never looked up
in turn   a warm call, a cold call, and so on
99 % hits each row of each call is warm with a probability of 99 %
========= ======================================================================================

In each turn, the files are dropped from the page cache and opened again, and the warm rows are
looked up twice. The rows of every timed call are compared after the turn.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import mean
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers.arrays import Memmap
from benchmarks.peers.own import Embstore
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, at_most, microseconds
from embstore.bench.state import evict
from embstore.bench.timing import check_rows
from tools.make_table import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from benchmarks.peers.base import Peer

WORK = "read_mixed"
WARM, COLD, IN_TURN, HITS = MIXTURES = ("warm", "cold", "in turn", "99 % hits")
HIT_SHARE = 0.99
WARM_ROWS = 4096
# The longest mean time of a call of 32 rows, warm and cold in turn.
IN_TURN_MOST_US = 300.0


def draw_mixed(
    mixture: str, warm: NDArray[np.int64], cold: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return ids, shape (calls, batch): ``cold``, an array of that shape, or some of ``warm``."""
    from_warm = random.choice(warm, cold.shape)
    if mixture == WARM:
        return from_warm
    if mixture == COLD:
        return cold
    if mixture == IN_TURN:
        return np.where(np.arange(len(cold))[:, np.newaxis] % 2, cold, from_warm)
    return np.where(random.random(cold.shape) < HIT_SHARE, from_warm, cold)


def time_mixed(peer: Peer, warm: NDArray[np.int64], ids: NDArray[np.int64]) -> list[float]:
    """Return the seconds of the calls, one for each row of ids, on files that were just evicted."""
    evict(peer.files())
    peer = replace(peer)
    peer.open()
    for _ in range(2):
        for some in warm.reshape(-1, ids.shape[1]):
            peer.lookup(some)
    seconds, found = [], []
    for some in ids:
        start = perf_counter()
        rows = peer.lookup(some)
        seconds.append(perf_counter() - start)
        found.append(rows)
    flat = ids.reshape(-1)
    check_rows(peer.name, flat, np.concatenate(found), peer.table.expected(flat))
    return seconds


def measure(
    peers: Sequence[Peer],
    batch: int,
    calls: int,
    rounds: int,
    progress: Callable[[str], None],
) -> Times:
    """Return the seconds of every call, by ``mixture: peer``; for `IN_TURN` also of each half."""
    rows = peers[0].table.rows
    found: Times = {}
    for turn in range(rounds):
        random = np.random.default_rng([7, turn])
        ids = random.permutation(rows)
        warm_count = min(WARM_ROWS, rows // 4) // batch * batch
        warm = ids[:warm_count]
        cold = ids[warm_count : warm_count + calls * batch].reshape(-1, batch)
        for mixture in MIXTURES:
            drawn = draw_mixed(mixture, warm, cold, random)
            for peer in peers:
                progress(f"turn {turn + 1} of {rounds}: {mixture}, {peer.name}")
                seconds = time_mixed(peer, warm, drawn)
                name = f"{WORK}, {batch} rows, {mixture}"
                found.setdefault(f"{name}: {peer.name}", []).extend(seconds)
                if mixture == IN_TURN:
                    found.setdefault(f"{name}, the warm: {peer.name}", []).extend(seconds[::2])
                    found.setdefault(f"{name}, the cold: {peer.name}", []).extend(seconds[1::2])
    return found


def text(found: Times, batch: int) -> str:
    """Return the times, the goal, and how much the mixture costs over its halves alone."""
    lines = [*microseconds(found), ""]
    ours = {
        mixture: mean(found[f"{WORK}, {batch} rows, {mixture}: {Embstore.name}"])
        for mixture in MIXTURES
    }
    what = f"{WORK}, {batch} rows, {IN_TURN}, mean us"
    lines.append(at_most(what, ours[IN_TURN] * 1e6, IN_TURN_MOST_US))
    halves = (ours[WARM] + ours[COLD]) / 2
    lines.append(
        f"{'in turn, in times the mean of warm and cold':<72}{ours[IN_TURN] / halves:>8.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = parser_of("mixed", __doc__, rounds=5)
    parser.add_argument("--bytes", type=as_bytes, default=1_200_000_000, help="size of the table")
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32, help="rows in a call")
    parser.add_argument("--calls", type=int, default=200, help="calls in a turn")
    given = parser.parse_args()

    with scratch(given.directory, "mixed") as place:
        progress("making the files")
        rows = given.bytes // (4 * given.dimension)
        table = GeneratedTable.make(place / "table.embstore", rows, given.dimension)
        mapped = Memmap(table, place / "peer")
        mapped.own_directory.mkdir()
        mapped.prepare()
        found = measure([Embstore(table), mapped], given.batch, given.calls, given.rounds, progress)
    print(text(found, given.batch))


if __name__ == "__main__":
    main()
