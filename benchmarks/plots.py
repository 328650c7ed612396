"""Plots of a comparison with peers, PNG and SVG, each readable on its own.

read_random_ram     rows per second by batch size, rows in RAM or in the page cache
read_random_cold    the same, rows on disk, with the limit of the disk
latency             50th, 90th and 99th percentile of a call
limited             Zipf-distributed ids in less memory than the table has
"""

from __future__ import annotations

import math
import statistics
from itertools import cycle
from typing import TYPE_CHECKING, Any

from embstore.bench import work
from embstore.bench.plots import batch_axis, canvas, save
from embstore.bench.state import COLD, LIMITED, PRELOADED, STATES, WARM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# From the label of a curve and a batch size to its figures.
Curves = dict[str, dict[int, dict[str, float]]]

STATE_LABELS = {PRELOADED: ", preloaded", WARM: ", page cache warm"}
PLACES = {(PRELOADED, WARM): "in RAM or in the page cache", (COLD,): "on disk, page cache empty"}
LATENCY_BATCHES = (1, 32, 4096)
OWN_COLOUR, OWN_INTO_COLOUR = "#d62728", "#ff9896"
# Red is for embstore.
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#393b79"),
)


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
    colours = {label: style["color"] for label, style in _styles(report).items()}
    figures = {
        "read_random_ram": _throughput(report, (PRELOADED, WARM)),
        "read_random_cold": _throughput(report, (COLD,)),
        "latency": _latency(report),
        "limited": _limited(report, colours),
    }
    return save(figures, report["caption"], directory)


def _throughput(report: dict[str, Any], states: tuple[str, ...]) -> Figure | None:
    found = _curves(report, work.RANDOM, states)
    if not found:
        return None
    figure = canvas(9.5, 5.2)
    figure.subplots_adjust(left=0.09, right=0.7, bottom=0.16)
    axes = figure.subplots()
    styles = _styles(report)
    for label, batches in found.items():
        rates = [figures["rate"] for figures in batches.values()]
        axes.plot(list(batches), rates, label=label, **styles[label])
    limit = report["disk_limit"]
    if states == (COLD,) and limit:
        text = f"{limit['tool']}: best of 4 KiB direct reads"
        axes.axhline(limit["best"], color="black", linestyle=":", label=text)
    batch_axis(axes, {batch for batches in found.values() for batch in batches})
    axes.set_ylabel("rows per second")
    axes.set_title(f"Uniform random rows, {PLACES[states]}")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _latency(report: dict[str, Any]) -> Figure | None:
    panels = []
    for states, where in (((PRELOADED, WARM), "in RAM"), ((COLD,), "on disk")):
        found = _curves(report, work.RANDOM, states)
        for batch in LATENCY_BATCHES:
            chosen = {label: each[batch] for label, each in found.items() if batch in each}
            if chosen:
                ids = "1 id" if batch == 1 else f"{batch:,} ids"
                panels.append((f"{ids} a call, rows {where}", chosen))
    if not panels:
        return None
    columns = min(len(panels), len(LATENCY_BATCHES))
    lines = -(-len(panels) // columns)
    figure = canvas(5.2 * columns, 3.8 * lines + 0.6)
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
    # Only whole decades are labelled, so the axis has at least two.
    axes.set_xlim(10 ** math.floor(math.log10(min(low))), 10 ** math.ceil(math.log10(max(high))))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_yticks(list(places), labels, fontsize=7)
    axes.set_xlabel("microseconds a call")
    axes.set_title(title, fontsize=9)
    axes.grid(visible=True, axis="x", alpha=0.3)


def _curves(report: dict[str, Any], name: str, states: Sequence[str]) -> Curves:
    """Return rows per second and percentiles of one work, by competitor and batch size.

    They are medians where a competitor was in several comparisons.
    """
    found: dict[str, dict[int, list[dict[str, float]]]] = {}
    for each in sorted(report["comparisons"], key=lambda each: each["batch"]):
        for entry in each["entries"] if each["work"] == name and each["state"] in states else ():
            own = entry["name"].startswith("embstore")
            label = entry["name"] + (STATE_LABELS.get(each["state"], "") if own else "")
            if entry["turns"]:
                figures = {"rate": entry["rows_per_second"], **entry["microseconds"]}
                found.setdefault(label, {}).setdefault(each["batch"], []).append(figures)
    return {
        label: {
            batch: {key: statistics.median(one[key] for one in several) for key in several[0]}
            for batch, several in batches.items()
        }
        for label, batches in found.items()
    }


def _limited(report: dict[str, Any], colours: Mapping[str, str]) -> Figure | None:
    """Return bars of the rows per second in limited memory, or None if that was not measured."""
    found = _curves(report, work.HOT, (LIMITED,))
    if not found:
        return None
    chosen = next(each for each in report["comparisons"] if each["state"] == LIMITED)
    axes = (figure := canvas(9.5, 5.2)).subplots()
    rates = [next(iter(batches.values()))["rate"] for batches in found.values()]
    bars = axes.bar(list(found), rates, color=[colours.get(label, "#1f77b4") for label in found])
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates])
    axes.set_ylabel("rows per second")
    size = chosen["memory_bytes"]
    axes.set_title(
        f"Zipf 1.1 ids, {chosen['batch']:,} in a call, {size / 2**20:,.0f} MiB of memory for a "
        f"table {report['table']['bytes'] / size:.0f} times as large",
        fontsize=10,
    )
    return figure


def _styles(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the style of each curve: embstore stands out, a peer has one colour everywhere."""
    styles: dict[str, dict[str, Any]] = {}
    colours = cycle(COLOURS)
    for name in dict.fromkeys(
        entry["name"] for comparison in report["comparisons"] for entry in comparison["entries"]
    ):
        if not name.startswith("embstore"):
            styles[name] = {"marker": ".", "linewidth": 1.2, "color": next(colours)}
            continue
        for state in STATES:
            styles[name + STATE_LABELS.get(state, "")] = {
                "marker": "o",
                "linewidth": 2.2,
                "color": OWN_INTO_COLOUR if "out=" in name else OWN_COLOUR,
                "linestyle": "--" if state == WARM else "-",
            }
    return styles
