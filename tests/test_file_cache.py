"""The cache of a remote store: right rows, cold and warm, and few bytes from the object store.

The model is the local store. Files of the remote one are those of the local one, read by range and
counted.
"""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import IdRangeError, RemoteError, StoreCorruptError
from embstore.reading.file_cache import REQUEST_BYTES
from embstore.reading.present import ExtentNumbers
from embstore.remote.cache import keeper, store_cache
from tests.helpers.cached import Far, Inline, files_in, size_of
from tests.helpers.stores import make_store

ROWS = 3000
CHUNK_ROWS = 256
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mod": {"partitions": 4},
    "div": {"partitions": 3, "strategy": "div"},
    "one chunk each": {"partitions": 16, "chunk_rows": 256},
    "int8": {"encoding": "int8"},
    "float8": {"encoding": "float8_e4m3fn", "partitions": 2},
    "zstd": {"compression": "zstd", "chunk_rows": 512},
    "blosc int8": {"compression": "blosc", "encoding": "int8", "chunk_rows": 512},
}


@pytest.fixture
def inline(monkeypatch):
    """Have what a lookup makes due be brought before it returns."""
    monkeypatch.setattr(store_cache, "_background", Inline())


def table(rows: int = ROWS, width: int = 12) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)


def build(path: Path, **options: Any) -> embstore.EmbeddingStore:
    return make_store(path, table(), **{"chunk_rows": CHUNK_ROWS, "partitions": 1} | options)


@pytest.fixture(params=KINDS)
def local(request, tmp_path):
    """A local store of each kind."""
    with build(tmp_path / "local", **KINDS[request.param]) as store:
        yield store


@pytest.fixture
def plain(tmp_path):
    with build(tmp_path / "local") as store:
        yield store


def check(store: embstore.EmbeddingStore, local: embstore.EmbeddingStore, ids: Any) -> None:
    """Compare lookups of ids, in every form and size, with those of the local store."""
    expected = local.lookup(ids)
    for found in (
        store.lookup(ids),
        store.lookup(ids, out=np.full(expected.shape, 7, expected.dtype)),
        store.submit(ids).result(),
        store[ids],
    ):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(store.lookup(ids, raw=True), local.lookup(ids, raw=True))
    half = local.lookup(ids, dtype="float16")
    np.testing.assert_array_equal(store.lookup(ids, dtype="float16"), half)
    first = int(np.ravel(ids)[0])
    np.testing.assert_array_equal(store[first], local[first])
    np.testing.assert_array_equal(store.lookup(ids, max_norm=1.5), local.lookup(ids, max_norm=1.5))


def batches(count: int = 12, seed: int = 3) -> list[np.ndarray]:
    """Return batches of ids: of many rows, of a few, in two dimensions, of one chunk."""
    rng = np.random.default_rng(seed)
    shapes = [(700,), (16,), (1,), (40, 5), (64,), (2000,)]
    made = [rng.integers(0, ROWS, shapes[at % len(shapes)]) for at in range(count)]
    return [np.arange(10), *made]


def test_rows_are_those_of_the_local_store(local, tmp_path, inline):
    far = Far(local.path, tmp_path / "cache")
    for ids in batches(30):
        check(far.store, local, ids)
    assert far.store.stats().fetched_files == len(files_in(tmp_path / "cache")) > 0


def test_rows_are_right_while_some_files_are_here(local, tmp_path, inline):
    # Each lookup of a single row of a chunk this small makes it due: forget some again.
    far = Far(local.path, tmp_path / "cache")
    rng = np.random.default_rng(5)
    for ids in batches(18):
        for path in files_in(tmp_path / "cache"):
            if rng.random() < 0.5:
                path.unlink()
        far.cache.tick()
        check(far.store, local, ids)
    assert far.store.stats().file_cache_errors == 0


def test_warm_store_reads_nothing(local, tmp_path):
    far = Far(local.path, tmp_path / "cache")
    far.store.warm(np.arange(ROWS))
    assert far.store.stats().fetched_files == len(far.cache.chunks)
    before = len(far.files.requests)
    for ids in batches(20):
        check(far.store, local, ids)
    np.testing.assert_array_equal(np.asarray(far.store), np.asarray(local))
    assert len(far.files.requests) == before
    assert far.store.residency().file_cache_bytes == size_of(tmp_path / "cache")


