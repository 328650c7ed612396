"""Formats: tables that can be opened in place, told apart by their content.

Each format is a module, and a line in `FORMATS`. The module has these functions:

* ``matches(start, name)`` tells whether a file with these first bytes has the format;
* ``main_file(files)`` chooses the file to read in a directory of the format's files, or returns
  ``""`` for the directory;
* ``describe(files, name, ...)`` returns the `Table` in a file, or in all files if ``name`` is
  ``""``;
* ``tables(files, name)`` lists the tables there, if there can be several.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.errors import FormatError
from embstore.formats import gguf, npy
from embstore.formats.options import TABLE_OPTIONS
from embstore.formats.own import describe as own
from embstore.formats.own.spec import METADATA
from embstore.formats.safetensors import describe as safetensors

if TYPE_CHECKING:
    from collections.abc import Callable

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
    main_file: Callable[[Files], str]
    describe: Callable[..., Table]
    options: tuple[str, ...] = ()
    tables: Callable[[Files, str], list[ListedTable]] | None = None

    def is_in(self, files: Files, names: list[str]) -> bool:
        """Return whether a directory, whose files have these names, holds files of this format."""
        return any(
            files.exists(name)
            for pattern in self.patterns
            for name in fnmatch.filter(names, pattern)
        )


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


def find_format(files: Files, name: str) -> tuple[Format, str] | None:
    """Return the format of a file, and the file to read; None if no format matches.

    Parameters
    ----------
    files : Files
        The files of a directory.
    name : str
        The file; ``""`` for the directory itself. So in the result.

    Raises
    ------
    FormatError
        If a directory holds a format's files, but none of them can be opened; if it holds models of
        two formats.
    """
    if name:
        start = files.read(name, 0, START_BYTES)
        found = next((format for format in FORMATS if format.matches(start, name)), None)
        return None if found is None else (found, name)
    if files.exists(METADATA):  # Without a list of names, which some servers do not give.
        return STORE, ""
    names = files.names()
    every = [format for format in FORMATS if format.is_in(files, names)]
    if {SAFETENSORS, GGUF} <= set(every):
        raise FormatError(
            f"{files.where('')} has files of {SAFETENSORS.name} and of {GGUF.name}; name one of "
            "them"
        )
    return (every[0], every[0].main_file(files)) if every else None
