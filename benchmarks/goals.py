"""Does embstore reach what it set out to reach? Floors for a table of 4M x 300 float32 on 2 cores.

A floor is a ratio to a peer of the same run, a share of the disk's own limit, or a longest time.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.bench import report as reports
from embstore.bench import work
from embstore.bench.orders import percentiles, share_of_limit
from embstore.bench.state import COLD, LIMITED, PRELOADED, WARM
from embstore.bench.work import Case

if TYPE_CHECKING:
    from embstore.bench.measure import Comparison
    from embstore.bench.report import Report


@dataclass(frozen=True, slots=True)
class Goal:
    """A floor.

    Parameters
    ----------
    state : str
        The state.
    case : Case
        The work.
    least : float, optional
        At least so many times the rate of ``peer``, or the share of the disk's limit.
    peer : str, optional
        Name of the peer; if there is none, ``least`` is the share of the disk's limit.
    most_us : float, optional
        At most so many microseconds a call, at the median.
    """

    state: str
    case: Case
    least: float = 0.0
    peer: str | None = None
    most_us: float | None = None

    def reached(self, report: Report) -> float | None:
        """Return what was measured, or None if nothing was."""
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

    def line(self, report: Report) -> str:
        """Return one line: what, how much, and whether it is enough."""
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
    Goal(WARM, Case(work.WORDS, work.WORDS_BATCH), 3, "gensim"),
    Goal(WARM, Case(work.OPEN, 0), most_us=30_000),
)


def text(report: Report) -> str:
    """Return the floors and what was reached, one a line."""
    return "\n".join(["floors, and what was reached", *(goal.line(report) for goal in GOALS)])


def _ratio(comparisons: list[Comparison]) -> float | None:
    """Return how many times as fast as the peer embstore was."""
    found = [reports.ratio(*c.entries[:2]) for c in comparisons]
    known = [value for value in found if value is not None]
    return statistics.median(known) if known else None
