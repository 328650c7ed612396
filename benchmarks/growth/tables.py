"""Tables for the curves: rows that repeat one block, in a store of a chosen shape; their pages.

Making random numbers would take longer than writing them, and no code looks at the values.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.bench.state import evict, files_under, read_through
from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.table.numbering import Strategy

BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class RepeatedTable:
    """A store of float32 rows; row ``i`` is ``block[i % len(block)]``.

    Attributes
    ----------
    path : Path
        The store.
    rows : int
        Number of rows.
    block : ndarray of float32, shape (n, dimension)
        The rows that repeat.
    """

    path: Path
    rows: int
    block: NDArray[np.float32]

    @classmethod
    def make(
        cls,
        path: Path,
        rows: int,
        row_bytes: int,
        *,
        partitions: int = 1,
        strategy: Strategy = "mod",
        chunk_rows: int | None = None,
    ) -> RepeatedTable:
        """Build the store."""
        block = repeated_block(row_bytes)
        with embstore.StoreWriter(
            path,
            row_shape=block.shape[1:],
            dtype="float32",
            rows=rows,
            partitions=partitions,
            strategy=strategy,
            chunk_rows=chunk_rows,
        ) as writer:
            for start in range(0, rows, len(block)):
                writer.write(block[: rows - start])
        return cls(path, rows, block)

    def expected(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows that a lookup of ``ids`` must give."""
        return self.block[ids % len(self.block)]

    def matrix(self) -> NDArray[np.float32]:
        """Return all rows as one array in RAM."""
        return self.expected(np.arange(self.rows))

    def files(self) -> list[Path]:
        """Return its files."""
        return files_under(self.path)


@cache
def repeated_block(row_bytes: int) -> NDArray[np.float32]:
    """Return the rows that tables of rows of ``row_bytes`` repeat; their number is odd."""
    shape = (BLOCK_BYTES // row_bytes | 1, row_bytes // 4)
    block = np.random.default_rng(0).random(shape, np.float32)
    block.flags.writeable = False
    return block


def evict_many(files: list[Path]) -> None:
    """Drop many files from the page cache.

    `evict` flushes each file by itself, which takes the disk a millisecond even if it is clean.
    """
    os.sync()
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_in_small_pages(files: list[Path]) -> None:
    """Bring files into the page cache in pieces of one page, as random reads do.

    Each page is announced by itself, so that the kernel cannot read several into a larger piece.
    """
    evict(files)
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            for offset in range(0, os.fstat(descriptor).st_size, PAGE_BYTES):
                os.posix_fadvise(descriptor, offset, PAGE_BYTES, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
    read_through(files)
