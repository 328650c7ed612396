"""Stores to test with, and changes of their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import embstore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def make_store(
    path: Path, table: NDArray[Any], words: list[str] | None = None, **options: Any
) -> embstore.EmbeddingStore:
    """Write a table, and open the store; options are those of `embstore.StoreWriter`."""
    settings: dict[str, Any] = {"row_shape": table.shape[1:], "dtype": table.dtype}
    settings |= {"rows": len(table)} | options
    with embstore.StoreWriter(path, **settings) as writer:
        writer.write(table, words)
    return embstore.open(path)


def write_store(path: Path, value: int, **options: Any) -> None:
    """Write a store of 100 rows over 3 partitions in which every number is ``value``."""
    with embstore.StoreWriter(
        path, row_shape=(4,), dtype="float32", partitions=3, chunk_rows=4, **options
    ) as writer:
        writer.write(np.full((100, 4), value), [f"{value}-{i}" for i in range(100)])


def value_of(path: Path) -> float:
    """Return the one value of all rows at ``path``."""
    with embstore.open(path) as store:
        (value,) = np.unique(store[:])
    return float(value)


def names(directory: Path) -> list[str]:
    """Return the sorted names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def flip(path: Path, place: int, bits: int = 1) -> None:
    """Flip bits of the byte at a place in a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= bits
    path.write_bytes(data)
