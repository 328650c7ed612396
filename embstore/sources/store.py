"""Rows of an open store, for a build with other partitions or another dtype.

Encoded rows stay encoded, unless they are to be decoded: a batch then has their records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.encodings.opaque import Opaque
from embstore.errors import SourceError
from embstore.formats.own.encoded import as_stored, check_stored
from embstore.row_blocks import row_blocks
from embstore.sources import Batch, Source
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embstore.store import EmbeddingStore
    from embstore.table.protocols import Encoding


class StoreSource(Source):
    """All rows of an open store, and its words.

    Parameters
    ----------
    store : EmbeddingStore
        The store. It stays open, and may be the one that the build replaces.
    encoding : str, optional
        The encoding that is wanted. Rows that have it, or all without it, are not decoded.
    attributes : sequence of str, optional
        The attributes to keep; by default all.

    Raises
    ------
    SourceError
        If rows of bytes are to be decoded, or an attribute is missing.
    """

    ids_matter = True

    def __init__(
        self,
        store: EmbeddingStore,
        *,
        encoding: str | None = None,
        attributes: Sequence[str] | None = None,
    ) -> None:
        self.name = store.location
        self.row_shape = store.row_shape
        self.dtype = store.dtype
        self.row_count: int | None = store.rows
        self.encoding = kept_encoding(store, encoding)
        if self.encoding is not None:
            self.row_shape, self.dtype = (store.record_bytes,), np.dtype(np.uint8)
        self._row_bytes = store.record_bytes  # Also of rows that are decoded.
        self.byte_count = store.rows * self._row_bytes
        self.unk: str | None = store.unk
        self._store = store
        names = list(store.attributes) if attributes is None else attributes
        for name in names:
            if name not in store.attributes:
                listing = ", ".join(store.attributes) or "none"
                raise SourceError(f"{self.name} has no attribute {name!r}; it has: {listing}")
        self.attribute_dtypes = {name: store.attributes[name].dtype_name for name in names}

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in the order of their ids."""
        raw = self.encoding is not None
        for block in row_blocks(self._store, raw=raw, attributes=self.attribute_dtypes):
            done = block.start + len(block.rows)
            bytes_done = done * self._row_bytes
            yield Batch(block.rows, block.words, block.start, bytes_done, block.attributes)

    def describe(self) -> dict[str, Any]:
        """Return the store's name and size, and the facts about its own origin.

        ``origins`` lists these facts for each earlier build, the oldest first.
        """
        facts = self._store.source
        origins = facts.pop("origins", [])
        return {
            "file": self._store.location.rstrip("/").rpartition("/")[2],
            "format": "store",
            "bytes": self.byte_count,
            "origins": [*origins, facts] if facts else origins,
        }


def kept_encoding(store: EmbeddingStore, wanted: str | None) -> Encoding | None:
    """Return the encoding that a build keeps; None for plain rows, or if they are decoded.

    Rows are decoded if another encoding is ``wanted``.

    Raises
    ------
    SourceError
        If rows of bytes are to be decoded, or a store cannot keep the encoding.
    """
    encoding = store._encoding
    if wanted in (None, encoding.name):
        stored = as_stored(encoding)
        try:
            if stored is not None:
                check_stored(stored)
        except ValueError as error:
            raise SourceError(
                f"{store.location} cannot be kept as {encoding.name}: {error}; pass "
                f"{option('encoding', 'plain')} to decode it"
            ) from error
        return stored
    if isinstance(encoding, Opaque):
        raise SourceError(
            f"{store.location} has rows of {encoding.name}, which are bytes to embstore and cannot "
            f"be decoded; leave out {option('encoding')} and {option('dtype')} to keep them"
        )
    return None
