"""Plots of a report: in files, and as SVG inside a page.

======== =========================================================================================
rates    rows a second by batch size: uniform ids, rows in RAM, in the page cache and on disk
times    the time of one call, for the same lookups
hot      Zipf-distributed ids, also in less memory than the table has
single   opening, and one row
======== =========================================================================================

embstore in a state is drawn beside the array in the same rounds, which measured both by turns.
Lines and bars are medians over the rounds, bands and whiskers go from the slowest to the fastest
round; those of times go from the median of all calls to the 99th percentile.
"""

from __future__ import annotations

import importlib.util
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embstore.bench import drawing
from embstore.bench.drawing import INK, MUTED, RATE, TIME, Frame, Quantity, widest
from embstore.bench.series import OWN, pairs
from embstore.bench.state import COLD, LIMITED, LIMITED_SHARE, PRELOADED, WARM
from embstore.bench.work import HOT, ONE, OPEN, RANDOM, ZIPF_EXPONENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

    from embstore.bench.series import Point, Series

WIDE, NARROW = Frame(7.3, 4.3), Frame(4.5, 3.9)
BAR_HEIGHT = 0.42
TITLE_HEIGHT, CAPTION_HEIGHT = 0.6, 0.32
SPANS = "median (circle), 90 % (bar) and 99 % (arrow); logarithmic"
ENDINGS = ("png", "svg")
# All files that `draw` may write.
FILES = [f"{name}.{ending}" for name in ("rates", "times", "hot", "single") for ending in ENDINGS]
BESIDE_MEANING = "beside: matrix[ids] in the same rounds"
CHARACTERS = 17  # Of a caption, in an inch.


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure, and what is said above it."""

    title: str
    note: str
    figure: Figure


def missing() -> str | None:
    """Return the name of the package that drawing needs, if it is not installed."""
    return None if importlib.util.find_spec("matplotlib") else "matplotlib"


def draw(report: dict[str, Any], directory: Path) -> list[Path]:
    """Draw the plots of ``Report.to_json()`` into a directory; return the files."""
    return save(plots(report, titled(WIDE)), report["caption"], directory)


def plots(report: dict[str, Any], frame: Frame) -> dict[str, Plot]:
    """Return the plots that the report has figures for, by name."""
    found = {}
    uniform = pairs(report, RANDOM, (PRELOADED, WARM, COLD))
    if uniform:
        found["rates"] = _by_batch(uniform, RATE, frame)
        found["times"] = _by_batch(uniform, TIME, frame)
    hot = pairs(report, HOT)
    if hot:
        found["hot"] = _hot(hot, report, frame)
    single = _single_calls(report)
    if single:
        title = "Opening, and one row: time of one call"
        found["single"] = Plot(title, SPANS, _spans(single, frame))
    return found


def _single_calls(report: dict[str, Any]) -> dict[str, Point]:
    """Return figures of opening and of single rows, by the call and where rows are."""
    found = {}
    for work, names in (
        (OPEN, {OWN: "open"}),
        (ONE, {OWN: "store[5]", "matrix[ids]": "matrix[5]"}),
    ):
        for label, points in pairs(report, work).items():
            reader, comma, place = label.partition(", ")
            found[names[reader] + comma + place] = next(iter(points.values()))
    return found


def _by_batch(found: Series, what: Quantity, frame: Frame) -> Plot:
    """Return curves over batch size, or bars if there is one size."""
    batches = sorted({batch for points in found.values() for batch in points})
    note = "median and range of the rounds" if what is RATE else "median, up to the 99th percentile"
    if len(batches) > 1:
        names = {name: name for name in found}
        if frame.width < WIDE.width:
            names = {name: name.partition(", ")[2] for name in found}
        figure = replace(frame, right=widest(names.values())).figure()
        drawing.curves(figure.subplots(), found, what, names=names)
        return Plot(f"Uniform ids: {what.name}", f"{note}, logarithmic; {BESIDE_MEANING}", figure)
    points = {name: by_batch[batches[0]] for name, by_batch in found.items()}
    title = f"Uniform ids: {what.name}, {ids_a_call(batches[0])}"
    if what is RATE:
        return Plot(title, note, _bars(points, frame))
    return Plot(title, SPANS, _spans(points, frame))


def _hot(found: Series, report: dict[str, Any], frame: Frame) -> Plot:
    batch = max(batch for points in found.values() for batch in points)
    points = {name: by_batch[batch] for name, by_batch in found.items() if batch in by_batch}
    note = f"exponent {ZIPF_EXPONENT}; median and range of the rounds"
    if any(each["state"] == LIMITED for each in report["comparisons"]):
        note += f"; limited memory: 1/{LIMITED_SHARE} of the table"
    return Plot(f"Zipf ids: rows a second, {ids_a_call(batch)}", note, _bars(points, frame))


def _bars(points: Mapping[str, Point], frame: Frame) -> Figure:
    figure = bar_frame(frame, points).figure()
    drawing.bars(figure.subplots(), points)
    return figure


def _spans(points: Mapping[str, Point], frame: Frame) -> Figure:
    figure = bar_frame(frame, points, right=0.3, bottom=0.35).figure()
    drawing.spans(figure.subplots(), points)
    return figure


def bar_frame(
    frame: Frame, names: Mapping[str, object], right: float = 0.25, bottom: float = 0.05
) -> Frame:
    """Return a frame that is as high as bars with these names need."""
    height = frame.top + BAR_HEIGHT * len(names) + bottom + frame.caption
    return replace(frame, left=widest(names), right=right, bottom=bottom, height=height)


def titled(frame: Frame) -> Frame:
    """Return a frame with room for a title and a caption."""
    height = frame.height + TITLE_HEIGHT + CAPTION_HEIGHT
    return replace(frame, height=height, top=frame.top + TITLE_HEIGHT, caption=CAPTION_HEIGHT)


def save(found: Mapping[str, Plot], caption: str, directory: Path) -> list[Path]:
    """Write plots with titles and a caption as PNG and SVG; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, plot in found.items():
        width, height = plot.figure.get_size_inches()
        place = 0.18 / width
        top = 1 - 0.14 / height
        plot.figure.text(place, top, plot.title, fontsize=13, weight="bold", color=INK, va="top")
        note_top = top - 0.29 / height
        plot.figure.text(place, note_top, plot.note, fontsize=9.5, color=MUTED, va="top")
        lines = "\n".join(textwrap.wrap(caption, int((width - 0.4) * CHARACTERS)))
        plot.figure.text(place, 0.1 / height, lines, fontsize=7, color=MUTED, va="bottom")
        for ending in ENDINGS:
            files.append(directory / f"{name}.{ending}")
            plot.figure.savefig(files[-1], dpi=150)
    return files


def ids_a_call(batch: int) -> str:
    """Return how many ids are in a call, in words."""
    return "1 id a call" if batch == 1 else f"{batch:,} ids a call"
