"""Formats: tables that can be opened in place, told apart by their content.

A format is one file with ``find(path)``, which returns the file to read of a path or None, and
``describe(files, ...) -> Table``; it is known by its line in `FORMATS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.formats import npy, safetensors
from embstore.formats.own import describe as own

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embstore.table.tables import Table


@dataclass(frozen=True, slots=True)
class Format:
    """A format whose rows can be addressed in place.

    Attributes
    ----------
    name : str
        Its name.
    find : callable
        Returns the file to read of a path of this format; None for other paths.
    describe : callable
        Returns the table that files hold.
    options : tuple of str
        The options that ``describe`` takes.
    """

    name: str
    find: Callable[[Path], Path | None]
    describe: Callable[..., Table]
    options: tuple[str, ...] = ()


STORE = Format("store", own.find, own.describe)
# The first one that finds its file in a path reads it.
FORMATS = (
    STORE,
    Format("npy", npy.find, npy.describe),
    Format("safetensors", safetensors.find, safetensors.describe, ("tensor",)),
)


def find_format(path: Path) -> tuple[Format, Path] | None:
    """Return the format of a path and the file to read; None if no format knows it."""
    for format in FORMATS:
        found = format.find(path)
        if found is not None:
            return format, found
    return None
