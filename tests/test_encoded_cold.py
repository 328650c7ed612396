"""Cold rows of tables with several columns: little else than their pages is read."""

from __future__ import annotations

import os

import numpy as np
import pytest

from embstore.reading.encoded import EncodedRecords
from embstore.reading.mapping import AddressSpace
from embstore.reading.slices import SliceGather
from tests.helpers.encoded import KINDS, opened
from tests.test_cold import blocks_count, evict

COUNT = 1_000_000
PAGE_BYTES = 4096

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise"), reason="this system cannot drop a file from its page cache"
)


@pytest.fixture(scope="module", params=["scale_a_row", "blocks", "joined"])
def cold(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    table = KINDS[request.param](COUNT)
    with pytest.MonkeyPatch.context() as patch, opened(folder, table, patch) as store:
        evict(folder)
        if not blocks_count(folder / "column0.part0"):
            pytest.skip(f"the file system at {folder} does not count blocks, or does not drop them")
        yield folder, table, store


def needed_pages(table, ids, parts=3, offset=5):
    """Return how many pages hold the records of ids, in files as `save` writes them."""
    pages: set[tuple[int, int, int]] = set()
    for at, (records, share) in enumerate(zip(table.fields, table.shares, strict=False)):
        rows, size = np.unique(ids // share), records.shape[1]
        firsts = np.array([len(some) for some in np.array_split(records, parts)]).cumsum()
        starts = np.concatenate([[0], firsts])
        part = firsts.searchsorted(rows, "right")
        begins = (rows - starts[part]) * size + offset * (part + 1)
        for one, begin in zip(part.tolist(), begins.tolist(), strict=True):
            first, last = begin // PAGE_BYTES, (begin + size - 1) // PAGE_BYTES
            pages.update((at, one, page) for page in range(first, last + 1))
    return len(pages)


@pytest.mark.parametrize(
    ("way", "count"),
    [
        *(("lookup", 1), ("lookup", 16), ("lookup", 48), ("lookup", 500), ("lookup", 4096)),
        *(("submit", 48), ("submit", 4096), ("prefetch", 16), ("prefetch", 4096)),
        *(("raw", 1), ("raw", 500), ("row", 1)),
    ],
)
def test_little_else_than_the_pages_of_rows_is_read(cold, way, count):
    folder, table, store = cold
    ids = np.random.default_rng(count).integers(0, COUNT, count)
    for _ in range(3):  # The first lookup may find that rows are cold.
        evict(folder)
        before = store.residency().page_cache_bytes
        if way == "prefetch":
            assert store.prefetch(ids).wait(60)
        elif way == "submit":
            assert np.array_equal(store.submit(ids).result(), table.rows[ids])
        elif way == "raw":
            assert np.array_equal(store.lookup(ids, raw=True), table.raw_of(ids))
        elif way == "row":
            assert np.array_equal(store[int(ids[0])], table.rows[ids[0]])
        else:
            assert np.array_equal(store.lookup(ids), table.rows[ids])
        read = (store.residency().page_cache_bytes - before) // PAGE_BYTES
        assert read <= 1.15 * needed_pages(table, ids) + 1, read
    assert store.explain(ids).bytes_read >= needed_pages(table, ids) * PAGE_BYTES * 0.9


@pytest.mark.parametrize("count", [3, 48, 64, 200])
def test_all_columns_are_announced_before_one_is_read(tmp_path, monkeypatch, count):
    table = KINDS["zero_points"](20_000)
    with opened(tmp_path, table, monkeypatch) as store:
        records = store._records
        assert isinstance(records, EncodedRecords)
        records.warmth.chill()
        events: list[str] = []
        for cls, name in ((AddressSpace, "announce"), (SliceGather, "fill")):
            method = getattr(cls, name)

            def noted(self, *given, name=name, method=method, **options):
                events.append(name)
                return method(self, *given, **options)

            monkeypatch.setattr(cls, name, noted)
        ids = np.random.default_rng(count).integers(0, 20_000, count)
        assert np.array_equal(store.lookup(ids), table.rows[ids])
        assert events[:3] == ["announce"] * 3
        assert events.count("fill") >= 3
        events.clear()
        records.warmth.chill()
        assert np.array_equal(store[7], table.rows[7])
        assert events[:3] == ["announce"] * 3


def test_columns_share_a_resident_limit(tmp_path, monkeypatch):
    """More than the limit is touched, at random, in both columns."""
    table = KINDS["scale_a_row"](3_000_000)
    with opened(tmp_path, table, monkeypatch, resident_limit="64MiB") as store:
        generator = np.random.default_rng(1)
        for _ in range(12):  # Each touches 40 MB.
            ids = generator.integers(0, len(table.rows), 5000)
            assert np.array_equal(store.lookup(ids), table.rows[ids])
            assert store.residency().mapped_bytes <= 64 << 20
        store.scan(lambda ids, rows: None)
        assert store.residency().mapped_bytes <= 64 << 20