def test_files_are_fetched_once_by_all_that_share_them(local, tmp_path):
    first, second = (Far(local.path, tmp_path / "cache") for _ in range(2))
    first.store.warm(np.arange(ROWS))
    second.store.warm(np.arange(ROWS))
    assert second.files.requests == []
    assert second.store.stats().fetched_files == 0
    check(second.store, local, np.arange(ROWS))
    third = Far(local.path, tmp_path / "cache")
    third.files.is_down = True
    check(third.store, local, batches()[1])
    assert third.files.requests == []


def test_files_on_disk_are_brought_at_their_first_use(plain, tmp_path, inline):
    Far(plain.path, tmp_path / "cache").store.warm([0])
    far = Far(plain.path, tmp_path / "cache")
    far.store.lookup([1])
    assert far.store.stats().fetched_files == 0
    before = len(far.files.requests)
    far.store.lookup([1])
    assert len(far.files.requests) == before == 0


@pytest.mark.parametrize("rows_a_lookup", [1, 3, 50])
def test_rent_and_price_are_at_most_twice_the_best(tmp_path, inline, monkeypatch, rows_a_lookup):
    monkeypatch.setattr("embstore.reading.cached.REQUEST_BYTES", 100)
    monkeypatch.setattr("embstore.reading.ranged.MAX_GAP_BYTES", 100)
    with build(tmp_path / "local") as local:
        far = Far(local.path, tmp_path / "cache")
        size = far.cache.chunks[0].size
        rng = np.random.default_rng(2)
        rows = Counter[int]()
        for _ in range(1200 // rows_a_lookup):
            ids = rng.geometric(1 / 300, rows_a_lookup) % ROWS
            rows.update((ids // CHUNK_ROWS).tolist())
            far.store.lookup(ids)
        each = 12 * 4 + 100
        fetched = far.files.whole_reads(size)
        ranged = Counter[str]()
        for name, _, count in far.files.requests:
            ranged[name] += count + 100 if count < size else 0
        names = [chunk.name for chunk in far.cache.chunks]
        assert any(fetched.values())
        assert not all(fetched[name] for name in names)
        for chunk, count in rows.items():
            name, best = names[chunk], min(count * each, size)
            assert fetched[name] <= 1
            # A lookup may pass the price with its last rows.
            assert ranged[name] + fetched[name] * size <= 2 * best + rows_a_lookup * each


def test_few_rows_of_a_large_file_come_by_range(tmp_path, inline):
    with make_store(tmp_path / "local", table(20_000, 64), chunk_rows=16_384) as local:
        far = Far(local.path, tmp_path / "cache")
        due = far.cache.chunks[0].size // (REQUEST_BYTES + 256)
        for number in range(due):
            far.store.lookup([number])
        assert files_in(tmp_path / "cache") == []
        far.store.lookup(np.arange(3))
        assert far.store.stats().fetched_files == 1
        before = len(far.files.requests)
        far.store.lookup(np.arange(100))
        assert len(far.files.requests) == before


def test_explain_residency_and_stats_tell_of_the_cache(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("embstore.reading.cached.REQUEST_BYTES", 0)
    far = Far(plain.path, tmp_path / "cache")
    ids = np.array([0, 1, 300, 301, 2999])
    assert far.store.explain(ids).file_cache_row_count == 0
    cold = far.store.explain(ids)
    assert cold.bytes_read > 0
    far.store.warm([0, 300])
    mixed = far.store.explain(ids)
    assert mixed.file_cache_row_count == 4
    assert mixed.row_count == 5
    assert mixed.chunk_count == 3
    assert 0 < mixed.bytes_read < cold.bytes_read
    assert "rows in the cache" in str(mixed)
    assert far.store.residency().file_cache_bytes == 2 * far.cache.chunks[0].size
    stats = far.store.stats()
    assert (stats.fetched_files, stats.fetched_bytes) == (2, 2 * far.cache.chunks[0].size)
    far.store.lookup(ids)
    stats = far.store.stats()
    assert (stats.lookups, stats.rows, stats.file_cache_rows) == (1, 5, 4)


def test_explain_brings_nothing(local, tmp_path, inline):
    far = Far(local.path, tmp_path / "cache")
    for _ in range(3):
        far.store.explain(np.arange(ROWS))
    assert files_in(tmp_path / "cache") == []
    assert far.store.stats().fetched_files == 0


def test_preload_fetches_everything_first(tmp_path):
    for name in ("plain", "int8"):
        with build(tmp_path / name, **KINDS[name]) as local:
            seen: list[embstore.Progress] = []
            far = Far(local.path, tmp_path / "c" / name, preload=True, progress=seen.append)
            files = [chunk.size for chunk in far.cache.chunks]
            assert [one.done_bytes for one in seen[: len(files)]] == np.cumsum(files).tolist()
            before = len(far.files.requests)
            check(far.store, local, np.arange(ROWS))
            assert len(far.files.requests) == before


def test_preload_of_what_does_not_fit_is_an_error(plain, tmp_path):
    limit = plain.chunk_rows * plain.record_bytes * 3
    with pytest.raises(RemoteError, match="preload=True keeps the whole table in the cache"):
        Far(plain.path, tmp_path / "cache", limit, preload=True)


def test_resident_limit_goes_with_a_cache(plain, tmp_path):
    far = Far(plain.path, tmp_path / "cache", resident_limit=64 << 20)
    for _ in range(3):
        check(far.store, plain, np.arange(ROWS))
        far.store.warm(np.arange(ROWS))


def test_result_over_the_ids_is_right(tmp_path, monkeypatch):
    numbers = np.arange(512, dtype=np.int64)[:, None] * 3
    with make_store(tmp_path / "local", numbers, chunk_rows=64) as local:
        far = Far(local.path, tmp_path / "cache")
        for share in (0, 1, 2):
            if share:
                far.store.warm(np.arange(512 // 2 * share))
            for _ in range(20):
                buffer = np.arange(100, 164)
                far.store.lookup(buffer, out=buffer.reshape(-1, 1))
                assert buffer.tolist() == (np.arange(100, 164) * 3).tolist()
        # Unmapped between the gather and the look at the token.
        records: Any = far.store._records
        take = records.warm_records.take
        buffer = np.arange(100, 164)
        token = records.presence.token
        assert token
        far.cache.tick()

        def lose(rows: np.ndarray, out: np.ndarray) -> None:
            take(rows, out)
            out[:] = 0
            records.presence.unmap(range(8))

        monkeypatch.setattr(records.warm_records, "take", lose)
        far.store.lookup(buffer, out=buffer.reshape(-1, 1))
        assert buffer.tolist() == (np.arange(100, 164) * 3).tolist()


def test_scans_give_blocks_that_may_be_kept(local, tmp_path):
    far = Far(local.path, tmp_path / "cache")
    for ids in ([], [0, 700], np.arange(ROWS)):
        far.store.warm(np.array(ids, np.int64))
        kept: list[tuple[range, np.ndarray]] = []

        def keep(ids: range, rows: np.ndarray, kept: Any = kept) -> None:
            kept.append((ids, rows))

        far.store.scan(keep, 100, 2500)
        for path in files_in(tmp_path / "cache"):
            path.unlink()
        far.cache.tick()
        assert sorted(number for ids, _ in kept for number in ids) == list(range(100, 2500))
        for numbers, rows in kept:
            np.testing.assert_array_equal(rows, local.lookup(np.array(numbers)))


def test_ids_out_of_range_are_refused_cold_and_warm(plain, tmp_path):
    far = Far(plain.path, tmp_path / "cache")
    for _ in range(2):
        for bad in ([ROWS], [-1], np.array([0, ROWS]), np.full(600, ROWS)):
            with pytest.raises(IdRangeError):
                far.store.lookup(bad)
        far.store.warm(np.arange(ROWS))
        for _ in range(20):
            far.store.lookup(np.arange(16))


def test_server_that_is_down_costs_only_rows_that_are_not_here(plain, tmp_path):
    far = Far(plain.path, tmp_path / "cache")
    far.store.warm(np.arange(CHUNK_ROWS))
    far.files.is_down = True
    np.testing.assert_array_equal(far.store.lookup([3, 5]), plain.lookup([3, 5]))
    with pytest.raises(RemoteError):
        far.store.lookup([3, CHUNK_ROWS])
    far.files.is_down = False
    check(far.store, plain, [3, CHUNK_ROWS])


def test_short_and_cut_fetches_are_not_kept(plain, tmp_path):
    far = Far(plain.path, tmp_path / "cache")
    cuts = iter([5, 10_000])

    def cut(name: str, first: int, data: bytes) -> bytes:
        if len(data) < 10_000:
            return data
        count = next(cuts, len(data))
        if count == 5:
            raise RemoteError(f"{name} was cut")
        return data[:count]

    far.files.on_read = cut
    far.store.warm([0])
    assert files_in(tmp_path / "cache") == []
    assert "was cut" in far.store.stats().file_cache_problem
    far.store.warm([0])  # Cut short, and fetched again.
    assert far.store.stats().fetched_files == 1
    check(far.store, plain, np.arange(CHUNK_ROWS))


def test_file_that_is_wrong_on_the_server_is_refused(plain, tmp_path, inline):
    far = Far(plain.path, tmp_path / "cache")
    bad = far.cache.chunks[1].name

    def flip(name: str, first: int, data: bytes) -> bytes:
        return bytes(len(data)) if name == bad and len(data) > 10_000 else data

    far.files.on_read = flip
    far.store.warm([CHUNK_ROWS])
    assert files_in(tmp_path / "cache") == []
    for _ in range(2):
        with pytest.raises(StoreCorruptError, match=f"{bad} does not have the checksum"):
            far.store.lookup([0, CHUNK_ROWS])
    check(far.store, plain, np.arange(CHUNK_ROWS))


def test_lookups_are_right_while_files_come_and_go(local, tmp_path):
    far = Far(local.path, tmp_path / "cache")
    stop, wrong = threading.Event(), []
    expected = np.asarray(local)

    def look(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            ids = rng.integers(0, ROWS, rng.choice([1, 16, 300, 2000]))
            found = far.store.lookup(ids) if rng.random() < 0.8 else far.store.submit(ids).result()
            if not (found == expected[ids]).all():
                wrong.append(ids)
                return

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(9)
    for _ in range(25):
        far.store.warm(rng.integers(0, ROWS, 2000))
        for path in files_in(tmp_path / "cache"):
            if rng.random() < 0.3 and not path.name.endswith(".part"):
                path.unlink(missing_ok=True)
        far.cache.tick()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_ticks_at_once_do_not_forget_a_file_that_is_brought_again(plain, tmp_path, monkeypatch):
    far = Far(plain.path, tmp_path / "cache")
    far.store.warm([0])
    (presence, _) = far.cache._places[0]
    for path in files_in(tmp_path / "cache"):
        path.unlink()
    unmap = presence.unmap
    looked, unmapped, brought = (threading.Event() for _ in range(3))
    second = threading.Thread(target=far.cache.tick)

    def slow(extents: Any) -> None:
        if threading.current_thread() is second:
            looked.set()
            unmapped.wait(60)
            unmap(extents)
            brought.wait(60)
        else:
            second.start()
            looked.wait(0.2)  # It never has if ticks wait for each other.
            unmap(extents)
            unmapped.set()

    monkeypatch.setattr(presence, "unmap", slow)
    far.cache.tick()
    far.store.warm([0])
    brought.set()
    second.join()
    assert far.cache.is_here(0) == presence.here[0]


def test_closed_store_leaves_no_mapping(plain, tmp_path):
    far = Far(plain.path, tmp_path / "cache")
    far.store.warm(np.arange(ROWS))
    for _ in range(20):
        far.store.lookup(np.arange(16))
    place = str(tmp_path / "cache")
    assert place in Path("/proc/self/maps").read_text()
    far.store.close()
    del far
    gc.collect()
    assert place not in Path("/proc/self/maps").read_text()


def test_keeper_ticks_and_ends(plain, tmp_path, monkeypatch):
    ticked = threading.Event()
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(keeper, "_thread", None)  # One with this pace.
    far = Far(plain.path, tmp_path / "cache")
    tick = far.cache.tick

    def note() -> None:
        tick()
        ticked.set()

    monkeypatch.setattr(far.cache, "tick", note)
    assert ticked.wait(60)


def test_child_reads_what_is_mapped(plain, tmp_path):
    far = Far(plain.path, tmp_path / "cache")
    far.store.warm(np.arange(CHUNK_ROWS))
    ids = np.arange(0, CHUNK_ROWS, 3)
    expected = plain.lookup(ids)
    child = os.fork()
    if not child:
        code = 1
        try:
            far.files.is_down = True
            code = int(not (far.store.lookup(ids) == expected).all())
            far.store.lookup([CHUNK_ROWS])
        except RemoteError:
            pass
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_extent_numbers_are_those_of_a_search():
    rng = np.random.default_rng(4)
    for _ in range(50):
        unit = 1 << rng.integers(0, 6)
        bounds = np.cumsum(np.append(0, rng.integers(0, 5, 7) * unit))
        rows = np.arange(bounds[-1])
        expected = np.searchsorted(bounds, rows, "right") - 1
        assert ExtentNumbers(bounds.tolist()).of(rows).tolist() == expected.tolist()


def test_counts_are_pickled_with_stats(plain, tmp_path):
    far = Far(plain.path, tmp_path / "cache")
    far.store.warm([0])
    stats = far.store.stats()
    assert pickle.loads(pickle.dumps(stats)) == stats
