"""Messages between the comparison and a worker process, sent pickled.

The comparison sends a `Start`, then one `Order` for each turn. The worker answers each with a
`DiskTurn`, or with a `Failure`; the answer to `Start` holds the time of opening or preparing.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.bench import work
from embstore.bench.timing import Limits, Turn
from embstore.errors import EmbstoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers.base import Peer
    from embstore.bench.work import Case

# Kinds of work besides those of `embstore.bench.work`: lookups by words, and writing one's files.
WORDS, BUILD = "read_words", "build"
WORKS = (*work.WORKS, WORDS, BUILD)
WORDS_BATCH = 10_000


class BenchError(EmbstoreError, RuntimeError):
    """A peer failed, was killed, or returned a wrong row."""


@dataclass(frozen=True, slots=True)
class Start:
    """The peer that a worker process runs.

    Parameters
    ----------
    peer : Peer
        The peer.
    group : Path, optional
        The ``cgroup.procs`` of the memory cgroup to join.
    prepare : bool
        Whether the peer writes its files, down to the disk, instead of opening them.
    """

    peer: Peer
    group: Path | None = None
    prepare: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One turn of lookups.

    Parameters
    ----------
    case : Case
        The lookups.
    limits : Limits
        When the turn ends. With ``bytes_read``, each turn draws new ids; without, the rows are in
        RAM and the ids repeat.
    seed : int
        Seed of the ids.
    stream_rows : int
        About how many ids come before they repeat.
    """

    case: Case
    limits: Limits
    seed: int
    stream_rows: int


@dataclass(frozen=True, slots=True)
class DiskTurn(Turn):
    """A turn and the disk.

    Attributes
    ----------
    device_reads : int, optional
        Reads that the device completed during the calls, for any process, if they were counted.
    disk_reads_per_second : float, optional
        How many direct reads per second the disk did right after the turn, if measured.
    """

    device_reads: int | None = None
    disk_reads_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in the worker: one line, and the traceback."""

    message: str
    trace: str


def share_of_limit(turns: Sequence[Turn], best: float | None) -> float | None:
    """Return the device's reads per second as a share of what the disk can do.

    Parameters
    ----------
    turns : sequence of Turn
        The turns of one peer. Where the disk was measured right after them, the share is the median
        over these turns.
    best : float, optional
        What the disk can do, measured at another time.

    Returns
    -------
    float or None
        None if the device's reads or its limit are unknown.
    """
    counted = [turn for turn in turns if isinstance(turn, DiskTurn)]
    rates = [turn.device_reads / turn.seconds for turn in counted if turn.device_reads is not None]
    if len(rates) < len(turns):
        return None
    limits = [turn.disk_reads_per_second for turn in counted]
    shares = [rate / limit for rate, limit in zip(rates, limits, strict=True) if limit]
    if shares:
        return statistics.median(shares)
    return statistics.median(rates) / best if best else None
