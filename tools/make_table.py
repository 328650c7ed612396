"""Make a store of generated rows, of any size: ``tools/make_table PATH --rows 4000000``.

Every value is a hash of its id and column, so any row can be checked without keeping the table.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

import embstore

ROWS_AT_ONCE = 1 << 15


def table_rows(ids: NDArray[np.int64], dimension: int, seed: int = 0) -> NDArray[np.float32]:
    """Return the generated rows of ``ids``, float32 in [-1, 1), shape (n, dimension).

    The generator is splitmix64 (Steele, Lea, Flood 2014) of the value's number in the table.
    """
    numbers = ids.astype(np.uint64)[:, np.newaxis] * np.uint64(dimension)
    state = numbers + np.arange(dimension, dtype=np.uint64) + np.uint64(seed << 40)
    state *= np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    return ((state >> np.uint64(40)).astype(np.float32) - np.float32(1 << 23)) / np.float32(1 << 23)


def make_table(path: str, rows: int, dimension: int, partitions: int, strategy: str) -> None:
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
            writer.write(table_rows(ids, dimension))
            if sys.stderr.isatty():
                print(f"\r{start:,} of {rows:,} rows", end="", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--strategy", choices=["mod", "div"], default="mod")
    given = parser.parse_args()
    make_table(given.path, given.rows, given.dimension, given.partitions, given.strategy)
