"""Goals for a table of 4,000,000 x 300 float32 on 2 cores, and whether a report reaches them.

A goal is a lowest ratio to a peer of the same run, a lowest share of the limit of the disk, or a
longest time.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.orders import WORDS, WORDS_BATCH, share_of_limit
from embstore.bench import report as reports
from embstore.bench import work
from embstore.bench.state import COLD, LIMITED, PRELOADED, WARM
from embstore.bench.timing import percentiles
from embstore.bench.work import Case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.report import PeerReport
    from embstore.bench.report import Comparison


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal for one kind of work in one state.

    Parameters
    ----------
    state : str
        The state.
    case : Case
        The work.
    least : float, optional
        The lowest ratio to the rate of ``peer``, or the lowest share of the limit of the disk.
    peer : str, optional
        Name of the peer; without one, ``least`` is a share of the limit of the disk.
    most_us : float, optional
        The longest median time of a call, in microseconds.
    """

    state: str
    case: Case
    least: float = 0.0
    peer: str | None = None
    most_us: float | None = None

    def reached(self, report: PeerReport) -> float | None:
        """Return the measured value, or None if it was not measured."""
        chosen = [c for c in report.comparisons if (c.state, c.case) == (self.state, self.case)]
        chosen = [c for c in chosen if c.entries[0].turns]
        if self.peer is not None:
            return _ratio([c for c in chosen if c.entries[1].name == self.peer])
        if not chosen:
            return None
        if self.most_us is not None:
            return percentiles([turn for c in chosen for turn in c.entries[0].turns])["p50"]
        turns = [turn for c in chosen for turn in c.entries[0].turns]
        return share_of_limit(turns, report.disk_best)

    def line(self, report: PeerReport) -> str:
        """Return one line: the goal, the measured value, and whether it is enough."""
        value = self.reached(report)
        batch = f", batch {self.case.batch:,}" if self.case.batch else ""
        what = f"{self.state}, {self.case.work}{batch}"
        if self.most_us is not None:
            what, floor, shown = f"{what}, p50", f"<= {self.most_us:g} us", f"{value or 0:.3g} us"
        else:
            what += f", against {self.peer}" if self.peer else ", share of the disk's limit"
            floor, shown = f">= {self.least:g}", f"{value or 0:.2f}"
        if value is None:
            return f"  {what:<62}{floor:>12}{'not measured':>14}"
        enough = value <= self.most_us if self.most_us is not None else value >= self.least
        return f"  {what:<62}{floor:>12}{shown:>14}  {'yes' if enough else 'NO'}"


LARGE = (Case(work.RANDOM, 4096), Case(work.RANDOM, 65536))
GOALS = (
    *(Goal(PRELOADED, case, 2.0, "matrix[ids]") for case in LARGE),
    *(Goal(PRELOADED, case, 1.0, "np.take(out=)") for case in LARGE),
    *(Goal(PRELOADED, case, 1.0, "torch embedding") for case in LARGE),
    *(Goal(WARM, case, 1.3, "matrix[ids]") for case in LARGE),
    Goal(WARM, Case(work.RANDOM, 32), most_us=10),
    Goal(WARM, Case(work.SAME, 32), most_us=10),
    Goal(WARM, Case(work.ONE, 1), most_us=4),
    Goal(WARM, Case(work.SAME, 1), most_us=4),
    Goal(COLD, LARGE[0], 10, "np.memmap"),
    Goal(COLD, LARGE[0], 2, "Lance take"),
    Goal(COLD, LARGE[0], 0.9),
    Goal(COLD, Case(work.RANDOM, 256), 9, "np.memmap"),
    Goal(LIMITED, Case(work.HOT, work.HOT_BATCH), 10, "np.memmap"),
    Goal(WARM, Case(WORDS, WORDS_BATCH), 3, "gensim"),
    Goal(WARM, Case(work.OPEN, 0), most_us=30_000),
)


def text(report: PeerReport, goals: Sequence[Goal] = GOALS) -> str:
    """Return the goals and the measured values, one a line."""
    return "\n".join(["goals, and what was reached", *(goal.line(report) for goal in goals)])


def _ratio(comparisons: list[Comparison]) -> float | None:
    """Return the median of how many times as fast as its peer embstore was."""
    found = [reports.ratio(*c.entries[:2]) for c in comparisons]
    known = [value for value in found if value is not None]
    return statistics.median(known) if known else None
