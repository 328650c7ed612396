"""Rows of an open store, for a build with other partitions or another dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.row_blocks import row_blocks, row_bytes
from embstore.sources import Batch, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.store import EmbeddingStore


class StoreSource(Source):
    """All rows of an open store, and its words.

    Parameters
    ----------
    store : EmbeddingStore
        The store. It stays open, and may be the one that the build replaces.
    """

    ids_matter = True

    def __init__(self, store: EmbeddingStore) -> None:
        self.name = str(store.path)
        self.row_shape = store.row_shape
        self.dtype = store.dtype
        self.row_count: int | None = store.rows
        self._row_bytes = row_bytes(store)
        self.byte_count = store.rows * self._row_bytes
        self.unk: str | None = store.unk
        self._store = store

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in the order of their ids."""
        for block in row_blocks(self._store):
            done = block.start + len(block.rows)
            yield Batch(block.rows, block.words, block.start, done * self._row_bytes)

    def describe(self) -> dict[str, Any]:
        """Return the store's name and size, and the facts about its own origin.

        ``origins`` lists these facts for each earlier build, the oldest first.
        """
        facts = self._store.source
        origins = facts.pop("origins", [])
        return {
            "file": self._store.path.name,
            "format": "store",
            "bytes": self.byte_count,
            "origins": [*origins, facts] if facts else origins,
        }
