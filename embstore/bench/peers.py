"""Who looks rows up? embstore, and what it is compared with, behind one small interface.

A `Peer` is a value that travels to a process of its own, where it is opened and asked. Those here
need nothing but NumPy; ``benchmarks/peers`` has the others.
"""

from __future__ import annotations

import importlib.util
import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import embstore
from embstore.bench.table import Table, files_under
from embstore.formats.own.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass
class Peer(ABC):
    """Somebody who looks up rows.

    Parameters
    ----------
    table : Table
        The rows.
    directory : Path, optional
        A directory for its own files, if it has any.

    Attributes
    ----------
    name : str
        What it is called in the results.
    packages : tuple of str
        Packages it needs, in the order (module to import, name of the distribution).
    in_ram : bool
        Whether it holds all rows in RAM.
    slow : bool
        Whether it gets fewer rows to look up, so that the run ends.
    reuse : bool
        Whether a lookup overwrites the rows of the one before.
    """

    table: Table
    directory: Path | None = None

    name: ClassVar[str]
    packages: ClassVar[tuple[tuple[str, str], ...]] = ()
    in_ram: ClassVar[bool] = False
    slow: ClassVar[bool] = False
    reuse: ClassVar[bool] = False

    @property
    def rows(self) -> int:
        """How many of the table's rows it has."""
        return self.table.rows

    @property
    def note(self) -> str:
        """What is to be said beside its results."""
        return ""

    @classmethod
    def missing(cls) -> str | None:
        """Return the name of a package that is not installed, or None."""
        for module, distribution in cls.packages:
            if importlib.util.find_spec(module) is None:
                return distribution
        return None

    @classmethod
    def version(cls) -> str:
        """Return the version of its package."""
        return version(cls.packages[0][1]) if cls.packages else f"numpy {np.__version__}"

    def files(self) -> list[Path]:
        """Return its files, those that the page cache may hold."""
        return [] if self.directory is None else files_under(self.directory)

    def prepare(self) -> None:  # noqa: B027  # Not everyone has files of its own.
        """Write its files from the rows of the table."""

    @abstractmethod
    def open(self) -> None:
        """Get ready for lookups."""

    @abstractmethod
    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids, shape (n,)."""

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


@dataclass
class Embstore(Peer):
    """embstore itself.

    Parameters
    ----------
    preload : bool
        Whether the store is opened with ``preload=True``.
    """

    preload: bool = False

    name: ClassVar[str] = "embstore"

    @classmethod
    def version(cls) -> str:
        """Return embstore's version."""
        return embstore.__version__

    @staticmethod
    def can_preload() -> bool:
        """Say whether stores can be opened with ``preload=True``."""
        return "preload" in inspect.signature(embstore.open).parameters

    def files(self) -> list[Path]:
        """Return the files of the store."""
        return files_under(self.table.path)

    def prepare(self) -> None:
        """Write the rows into another store."""
        with embstore.StoreWriter(
            self.own_directory / "again.embstore",
            row_shape=self.table.row_shape,
            dtype=self.table.dtype,
            partitions=4,
            rows=self.table.rows,
        ) as writer:
            for _, rows in self.table.blocks():
                writer.write(rows)

    def open(self) -> None:
        """Open the store."""
        options: dict[str, Any] = {"preload": True} if self.preload else {}
        self._store = embstore.open(self.table.path, **options)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return self._store.lookup(ids)

    def one(self, number: int) -> NDArray[Any]:
        """Return one row."""
        row: NDArray[Any] = self._store[number]
        return row

    def lookup_words(self, words: list[str]) -> NDArray[Any]:
        """Return the rows of words."""
        return self._store.lookup_words(words)


