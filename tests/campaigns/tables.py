"""Small tables that replace each other; the rows of each tell its generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tools.make_table import table_rows

if TYPE_CHECKING:
    from collections.abc import Callable
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
            table_rows(np.arange(rows), shape.columns, generation), words_of(generation, rows)
        )


def check(path: Path, compare: Callable[[embstore.EmbeddingStore], int]) -> int | None:
    """Return the generation of the store at ``path``; None if there is no store.

    Parameters
    ----------
    path : Path
        The store.
    compare : callable
        Compares all rows, and returns the generation.

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
        generation = compare(store)
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
    if not np.array_equal(store.ids(words_of(generation, len(ids))), ids):
        raise AssertionError(f"words differ from those of table {generation}")
    return generation


def words_of(generation: int, rows: int) -> list[str]:
    """Return the words of a table."""
    return [f"{generation}-{number}" for number in range(rows)]
