"""HTML from values: escaped text, lists of facts, tables that sort, figures as SVG."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from embstore.bench.drawing import GRID, INK, MUTED, ON_BAR
from embstore.bench.series import OWN, STYLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from embstore.bench.plots import Plot

# Colours of a plot that follow the page's: light, dark, or printed.
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    ON_BAR: "var(--on-bar)",
    STYLES[OWN].colour: "var(--own)",
    STYLES["matrix[ids]"].colour: "var(--array)",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: what it shows, and the number that it sorts by."""

    shown: str = ""
    value: float | None = None
    kind: str = ""


def text(value: object) -> str:
    r"""Return untrusted text for HTML: markup and what is not printable are escaped.

    >>> text("<a & 'b'>\x1b\udcff")
    '&lt;a &amp; &#x27;b&#x27;&gt;\\x1b\\udcff'
    """
    parts = (one if one.isprintable() else ascii(one)[1:-1] for one in str(value))
    return html.escape("".join(parts))


def facts(values: Mapping[str, object]) -> str:
    """Return a list of names and values; values that are None or empty are left out."""
    items = (
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>"
        for name, value in values.items()
        if value is not None and value != ""
    )
    return f'<dl class="facts">{"".join(items)}</dl>'


def table(title: str, headings: Sequence[Cell], rows: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """Return a table; each row has a class and its cells. Columns without values are left out."""
    rows = list(rows)
    kept = [n for n in range(len(headings)) if any(cells[n].shown for _, cells in rows)]
    head = "".join(_cell(headings[n], "th", ' scope="col"') for n in kept)
    lines = [
        f'<tr class="{name}">{"".join(_cell(cells[n], "td") for n in kept)}</tr>'
        for name, cells in rows
    ]
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(cell: Cell, tag: str, more: str = "") -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ""
    value = "" if cell.value is None else f' data-value="{cell.value:.9g}"'
    return f"<{tag}{kind}{more}{value}>{text(cell.shown)}</{tag}>"


def figure(name: str, wide: Plot, narrow: Plot) -> str:
    """Return a figure with its caption; CSS shows one of two sizes."""
    return (
        f"<figure><figcaption>{text(wide.title)}<span>{text(wide.note)}</span></figcaption>"
        f'<div class="wide">{svg(wide, f"{name}-wide")}</div>'
        f'<div class="narrow">{svg(narrow, f"{name}-narrow")}</div></figure>'
    )


def svg(plot: Plot, name: str) -> str:
    """Return a plot as an SVG element in the page's colours and font; its ids begin with a name."""
    from matplotlib import rc_context  # noqa: PLC0415  # Optional, and slow to import.

    file = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        plot.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    found = file.getvalue()
    found = found[found.index("<svg") :].strip()
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    found = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", found)
    found = re.sub(r' (width|height)="[\d.]+pt"', "", found, count=2)
    for colour, variable in VARIABLES.items():
        found = found.replace(colour, variable)
    return found.replace("<svg", f'<svg role="img" aria-label="{text(plot.title)}"', 1)
