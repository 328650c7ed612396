"""Shards of a remote store through a cache: mapped where their files have come, else by range.

As `embstore.reading.cached`: what was read from a mapping counts only if `Presence.version` has not
changed meanwhile. So the bytes of an inner chunk are copied before they are decoded.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.reading.cached import REQUEST_BYTES, or_from_disk
from embstore.reading.shards import Spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.reading.cached import Cache
    from embstore.reading.present import Presence
    from embstore.reading.shards import MappedShards, RangedShards


class CachedShards:
    """Shards that are mapped where their files have come, and else read by range.

    Parameters
    ----------
    mapped : MappedShards
        The reader of what is mapped; it has its place for every shard.
    ranged : RangedShards
        The reader of everything, range by range.
    presence : Presence
        Which shards are mapped.
    cache : Cache
        Brings files.
    """

    unit_bytes = 1

    def __init__(
        self, mapped: MappedShards, ranged: RangedShards, presence: Presence, cache: Cache
    ) -> None:
        self.mapped, self.ranged, self._presence, self.cache = mapped, ranged, presence, cache
        self.layout = ranged.layout

    def spans(self, shards: NDArray[np.int64], inner: NDArray[np.int64]) -> Spans:
        """Return the places of inner chunks; as `MappedShards.spans`."""
        version = self._presence.version
        here = self._presence.here[shards]
        if not here.any():
            return self._ranged_spans(shards, inner)
        try:
            found = self.mapped.spans(shards[here], inner[here])
        except StoreCorruptError:
            if self._presence.version == version:
                raise
            return self._ranged_spans(shards, inner)
        if self._presence.version != version:
            return self._ranged_spans(shards, inner)
        if here.all():
            return found
        others = self._ranged_spans(shards[~here], inner[~here])
        offsets, sizes = np.empty(len(shards), np.int64), np.empty(len(shards), np.int64)
        offsets[here], offsets[~here] = found.offsets, others.offsets
        sizes[here], sizes[~here] = found.sizes, others.sizes
        return Spans(shards, offsets, sizes)

    def span(self, shard: int, inner: int) -> tuple[int, int]:
        """Return the offset and size of one inner chunk; as `spans`."""
        version = self._presence.version
        if self._presence.here[shard]:
            try:
                found = self.mapped.span(shard, inner)
            except StoreCorruptError:
                if self._presence.version == version:
                    raise
            else:
                if self._presence.version == version:
                    return found
        return or_from_disk(
            partial(self.ranged.span, shard, inner),
            partial(self.mapped.span, shard, inner),
            np.array([shard]),
            self._presence,
            self.cache,
        )

    def _ranged_spans(self, shards: NDArray[np.int64], inner: NDArray[np.int64]) -> Spans:
        return or_from_disk(
            partial(self.ranged.spans, shards, inner),
            partial(self.mapped.spans, shards, inner),
            shards,
            self._presence,
            self.cache,
        )

    def known(self, shards: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the index of each shard, shape (n,), has been read from its mapping."""
        return self._presence.here[shards] & self.mapped.known(shards)

    def announce(self, spans: Spans) -> None:
        """Have the kernel start reading inner chunks that are mapped, but not in RAM."""
        here = self._presence.here[spans.shards]
        if here.all():
            self.mapped.announce(spans)
        elif here.any():
            self.mapped.announce(Spans(spans.shards[here], spans.offsets[here], spans.sizes[here]))

    def read(self, shard: int, offset: int, size: int) -> NDArray[np.uint8]:
        """Return the bytes of an inner chunk."""
        version = self._presence.version
        if self._presence.here[shard]:
            found = self.mapped.read(shard, offset, size).copy()
            if self._presence.version == version:
                self.cache.used(shard)
                return found
        self.cache.missed(np.array([shard]), np.array([float(size + REQUEST_BYTES)]))
        return or_from_disk(
            partial(self.ranged.read, shard, offset, size),
            lambda: self.mapped.read(shard, offset, size).copy(),
            np.array([shard]),
            self._presence,
            self.cache,
        )

    def bring(self, shards: NDArray[np.int64]) -> None:
        """Fetch and map shards, as far as that is possible."""
        self.cache.bring(np.unique(shards).tolist())

    def check(self) -> None:
        """Do nothing: objects of a published store never change, and nor do mapped files."""

    def page_cache_bytes(self) -> int:
        """Return the bytes of the mapped files that are in the page cache."""
        return self.mapped.page_cache_bytes()

    def mapped_bytes(self) -> int:
        """Return the bytes of the files that are mapped, and count as this process's memory."""
        return self.mapped.mapped_bytes()
