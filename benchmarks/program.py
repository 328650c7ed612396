"""What the benchmarks that are programs share: arguments, progress, a directory that is removed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def parser_of(
    name: str, description: str | None, *, rounds: int | None = None
) -> argparse.ArgumentParser:
    """Return the parser of ``python -m benchmarks.NAME``, with the arguments that all have.

    Parameters
    ----------
    name : str
        The module in `benchmarks`.
    description : str
        Its docstring.
    rounds : int, optional
        How many turns each way takes by default; without it, there is no such argument.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="turns of each")
    parser.add_argument(
        "--directory", type=Path, default=Path("data"), help="directory of the files"
    )
    return parser


def progress(line: str) -> None:
    """Show a line of progress."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def scratch(directory: Path, name: str) -> Iterator[Path]:
    """Make a directory for the files of a benchmark, and remove it at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=f"embstore-{name}-") as place:
        yield Path(place).absolute()
