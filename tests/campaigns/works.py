"""Works that lead from one version of a table to the next: builds, snapshots, changes.

A version has a number. A work leads from any version to the one of a given number; a campaign
starts from a base, a multiple of three, and goes on with the next two or three numbers. Each work
has a model of its versions, which is compared with all rows and words.

1. A build replaces a table; every second one is compressed.
2. A snapshot replaces a table by that of another store; those for the next numbers lie in a folder
   beside it.
3. A change (append, update, upsert) keeps a part of the table; the model does the same with lists.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import embstore
from tests.campaigns import tables
from tests.campaigns.faults import steps
from tests.campaigns.tables import TINY
from tools.make_table import table_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.campaigns.tables import Shape

    Table = tuple[list[str], NDArray[np.float32]]

STEP = 3  # From one base to the next.


class Build:
    """Builds, each of which replaces the store.

    Attributes
    ----------
    shape : Shape
        The shape of the tables.
    name : str
        For messages.
    beside : frozenset of str
        The names beside the store that the work needs.
    """

    name = "build"
    beside: frozenset[str] = frozenset()

    def __init__(self, shape: Shape = TINY) -> None:
        self.shape = shape

    def start(self, path: Path, number: int) -> None:
        """Write the table of a base, and what the next numbers need."""
        tables.write(path, self.shape, number)

    def do(self, path: Path, number: int) -> None:
        """Lead from any version to that of a number."""
        tables.write(path, self.shape, number)

    def compare(self, store: embstore.EmbeddingStore) -> int:
        """Return the number of a version; raise if a row or word is not its own."""
        return tables.compare(store, self.shape)

    def expect(self, path: Path, allowed: set[int | None]) -> int | None:
        """Return the number of the version at ``path``; raise if it is not one of these."""
        found = tables.check(path, self.compare)
        if found not in allowed:
            raise AssertionError(f"{self.name}: found {found}, expected one of {allowed}")
        return found

    def check_alone(self, path: Path) -> None:
        """Raise if anything was left beside the store."""
        left = {other.name for other in path.parent.iterdir()} - {path.name} - self.beside
        if left:
            raise AssertionError(f"{self.name}: left behind beside {path.name}: {sorted(left)}")

    def do_next(self, path: Path, number: int) -> None:
        """Go on, and check that the version is in place and nothing is left beside it."""
        with without_waiting():
            self.do(path, number)
        self.expect(path, {number})
        self.check_alone(path)


class Snapshot(Build):
    """Snapshots of other stores."""

    name = "snapshot"
    beside = frozenset({"others"})

    def start(self, path: Path, number: int) -> None:
        """Write the store, if the base is not to be none, and the next ones to take."""
        super().start(path, number)
        self.prepare(path, number)

    def prepare(self, path: Path, number: int) -> None:
        """Write the stores to make snapshots of."""
        with contextlib.suppress(FileExistsError):
            (path.parent / "others").mkdir()
        for following in range(number + 1, number + STEP + 1):
            tables.write(self._other(path, following), self.shape, following)

    def do(self, path: Path, number: int) -> None:
        """Make a snapshot."""
        embstore.snapshot(self._other(path, number), path, overwrite=True)

    def expect(self, path: Path, allowed: set[int | None]) -> int | None:
        """Check the other stores, too, where they are."""
        found = super().expect(path, allowed)
        if found is not None and (other := self._other(path, found)).exists():
            number = tables.check(other, self.compare)
            if number is None or number % STEP != found % STEP:
                raise AssertionError(f"{other} has table {number} after a snapshot of it")
        return found

    def _other(self, path: Path, number: int) -> Path:
        return path.parent / "others" / f"{number % STEP}.embstore"


@dataclass(frozen=True, slots=True)
class Kind:
    """A change: what it does to a store, and to the model."""

    name: str
    do: Callable[[Path, int], object]
    model: Callable[[Table, int], Table]
    attributes: bool = False  # Whether the table has some.


class Change(Build):
    """Changes of a table that keep a part of it."""

    def __init__(self, kind: Kind, shape: Shape = TINY) -> None:
        super().__init__(shape)
        self.name = kind.name
        self._kind = kind

    def start(self, path: Path, number: int) -> None:
        """Write the table of a base."""
        tables.write(path, self.shape, number, attributes=self._kind.attributes)

    def do(self, path: Path, number: int) -> None:
        """Change the table."""
        self._kind.do(path, number)

    def compare(self, store: embstore.EmbeddingStore) -> int:
        """Return the number of the last change; the ones before it may be missing."""
        words = store.words(range(store.rows))
        base = int(words[0].partition("-")[0])
        rows = store[:]
        expected = tables.attributes_of(rows) if self._kind.attributes else {}
        for name, values in expected.items():
            if store.attributes[name][:].tolist() != list(values):
                raise AssertionError(f"the attribute {name} is not that of the rows")
        for numbers in _selections(range(base + 1, base + STEP + 1)):
            table = self._base(base)
            for number in numbers:
                table = self._kind.model(table, number)
            if table[0] == list(words) and np.array_equal(table[1], rows):
                if not np.array_equal(store.ids(table[0]), np.arange(len(words))):
                    raise AssertionError("words do not give their ids")
                return max(numbers, default=base)
        raise AssertionError(f"{self.name}: neither the version {base} nor one that follows it")

    def _base(self, number: int) -> Table:
        rows = self.shape.rows - number % 3
        return tables.words_of(number, rows), table_rows(
            np.arange(rows), self.shape.columns, number
        )


def _selections(numbers: range) -> Iterator[tuple[int, ...]]:
    for count in range(len(numbers) + 1):
        yield from itertools.combinations(numbers, count)


def _new(number: int, count: int) -> Table:
    rows = table_rows(np.arange(100, 100 + count), TINY.columns, number)
    return [f"{number}+{i}" for i in range(count)], rows


def _appended(table: Table, number: int, count: int = 3) -> Table:
    words, rows = _new(number, count)
    return table[0] + words, np.concatenate([table[1], rows])


def _updated(table: Table, number: int) -> Table:
    rows = table[1].copy()
    rows[[1, 4]] = _new(number, 2)[1]
    return table[0], rows


def _upserted(table: Table, number: int) -> Table:
    words, rows = _appended(table, number, 1)
    rows[2] = rows[-1] * 2
    return words, rows


def _append(path: Path, number: int) -> None:
    words, rows = _new(number, 3)
    embstore.append(path, rows, words=words)


def _update(path: Path, number: int) -> None:
    embstore.update(path, [1, 4], _new(number, 2)[1])


def _upsert(path: Path, number: int) -> None:
    words, rows = _new(number, 1)
    with embstore.open(path) as store:
        known = store.words(2)
    both = np.concatenate([rows * 2, rows])
    attributes = tables.attributes_of(both)
    embstore.upsert(path, both, words=[known, *words], attributes=attributes)


APPEND = Kind("append", _append, _appended)
UPDATE = Kind("update", _update, _updated)
UPSERT = Kind("upsert", _upsert, _upserted, attributes=True)


def without_waiting() -> contextlib.AbstractContextManager[None]:
    """Do every step but flushes in this block."""
    return steps(lambda _, do: do(), syncs=True)
