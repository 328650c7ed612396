"""A report as one HTML page, which needs no other file and no network.

1. The answer: rows a second from disk and in RAM, and how they compare.
2. Plots, as SVG in the page's colours, light or dark.
3. All figures, in tables that sort.
4. What could not be measured, what the figures mean, the machine, and the command to repeat it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath
from typing import Any

from embstore.bench.figures import STATE_MEANING, Figures, tables
from embstore.bench.markup import facts, figure, text
from embstore.bench.plots import NARROW, WIDE, plots
from embstore.bench.report import plural, size_text

MEANING = {
    "Rows/s": "rows that calls returned, divided by the time in these calls: the median "
    "over the rounds, and the slowest and the fastest round. Every returned row is compared with "
    "the array, outside of the timing.",
    "Ids": "how many ids are in one call.",
    "p50, p90, p99": "half, 90 % and 99 % of the calls took this long or less, over all rounds.",
    "Against array": "embstore's rate divided by that of matrix[ids] in the same round, the "
    "median over the rounds. Both take turns, because machines are noisy.",
    "matrix[ids]": "the store's rows in one NumPy array in RAM, looked up by fancy indexing; a "
    "single row is copied. Beside disk, for example, are the rounds that it shared with embstore "
    "on disk; in limited memory, it takes its turns afterwards, outside of the limit.",
    "KiB a row": "what the kernel read from the device during the calls.",
}


def page(report: dict[str, Any]) -> str:
    """Return the page of ``Report.to_json()``."""
    settings = report["settings"] or {}
    name = PurePath(settings.get("path", "a table")).name
    figures = Figures(report)
    wide, narrow = plots(report, WIDE), plots(report, NARROW)
    drawn = "".join(figure(one, wide[one], narrow[one]) for one in wide)
    parts = [
        f'<header><p class="about">embstore bench: disk against RAM</p><h1>{text(name)}</h1>',
        f'<p class="lead">{text(figures.answer())}</p>{figures.tiles()}{_warnings(report)}',
        "</header><main>",
        f'<h2>Plots</h2><div class="plots">{drawn}</div>' if drawn else "",
        f"<h2>All figures</h2>{tables(report)}",
        f"<h2>What the figures mean</h2>{facts(MEANING | STATE_MEANING)}",
        _circumstances(report),
        _repeat(settings),
        f"</main><footer>embstore {text(report['machine']['versions']['embstore'])}, "
        f"{text(report['machine']['when'].replace('T', ' ').replace('+00:00', ' UTC'))}</footer>",
    ]
    style, script = ((files(__package__) / f"page.{kind}").read_text() for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(name)}: embstore bench</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _warnings(report: dict[str, Any]) -> str:
    """Return what could not be measured, or not as its name says, and why."""
    found = []
    for reason in [*report["skipped"], *report.get("notes", [])]:
        state, _, why = reason.partition(": ")
        found.append(f'<p class="warning"><strong>{text(state)}</strong>: {text(why)}.</p>')
    return "".join(found)


def _circumstances(report: dict[str, Any]) -> str:
    table, machine, disk = report["table"], report["machine"], report["disk"]
    settings = report["settings"] or {}
    shape = " × ".join(f"{axis:,}" for axis in [table["rows"], *table["row_shape"]])
    of_table = {
        "path": settings.get("path"),
        "tensor": settings.get("tensor"),
        "rows": f"{shape} {table['dtype']}, {size_text(table['bytes'])} in RAM",
        "stored as": table.get("encoding"),
        "bytes of a row": f"{table['record_bytes']:,}" if "record_bytes" in table else None,
        "compression": table.get("compression"),
        "partitions": table.get("partitions"),
    }
    kinds = {0: "solid state", 1: "rotating, says the system", None: "kind unknown"}
    ahead = disk["read_ahead_kb"]
    of_machine = {
        "processor": f"{machine['processor']}, {plural(machine['processors'], 'core')} usable",
        "RAM": f"{machine['ram_bytes'] / 2**30:.1f} GiB",
        "disk": f"{disk['device'] or 'no local block device'} ({kinds[disk['rotational']]})",
        "read-ahead": None if ahead is None else f"{ahead} KiB",
        "system": machine["system"],
        "Python": machine["python"],
        "packages": ", ".join(f"{name} {number}" for name, number in machine["versions"].items()),
    }
    return (
        '<div class="columns"><section><h2>Table</h2>'
        f"{facts(of_table)}</section><section><h2>Machine</h2>{facts(of_machine)}</section></div>"
    )


def _repeat(settings: dict[str, Any]) -> str:
    if not settings:
        return ""
    chosen = {
        "rounds": f"{settings['rounds']}, in which the store and the array take turns",
        "length of a turn": f"{settings['seconds']:g} s; on disk at most 5 times, in limited "
        "memory 10 times as long",
        "kinds of lookup": ", ".join(settings["works"]),
        "states": ", ".join(settings["states"]),
        "ids in a call": ", ".join(f"{batch:,}" for batch in settings["batches"]),
    }
    return (
        f"<h2>Repeat it</h2><pre><code>{text(settings['command'])} --report again.html</code></pre>"
        f"{facts(chosen)}"
    )
