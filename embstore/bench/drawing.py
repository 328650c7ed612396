"""Drawing by matplotlib: curves, bars and spans in one style, with labels beside what they name.

A figure's axes lie in a frame of margins in inches, so that figures of several kinds line up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embstore.bench.report import count
from embstore.bench.series import below, style

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from embstore.bench.series import Point, Series

INK, MUTED, GRID, ON_BAR = "#1c2128", "#59636e", "#d8dee4", "#fffffe"
FONT, SMALL = 10.5, 9.5  # Points.
LABEL_GAP = 13.0  # Points between the middles of two labels.
VALUE_WIDTH = 50.0  # Points of a value beside a bar.
TICK_WIDTH = 42.0  # Points of a label below an axis.
CHARACTER = 0.088  # Inches of a character of a label, about.
TIMES = ("µs", "ms", "s")


@dataclass(frozen=True, slots=True)
class Quantity:
    """What an axis shows: its name, the attributes of a `Point`, and the units of its values."""

    name: str
    low: str
    middle: str
    high: str
    units: tuple[str, ...] = ("", "k", "M", "G")

    def of(self, point: Point) -> tuple[float, float, float]:
        """Return the low end, the middle and the high end of a point."""
        return getattr(point, self.low), getattr(point, self.middle), getattr(point, self.high)

    def shown(self, value: float, _: object = None) -> str:
        """Return a value with its unit."""
        return count(value, self.units)


RATE = Quantity("rows a second", "slowest", "rate", "fastest")
TIME = Quantity("time of one call", "p50", "p50", "p99", TIMES)


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a figure, its margins, and the height of a caption below them, in inches."""

    width: float
    height: float
    left: float = 0.75
    right: float = 0.15
    top: float = 0.12
    bottom: float = 0.56
    caption: float = 0

    def figure(self) -> Figure:
        """Return an empty figure with these margins."""
        from matplotlib.figure import Figure  # noqa: PLC0415  # Optional, and slow to import.

        figure = Figure(figsize=(self.width, self.height))
        figure.subplots_adjust(
            left=self.left / self.width,
            right=1 - self.right / self.width,
            top=1 - self.top / self.height,
            bottom=(self.bottom + self.caption) / self.height,
        )
        return figure


