"""Output of commands: notes, facts, progress bars."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rich.progress
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from embstore.cli.terminal import shows_unicode
from embstore.progress import OnProgress, Progress
from embstore.table.listed import ListedTable

# What people read instead of the names of some facts.
_LABELS = {
    "row_bytes": "bytes of all rows",
    "record_bytes": "bytes of a row",
    "unterminated": "last newline missing",
    "non_finite_row_count": "rows with nan or inf",
}
# Terminals of fewer columns get a bar and the time left only.
WIDE = 90
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def warn(text: str, kind: str = "note") -> None:
    """Print a note or an error as one line on standard error."""
    typer.echo(f"embstore: {kind}: {text}", err=True)


def print_json(value: object, *, beside: bool = False) -> None:
    """Print a value as JSON on one line; on standard error ``beside`` what is on the output."""
    typer.echo(json.dumps(value, ensure_ascii=not shows_unicode()), err=beside)


def print_facts(facts: dict[str, Any], *, as_json: bool, beside: bool = False) -> None:
    """Print facts, a line each; on standard error ``beside`` what is on standard output."""
    if as_json:
        print_json(facts, beside=beside)
        return
    facts = dict(facts)
    source = dict(facts.pop("source", {}))
    origins = source.pop("origins", [])
    facts |= _flat("source", source)
    # The sources of the stores that this one was built from, the oldest first.
    for number, origin in enumerate(origins, 1):
        facts |= _flat(f"earlier source {number}", origin)
    lines: dict[str, object] = {}
    for name, value in facts.items():
        if name != "attributes":
            lines[_label(name).replace("_", " ")] = value
            continue
        for one, found in value.items():
            shown = f"{found['dtype']}, {found['disk_bytes']:,} bytes on disk"
            lines[printable(f"attribute {one}")] = shown
    width = max(map(len, lines))
    for name, value in lines.items():
        typer.echo(f"{name:<{width}}  {_shown(value)}", err=beside)


def _shown(value: object) -> str:
    """Return the value of a fact as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else printable(value)


def _flat(prefix: str, source: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about a source by their whole names; the last change has facts, too."""
    facts = dict(source)
    change = facts.pop("last_change", {})
    found = {_label(name): _counted(name, value) for name, value in facts.items()}
    if isinstance(change, dict):
        found |= {
            f"last change {_label(name)}": _counted(name, value) for name, value in change.items()
        }
    return {printable(f"{prefix} {name}"): value for name, value in found.items()}


def _label(name: str) -> str:
    return _LABELS.get(name, name)


def _counted(name: str, value: object) -> object:
    """Return a fact; rows that were kept encoded were not looked at."""
    return "not counted" if name == "non_finite_row_count" and value is None else value


def print_tables(tables: list[ListedTable], *, as_json: bool) -> None:
    """Print the tables of a model, a line each."""
    facts = [
        {
            "tensor": table.name,
            "shape": list(table.shape),
            "dtype": table.dtype,
            "parts": table.part_count,
            "bytes": table.byte_count,
            "scale": table.scale,
        }
        for table in tables
    ]
    if as_json:
        print_json(facts)
        return
    print_rows(facts)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print values in columns, under the names of the first row; at least one row."""
    lines = [list(rows[0])]
    for one in rows:
        values = ("-" if value is None else value for value in one.values())
        lines.append([f"{value:,}" if type(value) is int else printable(value) for value in values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def printable(value: object) -> str:
    r"""Escape control characters in untrusted text.

    >>> printable("\x1b[2J")
    '\\x1b[2J'
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value))


@contextmanager
def progress_bar(task: str) -> Iterator[OnProgress | None]:
    """Yield a callback that draws a progress bar, or None without a terminal.

    The bar shows bytes done, all bytes, bytes and rows per second, and the time left; in a narrow
    terminal the time left only.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns: list[rich.progress.ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=None if console.width < WIDE else 40),
        TimeRemainingColumn(),
    ]
    if console.width >= WIDE:
        rate = TextColumn("{task.fields[rows_per_second]}")
        columns[2:2] = [DownloadColumn(), TransferSpeedColumn(), rate]
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        number = bar.add_task(task, total=None, rows_per_second="")
        started = time.perf_counter()

        def advance(at: Progress) -> None:
            rate = ""
            if at.rows is not None:
                rate = f"{at.rows / (time.perf_counter() - started):,.0f} rows/s"
            total = at.total_bytes or None  # 0 means unknown.
            bar.update(number, completed=at.done_bytes, total=total, rows_per_second=rate)

        yield advance
