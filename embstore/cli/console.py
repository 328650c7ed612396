"""What commands say, and how: notes, facts, progress."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def warn(text: str, kind: str = "note") -> None:
    """Print one line about something that a person should know."""
    typer.echo(f"embstore: {kind}: {text}", err=True)


def print_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print facts, a line each."""
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    facts = dict(facts)
    source = facts.pop("source", {})
    facts |= {printable(f"source {name}"): value for name, value in source.items()}
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = f"{value:,}" if type(value) is int else "-" if value is None else printable(value)
        typer.echo(f"{name.replace('_', ' '):<{width}}  {shown}")


def printable(value: object) -> str:
    r"""Return a text that may be a stranger's, so that it is no command to the terminal.

    >>> printable("\x1b[2J")
    '\\x1b[2J'
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value))


@contextmanager
def progress_bar(task: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that draws a progress bar in bytes, where there is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        number = bar.add_task(task, total=None)
        yield lambda done, total: bar.update(number, completed=done, total=total)


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """Yield a callback that shows what is going on, where there is a terminal."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update
