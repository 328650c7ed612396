"""Series of a report's figures, by competitor and batch size, and the styles to draw them in.

Everything is read from the JSON of a report, so that an earlier run can be drawn again.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embstore.bench.state import COLD, LIMITED, PRELOADED, STATES, WARM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What is said of embstore's rows in each state.
PLACES = {
    PRELOADED: "preloaded",
    WARM: "page cache",
    COLD: "disk",
    LIMITED: "limited memory",
}
OWN = "embstore"
BESIDE = ", beside "


@dataclass(frozen=True, slots=True)
class Point:
    """Figures of a competitor for one batch size, over all of its rounds.

    Parameters
    ----------
    slowest, rate, fastest : float
        Rows a second: of the slowest round, the median, and of the fastest.
    p50, p90, p99 : float
        Percentiles of the times of calls, in microseconds.
    """

    slowest: float
    rate: float
    fastest: float
    p50: float
    p90: float
    p99: float


# From the label of a competitor, and a batch size.
Series = dict[str, dict[int, Point]]


def series(report: dict[str, Any], work: str, states: Sequence[str]) -> Series:
    """Return the figures of one kind of work in some states, batch sizes ascending.

    embstore comes first, and has a label for each state, if there are several. A competitor that
    was in several comparisons has one point of them all.
    """
    several = len(states) > 1
    found = _by_label(
        report, work, states, lambda name, state: label(name, state if several else None)
    )
    return dict(sorted(found.items(), key=lambda one: not one[0].startswith(OWN)))


def pairs(report: dict[str, Any], work: str, states: Sequence[str] = STATES) -> Series:
    """Return the figures of embstore in each state, before those of the array in the same rounds.

    Rounds of other states are no comparison: the machine may have been faster or slower then.
    """
    found = _by_label(report, work, states, label_of_pair)
    order = [label_of_pair(name, one) for one in states for name in (OWN, "matrix[ids]")]
    return dict(sorted(found.items(), key=lambda one: order.index(one[0])))


def _by_label(
    report: dict[str, Any],
    work: str,
    states: Sequence[str],
    named: Callable[[str, str], str],
) -> Series:
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for each in sorted(report["comparisons"], key=lambda each: int(each["batch"])):
        if each["work"] != work or each["state"] not in states:
            continue
        for entry in each["entries"]:
            if "rates" in entry:
                name = named(entry["name"], each["state"])
                found.setdefault(name, {}).setdefault(each["batch"], []).append(entry)
    return {
        name: {batch: _point(entries) for batch, entries in batches.items()}
        for name, batches in found.items()
    }


def label(name: str, state: str | None) -> str:
    """Return the label of a competitor in a state; it has rows in one place only, but embstore."""
    return f"{name}, {PLACES[state]}" if state and name.startswith(OWN) else name


def label_of_pair(name: str, state: str) -> str:
    """Return the label of embstore in a state, or of what took turns with it.

    >>> label_of_pair("embstore", "cold"), label_of_pair("matrix[ids]", "cold")
    ('embstore, disk', 'matrix[ids], beside disk')
    """
    place = PLACES[state]
    return f"{name}, {place}" if name.startswith(OWN) else f"{name}{BESIDE}{place}"


def below(label: str) -> str:
    """Return a label as it is shown right below embstore's of the same rounds.

    >>> below("matrix[ids], beside disk"), below("embstore, disk")
    ('matrix[ids], same rounds', 'embstore, disk')
    """
    name, beside, _ = label.partition(BESIDE)
    return f"{name}, same rounds" if beside else label


def _point(entries: list[dict[str, Any]]) -> Point:
    rates = [rate for entry in entries for rate in entry["rates"]]
    times = {
        key: statistics.median(entry["microseconds"][key] for entry in entries)
        for key in ("p50", "p90", "p99")
    }
    return Point(min(rates), statistics.median(rates), max(rates), **times)


@dataclass(frozen=True, slots=True)
class Style:
    """How a competitor is drawn: embstore stands out."""

    colour: str
    marker: str = "o"
    line: str = "-"
    width: float = 1.4

    @property
    def stands_out(self) -> bool:
        """Whether its name is bold."""
        return self.width > 2


# A competitor has its colour and its marker everywhere.
STYLES = {
    OWN: Style("#c8470b", width=2.4),
    "embstore lookup(out=)": Style("#c8470b", "D", width=1.2),
    "matrix[ids]": Style("#0060a8", "s"),
    "np.take(out=)": Style("#1787b0", "v"),
    "torch embedding": Style("#7a3db8", "^"),
    "np.memmap": Style("#00805c", "s"),
    "Lance take": Style("#a87900", "D"),
    "LMDB": Style("#8a5a44", "^"),
    "h5py": Style("#5f6b76", "v"),
    "zarr oindex": Style("#b0307a", "P"),
    "tensorstore": Style("#5d7f1e", "X"),
    "engramdb fetch": Style("#2f4b7c", "<"),
    "engramdb io_uring": Style("#4b78c8", ">"),
}
# Names of single calls.
STYLES |= {"open": STYLES[OWN], "store[5]": STYLES[OWN], "matrix[5]": STYLES["matrix[ids]"]}
LINES = {PLACES[WARM]: "--", PLACES[COLD]: "-", PLACES[LIMITED]: ":"}


def style(name: str) -> Style:
    """Return the style of a label."""
    competitor, _, place = name.replace(BESIDE, ", ").partition(", ")
    found = STYLES.get(competitor, Style("#5f6b76"))
    line = LINES.get(place, "-")
    return Style(found.colour, found.marker, line, found.width)
