"""What do the bench and a worker process say to each other? These values, pickled.

The bench sends a `Start`, then one `Order` for each turn; the worker answers a `Turn` to each, the
first with the time it took to open (or to write the peer's files), or a `Failure`.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import EmbstoreError

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.bench.peers import Peer
    from embstore.bench.work import Case


class BenchError(EmbstoreError, RuntimeError):
    """A peer failed, was killed, or returned a row that is not the table's."""


@dataclass(frozen=True, slots=True)
class Start:
    """Who is to work.

    Parameters
    ----------
    peer : Peer
        The peer.
    group : Path, optional
        The ``cgroup.procs`` of the memory cgroup to work in.
    prepare : bool
        Whether it is to write its files, down to the disk, instead of opening them.
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
        What to look up.
    seconds : float
        The turn ends after so much time, the checking included, but not before one call.
    seed : int
        Which ids.
    again : bool
        Whether the same ids may come again and again: rows are warm then. Otherwise each id stream
        goes on where it ended.
    stream_rows : int
        How many ids come before they come again.
    bytes_read : int
        The turn ends when the device has delivered so much. Rows of a cold table become warm.
    rows_together : int
        Calls are timed one after the other until they have so many rows; then these are compared.
    max_calls : int
        The turn ends after so many calls.
    """

    case: Case
    seconds: float
    seed: int
    again: bool
    stream_rows: int
    bytes_read: int
    rows_together: int = 4096
    max_calls: int = 4096


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of an order.

    Attributes
    ----------
    nanoseconds : list of int
        How long each call took.
    rows, checked_rows : int
        Rows looked up in those calls, and rows compared with what they must be.
    bytes_read : int
        Bytes that the device delivered during the calls, as the kernel counts them for the process.
    device_reads : int, optional
        Reads that the device completed during the calls, whoever asked for them.
    disk_reads_per_second : float, optional
        Direct reads that the disk did right after the turn, as many at once as suit it best.
    """

    nanoseconds: list[int] = field(default_factory=list)
    rows: int = 0
    checked_rows: int = 0
    bytes_read: int = 0
    device_reads: int | None = None
    disk_reads_per_second: float | None = None

    @property
    def seconds(self) -> float:
        """Time in calls."""
        return sum(self.nanoseconds) / 1e9

    @property
    def rows_per_second(self) -> float:
        """Rows in a second of calls."""
        return self.rows / self.seconds if self.rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it with every sample."""
        return {
            "rows": self.rows,
            "checked_rows": self.checked_rows,
            "bytes_read": self.bytes_read,
            "device_reads": self.device_reads,
            "disk_reads_per_second": self.disk_reads_per_second,
            "nanoseconds": self.nanoseconds,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in the worker: one line, and the traceback."""

    message: str
    trace: str


def percentiles(turns: list[Turn]) -> dict[str, float]:
    """Return the 50th, 90th and 99th percentile of the calls' times, in microseconds."""
    samples = np.concatenate([np.array(turn.nanoseconds, float) for turn in turns])
    values = np.percentile(samples, [50, 90, 99]) / 1e3
    return dict(zip(("p50", "p90", "p99"), values.tolist(), strict=True))


def median_rate(turns: list[Turn]) -> float:
    """Return the median over turns of the rows in a second of calls."""
    return statistics.median(turn.rows_per_second for turn in turns)


def share_of_limit(turns: list[Turn], best: float | None) -> float | None:
    """Return the device's reads per second as a share of what the disk can do.

    Parameters
    ----------
    turns : list of Turn
        Of one peer. Where the disk was measured after them, it is the median over the turns.
    best : float, optional
        What the disk can do, measured at another time.

    Returns
    -------
    float or None
        None if the device's reads, or its limit, are not known.
    """
    if any(turn.device_reads is None for turn in turns):
        return None
    rates = [(turn.device_reads or 0) / turn.seconds for turn in turns]
    beside = [turn.disk_reads_per_second for turn in turns]
    shares = [rate / limit for rate, limit in zip(rates, beside, strict=True) if limit]
    if shares:
        return statistics.median(shares)
    return statistics.median(rates) / best if best else None