def curves(
    axes: Axes,
    series: Series,
    what: Quantity,
    *,
    names: Mapping[str, str] | None = None,
    at_least: float = 0,
) -> None:
    """Draw a line for each competitor, over batch sizes, with a band from low to high.

    ``names`` are shown for labels; the axis reaches ``at_least`` as far up.
    """
    for name, points in series.items():
        look = style(name)
        low, middle, high = zip(*map(what.of, points.values()), strict=True)
        axes.fill_between(list(points), low, high, color=look.colour, alpha=0.14, linewidth=0)
        axes.plot(
            list(points),
            middle,
            look.line,
            color=look.colour,
            linewidth=look.width,
            marker=look.marker,
            markersize=4 + look.width,
            markeredgewidth=0,
        )
    batches = sorted({batch for points in series.values() for batch in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
    axes.minorticks_off()
    axes.set_xlim(batches[0] / 1.25, batches[-1] * 1.1)
    values = [value for points in series.values() for p in points.values() for value in what.of(p)]
    log_axis(axes, "y", min(values), max([*values, at_least]), what)
    axes.set_xlabel("ids in one call", fontsize=SMALL, color=MUTED)
    tidy(axes, grid="y")
    name_curves(axes, series, what, names or {})


def log_axis(axes: Axes, which: str, low: float, high: float, what: Quantity) -> None:
    """Make an axis logarithmic; ticks have round values, and a unit."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415

    # Close values are not drawn as if they were far apart; round values lie between the ends.
    room = max((high / low) ** 0.06 * 1.08, (4 * low / high) ** 0.5)
    low, high = low / room, high * room
    decades = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    between = (1, 2, 5) if which == "y" else (1, 3)
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(low, high)
    box, points_of = axes.get_window_extent(), 72 / axes.figure.dpi
    length, each = (box.width, TICK_WIDTH) if which == "x" else (box.height, LABEL_GAP)
    most = int(length * points_of / each)
    subs = (1,) if decades > 1 else between
    axis.set_major_locator(LogLocator(subs=subs, numticks=max(most, 2)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(what.shown)


def tidy(axes: Axes, grid: Literal["x", "y"] | None = None) -> None:
    """Remove what is no information: the box, the marks of ticks."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=MUTED)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)


def name_curves(axes: Axes, series: Series, what: Quantity, names: Mapping[str, str]) -> None:
    """Put the names of curves to their right, none over another."""
    points_of = 72 / axes.figure.dpi  # Points of a pixel.
    box = axes.get_window_extent()
    ends = {name: max(points) for name, points in series.items()}
    values = [what.of(series[name][batch])[1] for name, batch in ends.items()]
    pixels = [
        axes.transData.transform((batch, value))
        for batch, value in zip(ends.values(), values, strict=True)
    ]
    wanted = [y * points_of for _, y in pixels]
    placed = spread(wanted, LABEL_GAP, box.y0 * points_of, box.y1 * points_of)
    for (name, batch), value, own, at in zip(ends.items(), values, pixels, placed, strict=True):
        colour = style(name).colour
        offset = ((box.x1 - own[0]) * points_of + 9, at - own[1] * points_of)
        axes.annotate(
            names.get(name, name),
            (batch, value),
            offset,
            textcoords="offset points",
            color=colour,
            fontsize=SMALL,
            fontweight="bold" if style(name).stands_out else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.35,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
        )


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places at least ``gap`` apart between low and high, as near as can be.

    Examples
    --------
    >>> spread([5, 1, 5.5], 1, 0, 10)
    [4.75, 1.0, 5.75]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    # Without the gaps, places must not descend: what would is moved to its mean.
    groups: list[list[float]] = []
    for number, index in enumerate(order):
        groups.append([places[index] - number * gap])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    top = high - (len(places) - 1) * gap
    moved = [max(low, min(_mean(group), top)) for group in groups for _ in group]
    found = [0.0] * len(places)
    for number, index in enumerate(order):
        found[index] = moved[number] + number * gap
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def bars(axes: Axes, points: Mapping[str, Point], what: Quantity = RATE) -> None:
    """Draw a bar from zero for each competitor, from top to bottom, with a whisker and its value.

    Values stand in long bars, and beside short ones.
    """
    ends = [what.of(point) for point in points.values()]
    longest = max(high for _, _, high in ends)
    # The part of the axis that is left of the last value.
    part = 1 - VALUE_WIDTH * axes.figure.dpi / 72 / axes.get_window_extent().width
    reach = longest * 1.02
    for place, (name, (low, middle, high)) in enumerate(zip(points, ends, strict=True)):
        look = style(name)
        axes.barh(place, middle, 0.6, color=look.colour)
        axes.plot([low, high], [place, place], color=INK, linewidth=1, marker="|", markersize=5)
        inside = low > longest / 2
        if not inside:
            reach = max(reach, high / part)
        axes.annotate(
            what.shown(middle),
            (low if inside else high, place),
            (-7 if inside else 7, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=FONT,
            color=ON_BAR if inside else INK,
            fontweight="bold" if look.stands_out else "normal",
            annotation_clip=False,
        )
    axes.set_xlim(0, reach)
    axes.set_xticks([])
    name_places(axes, points)
    axes.spines["bottom"].set_visible(False)


def spans(axes: Axes, points: Mapping[str, Point | None], *, names: bool = True) -> None:
    """Draw the median, the 90th and the 99th percentile of the times of each competitor.

    A competitor without a point keeps its place.
    """
    known = [point for point in points.values() if point is not None]
    for place, (name, point) in enumerate(points.items()):
        if point is None:
            continue
        colour = style(name).colour
        axes.plot([point.p50, point.p99], [place, place], color=colour, linewidth=2, alpha=0.4)
        for value, mark in ((point.p50, "o"), (point.p90, "|"), (point.p99, ">")):
            axes.plot(value, place, mark, color=colour, markersize=6)
    values = [value for point in known for value in (point.p50, point.p99)]
    log_axis(axes, "x", min(values), max(values), TIME)
    name_places(axes, points if names else dict.fromkeys(" " * n for n in range(len(points))))
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.8)


def name_places(axes: Axes, names: Mapping[str, object]) -> None:
    """Put names to the left of bars or spans, the first on top."""
    tidy(axes)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), list(map(below, names)), color=INK)
    for text, name in zip(axes.get_yticklabels(), names, strict=True):
        text.set_fontweight("bold" if style(name).stands_out else "normal")


def widest(names: Iterable[str]) -> float:
    """Return about how many inches the longest of some names takes."""
    return CHARACTER * max(map(len, map(below, names))) + 0.25
