"""Small tables that replace each other; the rows of each tell its generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tests.campaigns.faults import steps
from tools.make_table import table_rows

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of tables; those of different generations have a few rows more or less."""

    rows: int
    columns: int
    partitions: int
    chunk_rows: int


TINY = Shape(rows=7, columns=2, partitions=2, chunk_rows=2)
STORE = "t.embstore"


def write(path: Path, shape: Shape, generation: int) -> None:
    """Build the table of a generation; it replaces another, if there is one.

    Every second generation is compressed, so each layout replaces the other.
    """
    rows = shape.rows - generation % 3
    with embstore.StoreWriter(
        path,
        row_shape=(shape.columns,),
        dtype="float32",
        partitions=shape.partitions,
        chunk_rows=shape.chunk_rows,
        compression="zstd" if generation % 2 else None,
        overwrite=True,
        source={"generation": generation},
    ) as writer:
        writer.write(
            table_rows(np.arange(rows), shape.columns, generation), _words(generation, rows)
        )


def check(path: Path, shape: Shape) -> int | None:
    """Return the generation of the store at ``path``; None if there is no store.

    Raises
    ------
    AssertionError
        If the store is not whole, mixes two tables, or holds other files.
    """
    try:
        store = embstore.open(path)
    except embstore.StoreNotFoundError:
        if path.exists():
            raise AssertionError(f"{path} exists, but is not a store") from None
        return None
    with store:
        generation = compare(store, shape)
    report = embstore.verify(path)
    if not report.ok:
        raise AssertionError(f"verify: {report.problems}")
    others = [file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json"]
    if len(others) != report.file_count:
        raise AssertionError(f"verify counts {report.file_count} chunk files, found {others}")
    return generation


def compare(store: embstore.EmbeddingStore, shape: Shape) -> int:
    """Return the generation of a store; raise if a row or word is not that table's."""
    generation: int = store.source["generation"]
    ids = np.arange(shape.rows - generation % 3)
    rows: Any = store[:]
    if not np.array_equal(rows, table_rows(ids, shape.columns, generation)):
        raise AssertionError(f"rows differ from those of table {generation}")
    if not np.array_equal(store.ids(_words(generation, len(ids))), ids):
        raise AssertionError(f"words differ from those of table {generation}")
    return generation


def expect(path: Path, shape: Shape, allowed: set[int | None]) -> int | None:
    """Return the generation of the store at ``path``; raise if it is not one of these."""
    found = check(path, shape)
    if found not in allowed:
        raise AssertionError(f"found table {found}, expected one of {allowed}")
    return found


def build_next(path: Path, shape: Shape, generation: int) -> None:
    """Build a table, and check that it is in place and nothing is left beside it."""
    with steps(lambda _, do: do()):  # Without waiting for the disk.
        write(path, shape, generation)
    expect(path, shape, {generation})
    check_alone(path)


def check_alone(path: Path) -> None:
    """Raise if a build left anything beside the store."""
    if names := sorted(other.name for other in path.parent.iterdir() if other != path):
        raise AssertionError(f"left behind beside {path.name}: {names}")


def _words(generation: int, rows: int) -> list[str]:
    return [f"{generation}-{number}" for number in range(rows)]
