"""Shards of a remote store through a cache: mapped where their files have come, else by range.

As `embstore.reading.cached`: what was read from a mapping counts only if `Presence.version` has not
changed meanwhile. So the bytes of an inner chunk are copied before they are decoded.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embstore.errors import RemoteError, StoreCorruptError
from embstore.reading.file_cache import REQUEST_BYTES, or_from_disk
from embstore.reading.shards import Spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.reading.file_cache import Cache
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
        self.layout, self.slice_chunks = ranged.layout, ranged.slice_chunks

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
        place, cost = np.array([shard]), np.array([float(size + REQUEST_BYTES)])
        if not self._presence.here[shard]:
            self.cache.bring_cheap(place, cost)
        if (found := self._read_mapped(shard, offset, size)) is not None:
            return found
        self.cache.missed(place, cost)
        return or_from_disk(
            partial(self.ranged.read, shard, offset, size),
            lambda: self.mapped.read(shard, offset, size).copy(),
            place,
            self._presence,
            self.cache,
        )

    def read_each(self, spans: Spans) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the position of each inner chunk and its bytes, in any order."""
        shards, costs = self._missing(spans)
        if len(shards):
            self.cache.bring_cheap(shards, costs)
        self.announce(spans)
        left = []
        for at, (shard, offset, size) in enumerate(spans.each()):
            found = self._read_mapped(shard, offset, size)
            if found is None:
                left.append(at)
            else:
                yield at, found
        if not left:
            return
        others = Spans(*(values[left] for values in spans))
        self.cache.missed(*self._missing(others))
        done = set()
        try:
            for place, data in self.ranged.read_each(others):
                done.add(place)
                yield left[place], data
        except RemoteError:  # What is on the disk comes from there.
            for place, span in enumerate(others.each()):
                if place not in done:
                    yield left[place], self.read(*span)

    def _read_mapped(self, shard: int, offset: int, size: int) -> NDArray[np.uint8] | None:
        """Return a copy of the bytes of an inner chunk; None if its shard is not mapped."""
        version = self._presence.version
        if not self._presence.here[shard]:
            return None
        found = self.mapped.read(shard, offset, size).copy()
        if self._presence.version != version:
            return None
        self.cache.used(shard)
        return found

    def _missing(self, spans: Spans) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the shards that are not mapped, and what reading from each costs, in bytes."""
        missing = ~self._presence.here[spans.shards]
        distinct, places = np.unique(spans.shards[missing], return_inverse=True)
        costs = np.bincount(places, spans.sizes[missing] + float(REQUEST_BYTES), len(distinct))
        return distinct, costs.astype(np.float64)

    def cost(self, spans: Spans) -> tuple[int, int]:
        """Return the requests and the bytes that `read_each` takes."""
        here = self._presence.here[spans.shards]
        requests, count = self.ranged.cost(Spans(*(values[~here] for values in spans)))
        return requests, count + int(spans.sizes[here].sum())

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
