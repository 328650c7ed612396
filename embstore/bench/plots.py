"""Plots of a report, PNG and SVG: rows per second and time of a call by batch size.

================ =================================================================================
read_random_ram  uniform ids, rows in RAM or in the page cache
read_random_cold uniform ids, rows on disk
limited          Zipf-distributed ids in less memory than the table has
================ =================================================================================
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.bench.state import COLD, LIMITED, LIMITED_SHARE, PRELOADED, WARM
from embstore.bench.work import HOT, RANDOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Work, states and title of each plot.
PLOTS = {
    "read_random_ram": (RANDOM, (PRELOADED, WARM), "Uniform ids, rows in RAM or the page cache"),
    "read_random_cold": (RANDOM, (COLD,), "Uniform ids, rows on disk, page cache empty"),
    "limited": (HOT, (LIMITED,), f"Zipf 1.1 ids, memory of 1/{LIMITED_SHARE} of the table"),
}


def missing() -> str | None:
    """Return the name of the package that drawing needs, if it is not installed."""
    return None if importlib.util.find_spec("matplotlib") else "matplotlib"


def draw(report: dict[str, Any], directory: Path) -> list[Path]:
    """Draw the plots of ``Report.to_json()`` into a directory; return the files."""
    figures = {name: _speed(report, *plot) for name, plot in PLOTS.items()}
    return save(figures, report["caption"], directory)


def save(figures: Mapping[str, Figure | None], caption: str, directory: Path) -> list[Path]:
    """Write figures with a caption as PNG and SVG; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in figures.items():
        if figure is not None:
            figure.text(0.01, 0.01, caption, fontsize=7, color="#555555", wrap=True)
            for ending in ("png", "svg"):
                files.append(directory / f"{name}.{ending}")
                figure.savefig(files[-1], dpi=150)
    return files


def batch_axis(axes: Axes, batches: Iterable[int]) -> None:
    """Label the axes of curves over batch size."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted(set(batches)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("ids in one call")
    axes.grid(visible=True, which="major", alpha=0.3)


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # Optional, and slow to import.

    return Figure(figsize=(width, height))


def _speed(report: dict[str, Any], work: str, states: tuple[str, ...], title: str) -> Figure | None:
    """Return rates on the left, and on the right the median time of a call up to its 99 %."""
    curves: dict[str, list[tuple[Any, ...]]] = {}
    for each in report["comparisons"]:
        for entry in each["entries"] if each["work"] == work and each["state"] in states else ():
            times = entry["microseconds"]
            figures = (each["batch"], entry["rows_per_second"], times["p50"], times["p99"])
            note = f" ({entry['note']})" if entry["note"] else ""
            curves.setdefault(f"{entry['name']}, {each['state']}{note}", []).append(figures)
    if not curves:
        return None
    figure = canvas(11, 5.2)
    figure.subplots_adjust(left=0.08, right=0.97, bottom=0.16)
    left, right = figure.subplots(1, 2)
    for label, points in curves.items():
        batches, rates, p50, p99 = zip(*sorted(points), strict=True)
        left.plot(batches, rates, ".-", label=label)
        above = [[0] * len(p50), np.subtract(p99, p50)]
        right.errorbar(batches, p50, above, fmt=".-", capsize=3, label=label)
    for axes, label in ((left, "rows per second"), (right, "microseconds a call: median to 99 %")):
        batch_axis(axes, {point[0] for points in curves.values() for point in points})
        axes.set_ylabel(label)
        axes.legend(fontsize=7)
    figure.suptitle(title)
    return figure
