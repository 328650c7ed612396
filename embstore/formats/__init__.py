"""Formats: tables that can be opened in place, told apart by their content.

Each format is a module, and a line in `FORMATS`. The module has these functions:

* ``matches(start, name)`` tells whether a file with these first bytes has the format;
* ``main_file(directory)`` chooses the file to read in a directory of the format's files, or returns
  the directory;
* ``describe(files, name, ...)`` returns the `Table` in a file, or in all files if ``name`` is
  ``""``;
* ``tables(files, name)`` lists the tables there, if there can be several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.errors import FormatError
from embstore.formats import gguf, npy
from embstore.formats.options import TABLE_OPTIONS
from embstore.formats.own import describe as own
from embstore.formats.safetensors import describe as safetensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embstore.table.listed import ListedTable
    from embstore.table.protocols import Files
    from embstore.table.tables import Table

START_BYTES = 64


@dataclass(frozen=True, slots=True)
class Format:
    """A format whose rows can be addressed in place.

    Attributes
    ----------
    name : str
        Its name.
    what : str
        What a path of the format is, for messages.
    patterns : tuple of str
        File names by which a directory is recognised.
    matches, main_file, describe : callable
        The functions of the format's module.
    options : tuple of str
        The options of `embstore.open` that ``describe`` takes.
    tables : callable, optional
        Another function of the format's module, if there can be several tables in a file.
    """

    name: str
    what: str
    patterns: tuple[str, ...]
    matches: Callable[[bytes, str], bool]
    main_file: Callable[[Path], Path]
    describe: Callable[..., Table]
    options: tuple[str, ...] = ()
    tables: Callable[[Files, str], list[ListedTable]] | None = None

    def is_in(self, directory: Path) -> bool:
        """Return whether a directory holds files of this format."""
        # From Python 3.13 on, `glob` finds links to missing files too.
        return any(file.exists() for name in self.patterns for file in directory.glob(name))


STORE = Format("store", "a store", own.PATTERNS, own.matches, own.main_file, own.describe)
NPY = Format("npy", "a .npy file", npy.PATTERNS, npy.matches, npy.main_file, npy.describe)
SAFETENSORS = Format(
    "safetensors",
    "a safetensors file or model",
    safetensors.PATTERNS,
    safetensors.matches,
    safetensors.main_file,
    safetensors.describe,
    TABLE_OPTIONS,
    safetensors.tables,
)
GGUF = Format(
    "gguf",
    "a GGUF file or model",
    gguf.PATTERNS,
    gguf.matches,
    gguf.main_file,
    gguf.describe,
    ("tensor", "encoding"),
    gguf.tables,
)
# The first one that recognises a path reads it.
FORMATS = (STORE, SAFETENSORS, GGUF, NPY)


def find_format(path: Path) -> tuple[Format, Path] | None:
    """Return the format of a path and the file to read; None if no format matches.

    Raises
    ------
    FormatError
        If a directory holds a format's files, but none of them can be opened; if it holds models of
        two formats.
    """
    if path.is_dir():
        every = [format for format in FORMATS if format.is_in(path)]
        if {SAFETENSORS, GGUF} <= set(every) and STORE not in every:
            raise FormatError(
                f"{path} has files of {SAFETENSORS.name} and of {GGUF.name}; name one of them"
            )
        return (every[0], every[0].main_file(path)) if every else None
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    found = next((format for format in FORMATS if format.matches(start, path.name)), None)
    return None if found is None else (found, path)


def place_of(path: Path, main: Path) -> tuple[Path, str]:
    """Return the directory of the file to read, and its name; ``""`` for the whole directory.

    Parameters
    ----------
    path : Path
        The path that was opened.
    main : Path
        What `find_format` returned for it.
    """
    return (main, "") if main == path and path.is_dir() else (main.parent, main.name)
