"""Standard input and output in place of a file, typed as ``-``; a file of that name is ``./-``."""

import os
import stat
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

DASH = "-"


def path_or_dash(text: str) -> Path | str:
    """Return a path, or ``-`` as it was typed.

    Parameters
    ----------
    text : str
        What was typed.
    """
    return DASH if text == DASH else Path(text)


def complete_path(incomplete: str) -> list[str]:
    """Return the paths that start like this, for the completion of a shell."""
    folder, _, start = incomplete.rpartition("/")
    try:
        found = [path for path in Path(folder or ".").iterdir() if path.name.startswith(start)]
    except OSError:
        return []
    above = incomplete.removesuffix(start)
    return sorted(f"{above}{path.name}{'/' * path.is_dir()}" for path in found)


# What typer needs to know of a path that may be -; help shows the name of the type.
PATH: Any = {"parser": path_or_dash, "autocompletion": complete_path}
if TYPE_CHECKING:
    PathOrDash = Path | str
else:
    PathOrDash = type("path", (), {})


def source_of(given: PathOrDash) -> Path | IO[bytes]:
    """Return what to read: a path, that of the file that standard input is, or standard input."""
    if isinstance(given, Path):
        return given
    if sys.stdin is None:
        raise typer.BadParameter("standard input is closed")
    if sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; pipe or redirect a file into it")
    raw = sys.stdin.buffer
    state = os.fstat(raw.fileno())
    if stat.S_ISREG(state.st_mode) and not raw.tell():
        path = Path(f"/proc/self/fd/{raw.fileno()}")
        if path.exists() and (found := path.resolve()).exists() and found.samefile(path):
            return found
    return raw


def source_and_words(given: PathOrDash, options: dict[str, Any]) -> Path | IO[bytes]:
    """Return what to read rows from, and put what to read words from into the options."""
    words = options["words"]
    if given == words == DASH:
        raise typer.BadParameter("rows and words cannot both be read from standard input")
    if words is not None:
        options["words"] = source_of(words)
    return source_of(given)


def target_of(given: PathOrDash, format: str | None = None) -> Path | IO[bytes]:
    """Return what to write: a path, or standard output.

    Parameters
    ----------
    given : Path or str
        What was typed.
    format : str, optional
        The format; a terminal shows text only.
    """
    if isinstance(given, Path):
        return given
    if sys.stdout is None:
        raise typer.BadParameter("standard output is closed")
    if sys.stdout.isatty() and format not in (None, "glove", "word2vec"):
        raise typer.BadParameter(
            f"standard output is a terminal, which does not show {format}; redirect it to a file"
        )
    sys.stdout.flush()
    return sys.stdout.buffer


def name_of(given: PathOrDash, standard: str) -> str:
    """Return the name of a file, for people."""
    return standard if given == DASH else str(given)