@dataclass
class EmbstoreInto(Embstore):
    """embstore, filling one array (``out=``) again and again."""

    name: ClassVar[str] = "embstore lookup(out=)"
    reuse: ClassVar[bool] = True

    def open(self) -> None:
        """Open the store."""
        super().open()
        self._out = np.empty((0, *self.table.row_shape), self.table.dtype)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids, in the array of the lookup before."""
        if len(self._out) != len(ids):
            self._out = np.empty((len(ids), *self.table.row_shape), self.table.dtype)
        return self._store.lookup(ids, out=self._out)


@dataclass
class Matrix(Peer):
    """``matrix[ids]`` on an ndarray in RAM; words through a dict.

    Parameters
    ----------
    limit_bytes : int, optional
        It takes only as many rows, from the first one on, as fit into this.
    """

    limit_bytes: int | None = None

    name: ClassVar[str] = "matrix[ids]"
    in_ram: ClassVar[bool] = True

    @property
    def rows(self) -> int:
        """How many of the table's rows it has."""
        if self.limit_bytes is None:
            return self.table.rows
        return max(min(self.table.rows, self.limit_bytes // max(self.table.row_bytes, 1)), 1)

    @property
    def note(self) -> str:
        """Say so where it has only some of the rows."""
        if self.rows == self.table.rows:
            return ""
        return f"has only the first {self.rows:,} rows: half of the free RAM"

    def open(self) -> None:
        """Load the rows."""
        self.matrix = load_matrix(self.table, self.rows)
        self._ids: dict[str, int] | None = None

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return np.asarray(self.matrix[ids])

    def one(self, number: int) -> NDArray[Any]:
        """Return one row; a copy, since a view has read nothing."""
        return np.array(self.matrix[number])

    def lookup_words(self, words: list[str]) -> NDArray[Any]:
        """Return the rows of words."""
        if self._ids is None:
            names = self.table.words(np.arange(self.rows))
            self._ids = {word: number for number, word in enumerate(names)}
        ids = self._ids
        return np.asarray(self.matrix[[ids[word] for word in words]])


@dataclass
class MemmapChunks(Peer):
    """``np.memmap`` over the store's own chunk files, as one would write it by hand."""

    name: ClassVar[str] = "np.memmap"

    @property
    def note(self) -> str:
        """Say how it differs from one memmap."""
        return "one np.memmap for each chunk file of the store"

    def files(self) -> list[Path]:
        """Return the files of the store."""
        return files_under(self.table.path)

    def open(self) -> None:
        """Map each chunk file."""
        manifest = read_manifest(self.table.path)
        self._manifest = manifest
        self._chunks: dict[tuple[int, int], NDArray[Any]] = {}
        for number in range(manifest.partition_count):
            array = manifest.partition(number)
            for chunk in range(array.chunk_count):
                file = self.table.path / array.chunk_name(chunk)
                self._chunks[number, chunk] = np.memmap(
                    file, manifest.dtype, mode="r", shape=array.chunk_shape
                )

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids, gathered chunk by chunk."""
        partitions, rows = self._manifest.numbering.locate(ids)
        partitions = np.broadcast_to(partitions, ids.shape)
        chunks, places = np.divmod(np.asarray(rows), self._manifest.chunk_rows)
        out = np.empty((len(ids), *self.table.row_shape), self._manifest.dtype)
        chunk_count = max(int(chunks.max(initial=0)) + 1, 1)
        key = partitions * chunk_count + chunks
        order = np.argsort(key, kind="stable")
        bounds = np.flatnonzero(np.diff(key[order], prepend=-1)).tolist()
        for start, stop in zip(bounds, [*bounds[1:], len(ids)], strict=True):
            where = order[start:stop]
            partition, chunk = divmod(int(key[where[0]]), chunk_count)
            out[where] = self._chunks[partition, chunk][places[where]]
        return out


def load_matrix(table: Table, rows: int | None = None) -> NDArray[Any]:
    """Return the first rows of a table as one array in RAM."""
    count = table.rows if rows is None else rows
    matrix = np.empty((count, *table.row_shape), table.dtype)
    for start, block in table.blocks(count):
        matrix[start : start + len(block)] = block
    return matrix
