"""The interface of everything that looks up rows in the comparison.

A `Peer` is a value that is pickled into a process of its own, where it is opened and asked.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from embstore.bench.state import files_under

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.table import GeneratedTable


@dataclass
class Peer(ABC):
    """A library, or a way of using it, that looks up rows.

    Parameters
    ----------
    table : GeneratedTable
        The rows.
    directory : Path, optional
        The directory of its own files, if it writes any.

    Attributes
    ----------
    name : str
        Its name in the results.
    packages : tuple of str
        Packages that it needs, as pairs (module to import, name of the distribution).
    in_ram : bool
        Whether it holds all rows in RAM.
    slow : bool
        Whether it gets fewer rows to look up, so that the run does not take too long.
    reuse : bool
        Whether a lookup overwrites the result of the one before.
    """

    table: GeneratedTable
    directory: Path | None = None

    name: ClassVar[str]
    packages: ClassVar[tuple[tuple[str, str], ...]] = ()
    in_ram: ClassVar[bool] = False
    slow: ClassVar[bool] = False
    reuse: ClassVar[bool] = False

    @classmethod
    def missing(cls) -> str | None:
        """Return the name of a needed package that is not installed, or None."""
        for module, distribution in cls.packages:
            if importlib.util.find_spec(module) is None:
                return distribution
        return None

    def files(self) -> list[Path]:
        """Return the files that it reads, which may be in the page cache."""
        return [] if self.directory is None else files_under(self.directory)

    def prepare(self) -> None:  # noqa: B027  # Some have no files of their own.
        """Write its files from the rows of the table."""

    def load(self) -> None:  # noqa: B027  # Most are measured with what they import.
        """Import what it needs, before a memory cgroup counts."""

    @abstractmethod
    def open(self) -> None:
        """Prepare for lookups."""

    @abstractmethod
    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids of shape (n,)."""

    def one(self, number: int) -> NDArray[Any]:
        """Return one row."""
        return np.asarray(self.lookup(np.array([number]))[0])

    def lookup_words(self, words: list[str]) -> NDArray[Any]:
        """Return the rows of words."""
        raise NotImplementedError(f"{self.name} has no words")

    @property
    def own_directory(self) -> Path:
        """The directory for its own files."""
        if self.directory is None:
            raise ValueError(f"{self.name} needs a directory")
        return self.directory
