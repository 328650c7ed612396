"""How does it look? Pictures of a report's JSON, PNG and SVG, each readable on its own.

read_random_ram     rows per second against batch size, rows in RAM or in the page cache
read_random_cold    the same, rows on disk, with the disk's own limit
latency             50th, 90th and 99th percentile of a call
limited             Zipf ids in less memory than the table has
"""

from __future__ import annotations

import importlib.util
import math
import statistics
from itertools import cycle
from typing import TYPE_CHECKING, Any

from embstore.bench import work
from embstore.bench.state import COLD, LIMITED, PRELOADED, WARM

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Name of a peer to name of its curve, and to batch size, to its figures.
Curves = dict[str, dict[int, dict[str, float]]]

LATENCY_BATCHES = (1, 32, 4096)
OWN_COLOUR, OWN_INTO_COLOUR = "#d62728", "#ff9896"
# Red is embstore's.
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#393b79"),
)
STATE_NAMES = {PRELOADED: ", preloaded", WARM: ", page cache warm", COLD: ""}


def missing() -> str | None:
    """Return the name of the package that is not installed, or None."""
    return None if importlib.util.find_spec("matplotlib") else "matplotlib"


def draw(report: dict[str, Any], directory: Path) -> list[Path]:
    """Draw what a report has.

    Parameters
    ----------
    report : dict
        `embstore.bench.report.Report.to_json`, or what it wrote.
    directory : Path
        Where the files go.

    Returns
    -------
    list of Path
        The files.
    """
    pictures = {
        "read_random_ram": _throughput(report, (PRELOADED, WARM)),
        "read_random_cold": _throughput(report, (COLD,)),
        "latency": _latency(report),
        "limited": _limited(report),
    }
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in pictures.items():
        if figure is None:
            continue
        figure.text(0.01, 0.01, report["caption"], fontsize=7, color="#555555", wrap=True)
        for ending in ("png", "svg"):
            file = directory / f"{name}.{ending}"
            figure.savefig(file, dpi=150)
            files.append(file)
    return files


def curves(report: dict[str, Any], name: str, states: tuple[str, ...]) -> Curves:
    """Return the figures of one work: rows per second and percentiles, by peer and batch size.

    Where a peer was in several comparisons, the median over them.
    """
    found: dict[str, dict[int, list[dict[str, float]]]] = {}
    for comparison in report["comparisons"]:
        if comparison["work"] != name or comparison["state"] not in states:
            continue
        for entry in comparison["entries"]:
            if not entry["turns"]:
                continue
            label = entry["name"]
            if label.startswith("embstore"):
                label += STATE_NAMES.get(comparison["state"], "")
            figures = {"rate": entry["rows_per_second"], **entry["microseconds"]}
            found.setdefault(label, {}).setdefault(comparison["batch"], []).append(figures)
    return {
        label: {
            batch: {key: statistics.median(each[key] for each in several) for key in several[0]}
            for batch, several in sorted(batches.items())
        }
        for label, batches in found.items()
    }


