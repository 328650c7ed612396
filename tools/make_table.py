"""Stores of generated rows, of any size: ``tools/make_table PATH --rows 4000000``.

Every value is a hash of its id and column, so any row can be checked without keeping the table.
With ``--words``, the words are ``w0``, ``w1``, ...
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

import embstore
from embstore.settle import as_size

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS_AT_ONCE = 1 << 15


def table_rows(ids: NDArray[np.int64], dimension: int, seed: int = 0) -> NDArray[np.float32]:
    """Return the generated rows of ``ids``, float32 in [-1, 1), shape (n, dimension).

    The generator is splitmix64 (Steele, Lea, Flood 2014) of the value's number in the table.
    """
    numbers = ids.astype(np.uint64)[:, np.newaxis] * np.uint64(dimension)
    state = np.add(numbers, np.arange(dimension, dtype=np.uint64), dtype=np.uint64)
    state += np.uint64(seed << 40)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    values: NDArray[np.float32] = (state >> np.uint64(40)).astype(np.float32)
    values -= np.float32(1 << 23)
    values /= np.float32(1 << 23)
    return values


def table_words(ids: NDArray[np.int64]) -> list[str]:
    """Return the words of ``ids``, shape (n,)."""
    return [f"w{number}" for number in ids.tolist()]


def make_table(
    path: str | Path,
    rows: int,
    dimension: int,
    partitions: int = 4,
    strategy: str = "mod",
    *,
    words: bool = False,
) -> None:
    """Write a store of generated rows."""
    with embstore.StoreWriter(
        path,
        row_shape=(dimension,),
        dtype="float32",
        partitions=partitions,
        strategy=strategy,  # type: ignore[arg-type]  # argparse has checked it
        rows=rows,
        overwrite=True,
        source={"generator": "splitmix64", "seed": 0},
    ) as writer:
        for start in range(0, rows, ROWS_AT_ONCE):
            ids = np.arange(start, min(start + ROWS_AT_ONCE, rows))
            writer.write(table_rows(ids, dimension), table_words(ids) if words else None)
            if sys.stderr.isatty():
                print(f"\r{start:,} of {rows:,} rows", end="", file=sys.stderr)


def as_bytes(size: str) -> int:
    """Return the bytes of a size such as 4.8GB or 512MiB."""
    return as_size(size, "--bytes")


def main() -> None:
    """Read the arguments and make the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rows", type=int, help="number of rows (4000000)")
    size.add_argument("--bytes", type=as_bytes, help="size of all rows, as in 4.8GB")
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--strategy", choices=["mod", "div"], default="mod")
    parser.add_argument("--words", action="store_true", help="give rows the words w0, w1, ...")
    given = parser.parse_args()
    rows = given.rows
    if rows is None:
        rows = 4_000_000 if given.bytes is None else given.bytes // (4 * given.dimension)
    try:
        make_table(
            given.path,
            rows,
            given.dimension,
            given.partitions,
            given.strategy,
            words=given.words,
        )
    except (embstore.EmbstoreError, OSError, ValueError) as error:
        sys.exit(f"make_table: {error}")


if __name__ == "__main__":
    main()
