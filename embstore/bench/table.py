"""Which rows are looked up, and what must come back?

A `Table` is a store and a second way to its rows: positional reads of the chunk files, which share
nothing with the reader under test but the format. What a timed lookup returns is compared with
that, outside the timing.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.formats.own.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# As many bytes of rows are handed on at once: they stay in the processor's cache.
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Table:
    """A store whose rows are looked up.

    Parameters
    ----------
    path : Path
        The store.
    rows : int
        Number of rows.
    row_shape : tuple of int
        Shape of one row.
    dtype : str
        Name of their dtype.
    has_words : bool
        Whether rows have words.
    """

    path: Path
    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    has_words: bool = False

    @classmethod
    def of(cls, path: Path) -> Table:
        """Return the table that is in a store."""
        with embstore.open(path) as store:
            return cls(store.path, store.rows, store.row_shape, store.dtype.name, store.has_words)

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def total_bytes(self) -> int:
        """Size of all rows."""
        return self.rows * self.row_bytes

    def expected(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return what a lookup of ``ids``, shape (n,), must give, read from the chunk files."""
        manifest = read_manifest(self.path)
        partitions, rows = manifest.numbering.locate(ids)
        chunks, places = np.divmod(np.asarray(rows), manifest.chunk_rows)
        out = np.empty((len(ids), *self.row_shape), manifest.dtype)
        flat = out.reshape(len(ids), -1).view(np.uint8)
        descriptors: dict[tuple[int, int], int] = {}
        with ExitStack() as stack:
            where = zip(
                np.broadcast_to(partitions, len(ids)).tolist(),
                chunks.tolist(),
                (places * manifest.row_bytes).tolist(),
                strict=True,
            )
            for number, (partition, chunk, offset) in enumerate(where):
                descriptor = descriptors.get((partition, chunk))
                if descriptor is None:
                    name = manifest.partition(partition).chunk_name(chunk)
                    descriptor = os.open(self.path / name, os.O_RDONLY)
                    stack.callback(os.close, descriptor)
                    descriptors[partition, chunk] = descriptor
                os.preadv(descriptor, [flat[number]], offset)
        return out.astype(self.dtype, copy=False)

    def words(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the words of ids, shape (n,)."""
        with embstore.open(self.path) as store:
            return list(store.words(ids))

    def blocks(self, rows: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first id, rows) in the order of ids; the array is used again for the next."""
        stop = self.rows if rows is None else rows
        length = max(BLOCK_BYTES // max(self.row_bytes, 1), 1)
        block = np.empty((min(length, stop), *self.row_shape), self.dtype)
        with embstore.open(self.path) as store:
            for start in range(0, stop, length):
                count = min(length, stop - start)
                yield start, store.lookup(np.arange(start, start + count), out=block[:count])


def files_under(directory: Path) -> list[Path]:
    """Return all regular files below a directory."""
    return sorted(file for file in directory.rglob("*") if file.is_file())
