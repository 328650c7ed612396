"""Works that lead from one version of a table to the next: builds, snapshots, changes.

A version has a number. A work leads from any version to the one of a given number; a campaign
starts from a base, a multiple of three, and goes on with the next two or three numbers. Each work
has a model of its versions, which is compared with all rows and words.

1. A build replaces a table; every second one is compressed.
2. A snapshot replaces a table by that of another store; those for the next numbers lie in a folder
   beside it.
3. A change (append, update, upsert) keeps a part of the table, which has attributes; the model does
   the same with lists.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

STEP = 3  # From one base to the next.


@dataclass(frozen=True, slots=True)
class Table:
    """The model of a table: its words, rows, and attributes."""

    words: list[str]
    rows: NDArray[np.float32]
    counts: list[int]
    tags: list[str]

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes by their names."""
        return {"count": np.array(self.counts, np.int64), "tag": self.tags}

    def __add__(self, other: Table) -> Table:
        return Table(
            self.words + other.words,
            np.concatenate([self.rows, other.rows]),
            self.counts + other.counts,
            self.tags + other.tags,
        )

    def replace(self, ids: list[int], other: Table) -> Table:
        """Return the table with rows and attributes of some ids from another one."""
        rows, counts, tags = self.rows.copy(), list(self.counts), list(self.tags)
        rows[ids] = other.rows
        for number, id in enumerate(ids):
            counts[id], tags[id] = other.counts[number], other.tags[number]
        return Table(self.words, rows, counts, tags)


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


class Change(Build):
    """Changes of a table that keep a part of it."""

    def __init__(self, kind: Kind, shape: Shape = TINY) -> None:
        super().__init__(shape)
        self.name = kind.name
        self._kind = kind

    def start(self, path: Path, number: int) -> None:
        """Write the table of a base."""
        table = self._base(number)
        with embstore.StoreWriter(
            path,
            row_shape=(self.shape.columns,),
            dtype="float32",
            partitions=self.shape.partitions,
            chunk_rows=self.shape.chunk_rows,
            compression="zstd" if number % 2 else None,
            attributes={"count": "int64", "tag": "string"},
            overwrite=True,
        ) as writer:
            writer.write(table.rows, table.words, attributes=table.attributes)

    def do(self, path: Path, number: int) -> None:
        """Change the table."""
        self._kind.do(path, number)

    def compare(self, store: embstore.EmbeddingStore) -> int:
        """Return the number of the last change; the ones before it may be missing."""
        words = store.words(range(store.rows))
        base = int(words[0].partition("-")[0])
        found = Table(
            list(words),
            store[:],
            np.asarray(store.attributes["count"]).tolist(),
            np.asarray(store.attributes["tag"]).tolist(),
        )
        for numbers in _selections(range(base + 1, base + STEP + 1)):
            table = self._base(base)
            for number in numbers:
                table = self._kind.model(table, number)
            if _same(table, found):
                if not np.array_equal(store.ids(table.words), np.arange(len(words))):
                    raise AssertionError("words do not give their ids")
                return max(numbers, default=base)
        raise AssertionError(f"{self.name}: neither the version {base} nor one that follows it")

    def _base(self, number: int) -> Table:
        count = self.shape.rows - number % 3
        rows = table_rows(np.arange(count), self.shape.columns, number)
        tags = [f"{number}" * i for i in range(count)]
        return Table(tables.words_of(number, count), rows, list(range(count)), tags)


def _same(one: Table, other: Table) -> bool:
    lists = [(table.words, table.counts, table.tags) for table in (one, other)]
    return lists[0] == lists[1] and np.array_equal(one.rows, other.rows)


def _selections(numbers: range) -> Iterator[tuple[int, ...]]:
    for count in range(len(numbers) + 1):
        yield from itertools.combinations(numbers, count)


def _new(number: int, count: int) -> Table:
    """Return rows of a change."""
    rows = table_rows(np.arange(100, 100 + count), TINY.columns, number)
    words = [f"{number}+{i}" for i in range(count)]
    return Table(words, rows, [number + i for i in range(count)], [f"tag {number}"] * count)


def _append(path: Path, number: int) -> None:
    new = _new(number, 3)
    embstore.append(path, new.rows, words=new.words, attributes=new.attributes)


def _update(path: Path, number: int) -> None:
    new = _new(number, 2)
    embstore.update(path, [1, 4], new.rows, attributes=new.attributes)


def _upsert(path: Path, number: int) -> None:
    new = _new(number, 2)
    with embstore.open(path) as store:
        words = [store.words(2), new.words[1]]
    embstore.upsert(path, new.rows, words=words, attributes=new.attributes)


def _upserted(table: Table, number: int) -> Table:
    known, new = _parts(_new(number, 2))
    return table.replace([2], known) + new


def _parts(table: Table) -> list[Table]:
    return [
        Table([word], table.rows[i : i + 1], [table.counts[i]], [table.tags[i]])
        for i, word in enumerate(table.words)
    ]


def _appended(table: Table, number: int) -> Table:
    return table + _new(number, 3)


def _updated(table: Table, number: int) -> Table:
    return table.replace([1, 4], _new(number, 2))


APPEND = Kind("append", _append, _appended)
UPDATE = Kind("update", _update, _updated)
UPSERT = Kind("upsert", _upsert, _upserted)


def without_waiting() -> contextlib.AbstractContextManager[None]:
    """Do every step but flushes in this block."""
    return steps(lambda _, do: do(), syncs=True)
