"""Plots of a comparison with peers, PNG and SVG, each readable on its own.

overview            rows per second with 4,096 ids in a call: on disk, in RAM, in limited memory
read_random_cold    rows per second by batch size, rows on disk, with the limit of the disk
read_random_ram     the same, rows in RAM or in the page cache
latency             50th, 90th and 99th percentile of a call
limited             Zipf-distributed ids in less memory than the table has

A peer has one colour and one place in all of them: embstore is the first, then the peers with the
rows in RAM. Bands and whiskers go from the slowest to the fastest round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embstore.bench import drawing, work
from embstore.bench.drawing import FONT, INK, RATE, SMALL, Frame, widest
from embstore.bench.plots import BAR_HEIGHT, Plot, bar_frame, ids_a_call, save, titled
from embstore.bench.report import count
from embstore.bench.series import STYLES, series
from embstore.bench.state import COLD, LIMITED, LIMITED_SHARE, PRELOADED, WARM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

    from embstore.bench.series import Point, Series

READ_BYTES = 4096
INTO = "embstore lookup(out=)"
BATCH = 4096
LATENCY_BATCHES = (1, 32, 4096)
BAND = "#e3e5e8"
PANEL_TITLE = 0.45  # Inches.
IN_RAM = (
    *("embstore, preloaded", "embstore, page cache"),
    *("matrix[ids]", "np.take(out=)", "torch embedding"),
)
ROUNDS = "median, and range of the rounds"


@dataclass(frozen=True, slots=True)
class Limit:
    """How many rows a second the disk can do at most, if each row takes its own direct reads.

    Parameters
    ----------
    low, high : float
        The range of the measurements, which were repeated between the turns.
    note : str
        What is counted.
    """

    low: float
    high: float
    note: str


def draw(report: dict[str, Any], directory: Path) -> list[Path]:
    """Draw what a report has.

    Parameters
    ----------
    report : dict
        ``PeerReport.to_json()``, or the content of the file that it wrote.
    directory : Path
        The directory of the plots.

    Returns
    -------
    list of Path
        The files.
    """
    limit = limit_of(report)
    cold = _ordered(series(report, work.RANDOM, (COLD,)))
    ram = _ordered(series(report, work.RANDOM, (PRELOADED, WARM)))
    # Reused arrays are faster preloaded and in the page cache alike: one line is enough.
    ram.pop(f"{INTO}, page cache", None)
    limited = _ordered(series(report, work.HOT, (LIMITED,)))
    found = {
        "overview": _overview(cold, ram, limited, limit, report),
        "read_random_cold": _by_batch(cold, "Uniform random rows on disk, page cache empty", limit),
        "read_random_ram": _by_batch(ram, "Uniform random rows in RAM or in the page cache"),
        "latency": _latency(cold, ram),
        "limited": _limited(limited, report),
    }
    plots = {name: plot for name, plot in found.items() if plot is not None}
    return save(plots, report["caption"], directory)


def limit_of(report: dict[str, Any]) -> Limit | None:
    """Return the limit of the disk in rows a second, if it was measured."""
    limit, table = report["disk_limit"], report["table"]
    if not limit:
        return None
    reads = max(math.ceil(table["bytes"] / table["rows"] / READ_BYTES), 1)
    best = [limit["best"], *limit.get("again", [])]
    a_row = "one read" if reads == 1 else f"{reads} reads"
    return Limit(
        min(best) / reads,
        max(best) / reads,
        f"the disk's limit, {a_row} of 4 KiB a row ({limit['tool']})",
    )


def _ordered(found: Series) -> Series:
    """Return series in the order of their styles; the order is the same in all plots."""
    names = list(STYLES)

    def place(label: str) -> int:
        name = label.partition(", ")[0]
        return names.index(name) if name in names else len(names)

    return dict(sorted(found.items(), key=lambda one: place(one[0])))


def _by_batch(found: Series, title: str, limit: Limit | None = None) -> Plot | None:
    if not found:
        return None
    if len({batch for points in found.values() for batch in points}) == 1:
        ((batch, points),) = _by_size(found).items()
        figure = bar_frame(titled(Frame(9.5, 0)), points).figure()
        drawing.bars(figure.subplots(), points)
        return Plot(f"{title}, {ids_a_call(batch)}", f"rows a second: {ROUNDS}", figure)
    names = {name: name.replace(INTO, "embstore out=") for name in found}
    figure = titled(Frame(9.5, 5.0, right=widest(names.values()))).figure()
    axes = figure.subplots()
    drawing.curves(axes, found, RATE, names=names, at_least=limit.high if limit else 0)
    if limit:
        axes.axhspan(limit.low, limit.high, color=BAND, linewidth=0, zorder=0)
        axes.axhline(limit.high, color=INK, linestyle=(0, (2, 2)), linewidth=1)
        axes.annotate(
            limit.note,
            (min(axes.get_xticks()), limit.high),
            (0, 4),
            textcoords="offset points",
            fontsize=SMALL,
            color=INK,
        )
    return Plot(title, f"rows a second: {ROUNDS}; both axes are logarithmic", figure)


def _by_size(found: Series) -> dict[int, dict[str, Point]]:
    sizes = sorted({batch for points in found.values() for batch in points})
    return {
        size: {label: points[size] for label, points in found.items() if size in points}
        for size in sizes
    }


def _overview(
    cold: Series, ram: Series, limited: Series, limit: Limit | None, report: dict[str, Any]
) -> Plot | None:
    """Return bars: on disk to the left, in RAM and in limited memory to the right."""
    on_disk, in_ram = _by_size(cold).get(BATCH, {}), _by_size(ram).get(BATCH, {})
    in_ram = {name: in_ram[name] for name in IN_RAM if name in in_ram}
    hot = _by_size(limited).get(BATCH, {})
    if not (on_disk and in_ram):
        return None
    left = {"Rows on disk": on_disk}
    right = {"Rows in RAM": in_ram} | ({"Limited memory, Zipf ids": hot} if hot else {})
    # Inches: of the axes below the first titles, and of names and a gap between the columns.
    height = max(map(_height, (left, right)))
    frame = Frame(12, height + PANEL_TITLE, widest(on_disk), 0.25, PANEL_TITLE, 0.05)
    gap = widest(in_ram) + 0.2
    column = (frame.width - frame.left - frame.right - gap) / 2
    figure = titled(frame).figure()
    grid = figure.add_gridspec(1, 2, wspace=gap / column)
    axes, *_ = _panels(figure, grid[0], left, height)
    _panels(figure, grid[1], right, height)
    note = f"{ROUNDS}; uniform ids, page cache empty for rows on disk"
    if limit:
        _limit_beside(axes, limit)
        note += f"\ngrey: {limit.note}, {count(limit.low)} to {count(limit.high)}"
    if hot:
        note += f"; limited memory: 1/{LIMITED_SHARE} of the table"
    size = report["table"]["bytes"] / 1e9
    title = f"Random rows of a table of {size:.2g} GB: rows a second, {ids_a_call(BATCH)}"
    return Plot(title, note, figure)


def _height(panels: Mapping[str, Mapping[str, Point]]) -> float:
    """Return the inches of panels in a column, without the title of the first."""
    bars = sum(map(len, panels.values()))
    return BAR_HEIGHT * bars + PANEL_TITLE * (len(panels) - 1)


def _panels(
    figure: Figure, place: SubplotSpec, panels: Mapping[str, Mapping[str, Point]], height: float
) -> list[Axes]:
    """Draw panels of bars below each other, all bars of one width; return their axes."""
    inches = []
    for points in panels.values():
        inches += [BAR_HEIGHT * len(points), PANEL_TITLE]
    inches[-1] = max(height - _height(panels), 0.001)
    grid = place.subgridspec(len(inches), 1, height_ratios=inches, hspace=0)
    found = []
    for number, (title, points) in enumerate(panels.items()):
        found.append(axes := figure.add_subplot(grid[2 * number]))
        drawing.bars(axes, points)
        axes.set_title(title, loc="left", fontsize=FONT, color=INK, pad=4, weight="bold")
    return found


def _limit_beside(axes: Axes, limit: Limit) -> None:
    """Draw the limit of the disk behind bars, with its name above."""
    axes.set_xlim(0, max(axes.get_xlim()[1], limit.high * 1.01))
    axes.axvspan(limit.low, limit.high, color=BAND, linewidth=0, zorder=0)
    axes.axvline(limit.high, color=INK, linestyle=(0, (2, 2)), linewidth=1, zorder=0)
    axes.annotate(
        "the disk's limit",
        (limit.high, 1),
        (0, 5),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        fontsize=SMALL,
        color=INK,
    )


def _latency(cold: Series, ram: Series) -> Plot | None:
    """Return spans: a column for each batch size, RAM above disk, the same peers in each line."""
    kinds = [
        (where, _by_size(found), found)
        for where, found in (("in RAM", ram), ("on disk", cold))
        if found
    ]
    batches = [n for n in LATENCY_BATCHES if all(n in sizes for _, sizes, _ in kinds)]
    if not (kinds and batches):
        return None
    names = widest({name: 0 for _, _, found in kinds for name in found})
    lines = [len(found) for _, _, found in kinds]
    frame = titled(
        Frame(12.5, 0.29 * sum(lines) + 0.85 * len(lines), left=names, bottom=0.35, top=0.3)
    )
    figure = frame.figure()
    grid = figure.subplots(
        len(kinds),
        len(batches),
        squeeze=False,
        gridspec_kw={
            "height_ratios": lines,
            "wspace": 0.1,
            "hspace": 0.75 / (0.29 * sum(lines) / len(lines)),
        },
    )
    for row, (where, sizes, found) in zip(grid, kinds, strict=True):
        for column, (axes, batch) in enumerate(zip(row, batches, strict=True)):
            points = {name: sizes.get(batch, {}).get(name) for name in found}
            drawing.spans(axes, points, names=column == 0)
            title = f"Rows {where}, {ids_a_call(batch)}"
            axes.set_title(title, loc="left", fontsize=SMALL + 0.5, color=INK, weight="bold", pad=5)
    note = "median (circle), 90 % (bar) and 99 % (arrow) of the calls; logarithmic axes"
    return Plot("Time of one call", note, figure)


def _limited(found: Series, report: dict[str, Any]) -> Plot | None:
    """Return bars of the rows per second in limited memory, or None if that was not measured."""
    if not found:
        return None
    batch, points = max(_by_size(found).items())
    figure = bar_frame(titled(Frame(9.5, 0)), points).figure()
    drawing.bars(figure.subplots(), points)
    size = next(each["memory_bytes"] for each in report["comparisons"] if each["state"] == LIMITED)
    times = report["table"]["bytes"] / size
    title = f"{size / 2**20:,.0f} MiB of memory for a table {times:.0f} times as large"
    ids = f"Zipf-distributed ids, exponent {work.ZIPF_EXPONENT}"
    note = f"rows a second, {ids_a_call(batch)}, {ids}: {ROUNDS}"
    return Plot(title, note, figure)
