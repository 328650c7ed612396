"""The tables that campaigns build one over the other, each of a generation that its rows tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tools.make_table import table_rows

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shape:
    """What tables are like; those of different generations have a few rows more or less."""

    rows: int
    columns: int
    partitions: int
    chunk_rows: int


def write(path: Path, shape: Shape, generation: int) -> None:
    """Build a table of a generation, in place of another, if there is one."""
    rows = shape.rows - generation % 3
    with embstore.StoreWriter(
        path,
        row_shape=(shape.columns,),
        dtype="float32",
        partitions=shape.partitions,
        chunk_rows=shape.chunk_rows,
        overwrite=True,
        source={"generation": generation},
    ) as writer:
        writer.write(
            table_rows(np.arange(rows), shape.columns, generation), _words(generation, rows)
        )


def check(path: Path, shape: Shape) -> int | None:
    """Return the generation of the store at ``path``, which is whole; None if there is none.

    Raises
    ------
    AssertionError
        If there is a part of a store, or one of two tables, or with something else in it.
    """
    try:
        store = embstore.open(path)
    except embstore.StoreNotFoundError:
        if path.exists():
            raise AssertionError(f"{path} is there, but no store") from None
        return None
    with store:
        generation = compare(store, shape)
    report = embstore.verify(path)
    if not report.ok:
        raise AssertionError(f"verify: {report.problems}")
    others = [file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json"]
    if len(others) != report.file_count:
        raise AssertionError(f"{report.file_count} chunk files, but {others}")
    return generation


def compare(store: embstore.EmbeddingStore, shape: Shape) -> int:
    """Return the generation of a store; raise if it is not that table, row for row."""
    generation: int = store.source["generation"]
    ids = np.arange(shape.rows - generation % 3)
    rows: Any = store[:]
    if not np.array_equal(rows, table_rows(ids, shape.columns, generation)):
        raise AssertionError(f"other rows than those of table {generation}")
    if not np.array_equal(store.ids(_words(generation, len(ids))), ids):
        raise AssertionError(f"other words than those of table {generation}")
    return generation


def check_alone(path: Path) -> None:
    """Raise if something beside the store was left in its directory."""
    if names := sorted(other.name for other in path.parent.iterdir() if other != path):
        raise AssertionError(f"left behind: {names}")


def _words(generation: int, rows: int) -> list[str]:
    return [f"{generation}-{number}" for number in range(rows)]