def _throughput(report: dict[str, Any], states: tuple[str, ...]) -> Figure | None:
    found = curves(report, work.RANDOM, states)
    if not found:
        return None
    figure, axes = _figure()
    styles = _styles(report)
    for label, batches in found.items():
        rates = [figures["rate"] for figures in batches.values()]
        axes.plot(list(batches), rates, label=label, **styles[label])
    limit = report["disk_limit"]
    if states == (COLD,) and limit:
        text = f"{limit['tool']}: best of 4 KiB direct reads"
        axes.axhline(limit["best"], color="black", linestyle=":", label=text)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({batch for batches in found.values() for batch in batches}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("ids in one call")
    axes.set_ylabel("rows per second")
    where = "on disk, page cache empty" if states == (COLD,) else "in RAM or in the page cache"
    axes.set_title(f"Uniform random rows, {where}")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _latency(report: dict[str, Any]) -> Figure | None:
    panels = []
    for states, where in (((PRELOADED, WARM), "in RAM"), ((COLD,), "on disk")):
        found = curves(report, work.RANDOM, states)
        for batch in LATENCY_BATCHES:
            chosen = {label: each[batch] for label, each in found.items() if batch in each}
            if chosen:
                ids = "1 id" if batch == 1 else f"{batch:,} ids"
                panels.append((f"{ids} a call, rows {where}", chosen))
    if not panels:
        return None
    columns = min(len(panels), len(LATENCY_BATCHES))
    lines = -(-len(panels) // columns)
    figure = _canvas(5.2 * columns, 3.8 * lines + 0.6)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    styles = _styles(report)
    for axes, (title, chosen) in zip(grid.flat, panels, strict=False):
        _latency_panel(axes, title, chosen, styles)
    figure.suptitle("Time of one call: median (circle), 90 % (bar), 99 % (arrow)", fontsize=11)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def _latency_panel(
    axes: Axes, title: str, chosen: dict[str, dict[str, float]], styles: dict[str, dict[str, Any]]
) -> None:
    labels = sorted(chosen, key=lambda label: chosen[label]["p50"])
    places = range(len(labels), 0, -1)
    colours = [styles[label]["color"] for label in labels]
    low, high = ([chosen[label][name] for label in labels] for name in ("p50", "p99"))
    axes.hlines(places, low, high, color=colours, alpha=0.5)
    for name, mark in (("p50", "o"), ("p90", "|"), ("p99", ">")):
        values = [chosen[label][name] for label in labels]
        axes.scatter(values, places, marker=mark, color=colours, s=30)
    axes.set_xscale("log")
    # Whole decades are labelled, so at least two must be there.
    axes.set_xlim(10 ** math.floor(math.log10(min(low))), 10 ** math.ceil(math.log10(max(high))))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_yticks(list(places), labels, fontsize=7)
    axes.set_xlabel("microseconds a call")
    axes.set_title(title, fontsize=9)
    axes.grid(visible=True, axis="x", alpha=0.3)


def _limited(report: dict[str, Any]) -> Figure | None:
    found = curves(report, work.HOT, (LIMITED,))
    sizes = [c["memory_bytes"] for c in report["comparisons"] if c["state"] == LIMITED]
    if not found:
        return None
    figure, axes = _figure()
    labels = list(found)
    rates = [next(iter(batches.values()))["rate"] for batches in found.values()]
    styles = _styles(report)
    bars = axes.bar(labels, rates, color=[styles[label]["color"] for label in labels])
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates])
    axes.set_ylabel("rows per second")
    batch = next(iter(next(iter(found.values()))))
    times = report["table"]["bytes"] / sizes[0]
    axes.set_title(
        f"Zipf 1.1 ids, {batch:,} a call, {sizes[0] / 2**20:,.0f} MiB of memory for a table "
        f"{times:.0f} times that",
        fontsize=10,
    )
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = _canvas(9.5, 5.2)
    figure.subplots_adjust(left=0.09, right=0.7, bottom=0.16)
    return figure, figure.subplots()


def _canvas(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415  # Optional, and slow to import.

    return Figure(figsize=(width, height))


def _styles(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return how each curve looks: embstore's stand out, a peer's colour is the same everywhere."""
    styles: dict[str, dict[str, Any]] = {}
    colours = cycle(COLOURS)
    for name in dict.fromkeys(
        entry["name"] for comparison in report["comparisons"] for entry in comparison["entries"]
    ):
        if not name.startswith("embstore"):
            styles[name] = {"marker": ".", "linewidth": 1.2, "color": next(colours)}
            continue
        for state, shown in STATE_NAMES.items():
            styles[name + shown] = {
                "marker": "o",
                "linewidth": 2.2,
                "color": OWN_INTO_COLOUR if "out=" in name else OWN_COLOUR,
                "linestyle": "--" if state == WARM else "-",
            }
    return styles
