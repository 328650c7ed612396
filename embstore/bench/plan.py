"""Plans of a measurement: which cases in which states, how long it takes, what it cannot show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from embstore.bench import work
from embstore.bench.report import plural
from embstore.bench.state import COLD, LIMITED, PRELOADED, STATES, WARM
from embstore.bench.timing import limits_of
from embstore.bench.work import Case

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    # The cases to measure in each state.
    Plan = dict[str, list[Case]]

# The states in which each kind of lookup is timed.
MEASURED = {
    work.OPEN: (WARM, COLD),
    work.RANDOM: (PRELOADED, WARM, COLD),
    work.HOT: STATES,
    work.ONE: (PRELOADED, WARM),
    work.SAME: (PRELOADED, WARM),
}


def plan_of(
    cases: Sequence[Case], states: Sequence[str], *, compressed: bool
) -> tuple[Plan, list[str]]:
    """Return the cases to measure in each state that has any, and what is left out, and why.

    >>> plan_of([Case("read_one", 1)], ["warm", "cold"], compressed=False)
    ({'warm': [Case(work='read_one', batch=1)]}, [])
    """
    plan = {
        name: chosen
        for name in sorted(set(states), key=STATES.index)
        if (chosen := [case for case in cases if name in MEASURED[case.work]])
    }
    if LIMITED in plan:
        plan[LIMITED] = [Case(work.HOT, work.HOT_BATCH)]
    if compressed and PRELOADED in states:
        plan.pop(PRELOADED, None)
        return plan, ["preloaded: rows of a compressed store are preloaded only by a row cache"]
    return plan, []


def seconds_most(plan: Plan, rounds: int, seconds: float) -> float:
    """Return about how long a plan takes at most; turns on disk end if they have read enough."""
    return sum(
        limits_of(name, case, seconds, 0).seconds * (2 * rounds + (name == LIMITED))
        for name, cases in plan.items()
        for case in cases
    )


def repeating(plan: Plan, rows: int) -> Iterator[str]:
    """Yield a line for each batch of uniform ids in which many repeat, as the table is small."""
    cases = {case for chosen in plan.values() for case in chosen if case.work == work.RANDOM}
    for batch in sorted(case.batch for case in cases):
        if batch > max(rows // 2, 1):
            yield (
                f"{batch:,} ids a call: the table has {plural(rows, 'row')}, so ids repeat within "
                "a call, which reads fewer rows than it returns"
            )


def duration(seconds: float) -> str:
    """Return a time in words, rounded up.

    >>> duration(0.2), duration(34), duration(185)
    ('a few seconds', 'about 40 seconds', 'about 4 minutes')
    """
    if seconds < 5:
        return "a few seconds"
    if seconds <= 90:
        return f"about {math.ceil(seconds / 10) * 10} seconds"
    return f"about {math.ceil(seconds / 60)} minutes"
