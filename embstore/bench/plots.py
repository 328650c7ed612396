"""Plots of a report, PNG and SVG, each readable on its own.

================ =================================================================================
read_random_ram  rows per second and time of a call by batch size, rows in RAM or the page cache
read_random_cold the same, rows on disk
limited          Zipf-distributed ids in less memory than the table has
================ =================================================================================
"""

from __future__ import annotations

import importlib.util
import statistics
from typing import TYPE_CHECKING, Any

from embstore.bench import work
from embstore.bench.state import COLD, LIMITED, PRELOADED, WARM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# From the label of a curve and a batch size to its figures.
Curves = dict[str, dict[int, dict[str, float]]]

STATE_LABELS = {PRELOADED: ", preloaded", WARM: ", page cache warm"}
PLACES = {(PRELOADED, WARM): "in RAM or in the page cache", (COLD,): "on disk, page cache empty"}


def missing() -> str | None:
    """Return the name of the package that drawing needs, if it is not installed."""
    return None if importlib.util.find_spec("matplotlib") else "matplotlib"


def draw(report: dict[str, Any], directory: Path) -> list[Path]:
    """Draw the plots of ``Report.to_json()`` into a directory; return the files."""
    figures = {
        "read_random_ram": _speed(report, (PRELOADED, WARM)),
        "read_random_cold": _speed(report, (COLD,)),
        "limited": limited(report, {}),
    }
    return save(figures, report["caption"], directory)


def save(figures: Mapping[str, Figure | None], caption: str, directory: Path) -> list[Path]:
    """Write figures with a caption as PNG and SVG; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in figures.items():
        if figure is None:
            continue
        figure.text(0.01, 0.01, caption, fontsize=7, color="#555555", wrap=True)
        for ending in ("png", "svg"):
            files.append(directory / f"{name}.{ending}")
            figure.savefig(files[-1], dpi=150)
    return files


def curves(report: dict[str, Any], name: str, states: Sequence[str]) -> Curves:
    """Return rows per second and percentiles of one work, by competitor and batch size.

    They are medians where a competitor was in several comparisons.
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
                label += STATE_LABELS.get(comparison["state"], "")
            figures = {"rate": entry["rows_per_second"], **entry["microseconds"]}
            found.setdefault(label, {}).setdefault(comparison["batch"], []).append(figures)
    return {
        label: {
            batch: {key: statistics.median(each[key] for each in several) for key in several[0]}
            for batch, several in sorted(batches.items())
        }
        for label, batches in found.items()
    }


def batch_axis(axes: Axes, found: Curves) -> None:
    """Label the axes of curves over batch size."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({batch for batches in found.values() for batch in batches}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("ids in one call")
    axes.grid(visible=True, which="major", alpha=0.3)


def limited(report: dict[str, Any], colours: Mapping[str, str]) -> Figure | None:
    """Return bars of the rows per second in limited memory, or None if that was not measured."""
    found = curves(report, work.HOT, (LIMITED,))
    sizes = [c["memory_bytes"] for c in report["comparisons"] if c["state"] == LIMITED]
    if not found:
        return None
    figure = canvas(9.5, 5.2)
    axes = figure.subplots()
    rates = [next(iter(batches.values()))["rate"] for batches in found.values()]
    bars = axes.bar(list(found), rates, color=[colours.get(label, "#1f77b4") for label in found])
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in rates])
    axes.set_ylabel("rows per second")
    batch = next(iter(next(iter(found.values()))))
    times = report["table"]["bytes"] / sizes[0]
    axes.set_title(
        f"Zipf 1.1 ids, {batch:,} in a call, {sizes[0] / 2**20:,.0f} MiB of memory for a table "
        f"{times:.0f} times as large",
        fontsize=10,
    )
    return figure


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # Optional, and slow to import.

    return Figure(figsize=(width, height))


def _speed(report: dict[str, Any], states: tuple[str, ...]) -> Figure | None:
    """Return rates on the left, and on the right the median time of a call up to its 99 %."""
    found = curves(report, work.RANDOM, states)
    if not found:
        return None
    figure = canvas(11, 5.2)
    figure.subplots_adjust(left=0.08, right=0.97, bottom=0.16)
    rates, times = figure.subplots(1, 2)
    for label, batches in found.items():
        p50, p99 = ([each[name] for each in batches.values()] for name in ("p50", "p99"))
        rates.plot(list(batches), [each["rate"] for each in batches.values()], ".-", label=label)
        times.plot(list(batches), p50, ".-", label=label)
        times.fill_between(list(batches), p50, p99, alpha=0.15)
    for axes, label in ((rates, "rows per second"), (times, "microseconds a call: median to 99 %")):
        batch_axis(axes, found)
        axes.set_ylabel(label)
        axes.legend(fontsize=7)
    figure.suptitle(f"Uniform random rows, {PLACES[states]}")
    return figure
