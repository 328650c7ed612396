"""Scans of a whole table, and searches for the best rows in it, against an ndarray."""

from __future__ import annotations

import os
import resource
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.reading import scanning, workers
from embstore.reading.scanning import blocks
from embstore.search.best import Best
from embstore.search.cosines import CosineSearch, Query
from embstore.search.row_norms import RowNorms
from embstore.syscalls import in_core

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY_BYTES = 2 << 20
READERS = ["mapped", "chunked"]


@given(data=st.data(), sizes=st.lists(st.integers(0, 20), max_size=9))
def test_blocks_have_every_row_once(data, sizes):
    first_rows = np.cumsum([0, *sizes])
    rows = int(first_rows[-1])
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), min_size=2, max_size=6)))
    ranges = [range(*pair) for pair in zip(cuts[::2], cuts[1::2], strict=False)]
    most_rows = data.draw(st.integers(1, 20))
    found = list(blocks(ranges, first_rows, most_rows))
    assert [row for block in found for row in block.rows] == [r for some in ranges for r in some]
    for block in found:
        assert 1 <= len(block.rows) <= most_rows
        assert block.rows.start == first_rows[block.extent] + block.first
        assert block.rows.stop <= first_rows[block.extent + 1]


def write(path: Path, rows: NDArray[Any], **settings: Any) -> Path:
    with embstore.StoreWriter(
        path, row_shape=rows.shape[1:], dtype=rows.dtype, rows=len(rows), **settings
    ) as writer:
        writer.write(rows)
    return path


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of many small blocks, with ties and rows of zeros."""
    monkeypatch.setattr(scanning, "SCANNED_BYTES", 64 * 5 * 4)
    rows = np.random.default_rng(1).integers(-2, 3, (5000, 5)).astype(np.float32)
    rows[::97] = 0
    return write(tmp_path / "t.embstore", rows, partitions=3), rows


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("start", "stop"), [(0, None), (17, 4000), (5, 6), (5000, 5000)])
def test_scan_passes_every_row_once(table, reader, start, stop):
    path, rows = table
    seen = np.zeros(len(rows), int)
    lock = threading.Lock()
    with embstore.open(path, reader=reader) as store:

        def visit(ids, block):
            assert np.array_equal(block, rows[ids.start : ids.stop : ids.step])
            assert not block.flags.writeable
            with lock:
                seen[ids.start : ids.stop : ids.step] += 1

        store.scan(visit, start, stop)
    expected = np.zeros(len(rows), int)
    expected[start:stop] = 1
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("rows", "shape"), [(0, (2,)), (1, ()), (9, (2, 3)), (3, (5,))])
def test_small_tables(tmp_path, reader, rows, shape):
    table = np.arange(rows * int(np.prod(shape)), dtype=np.int16).reshape(rows, *shape)
    path = write(tmp_path / "t.embstore", table, partitions=4)
    found: list[Any] = []
    with embstore.open(path, reader=reader) as store:
        store.scan(lambda ids, block: found.extend(zip(ids, block.copy(), strict=True)))
    assert [number for number, _ in sorted(found, key=lambda pair: pair[0])] == list(range(rows))
    assert all(np.array_equal(row, table[number]) for number, row in found)


@pytest.mark.parametrize("processors", [1, 3, 64])
@pytest.mark.parametrize("reader", READERS)
def test_error_in_the_visitor_is_raised(table, reader, processors, monkeypatch):
    monkeypatch.setattr(workers, "processor_count", lambda: processors)
    path, _ = table
    calls = []

    def fail(ids, block):
        calls.append(ids)
        raise RuntimeError("enough")

    with embstore.open(path, reader=reader) as store:
        with pytest.raises(RuntimeError, match="enough"):
            store.scan(fail)
        # One call for each working thread, the caller included, not one for each block.
        assert len(calls) <= min(processors, workers.THREAD_COUNT + 1)
        for start, stop in [(-1, 3), (3, 2), (0, 5001)]:
            with pytest.raises(IndexError, match="ids out of range for 5000 rows"):
                store.scan(fail, start, stop)
    with pytest.raises(embstore.StoreClosedError):
        store.scan(fail)


def drop(space: Any, file: Any) -> None:
    """Drop a file from the page cache. Pages stay while they are written, or in other use."""
    for _ in range(100):
        space.drop_cache(file)
        if not in_core(space.address + file.offset_bytes, file.map_bytes).any():
            return
        os.sync()
    pytest.skip("this file system does not drop files")


def test_cold_table_is_announced(tmp_path, monkeypatch):
    rows = np.arange(3 << 20, dtype=np.float32).reshape(-1, 256)
    path = write(tmp_path / "t.embstore", rows, partitions=2)
    announced = []
    with embstore.open(path) as store:
        space = store._records._space  # type: ignore[union-attr]
        for file in space.files:
            drop(space, file)
        announce = space.announce

        def note(offsets, sizes):
            announced.append(int(sizes.sum()))
            announce(offsets, sizes)

        monkeypatch.setattr(space, "announce", note)
        total = np.zeros(len(rows))

        def visit(ids, block):
            total[ids.start : ids.stop : ids.step] = block.sum(1)

        before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        store.scan(visit)
        if resource.getrusage(resource.RUSAGE_SELF).ru_inblock == before:
            pytest.skip("this file system does not drop files, or does not count reads")
        assert sum(announced) >= rows.nbytes
        assert np.array_equal(total, rows.sum(1))


@pytest.mark.parametrize("processors", [1, 2, 64])
def test_resident_limit_holds_during_a_scan(tmp_path, processors, monkeypatch):
    from embstore.reading.resident_limit import resident_file_bytes

    monkeypatch.setattr(workers, "processor_count", lambda: processors)
    rows = np.zeros((1 << 15, 1024), np.float32)
    rows[:, 0] = np.arange(len(rows))
    path = write(tmp_path / "t.embstore", rows, partitions=4)
    with embstore.open(path, resident_limit="64MiB") as store:
        before = resident_file_bytes()
        most = []
        store.scan(lambda ids, block: most.append((block[:, 0].sum(), resident_file_bytes())))
        # Pages of libraries that are first used meanwhile count, too.
        assert max(size for _, size in most) - before <= (64 << 20) + LIBRARY_BYTES
        assert sum(total for total, _ in most) == rows[:, 0].sum(dtype=np.float64)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("count", [1, 7, 300, 1249, 1250, 5000, 9999])
def test_best(table, reader, count):
    path, rows = table
    with embstore.open(path, reader=reader) as store:
        search = CosineSearch(store)
        for vector in rows[1:4] / np.linalg.norm(rows[1:4], axis=1, keepdims=True):
            query = Query(vector[np.newaxis])
            for start, stop in [(0, None), (40, 4999)]:
                scores = search.scores(query, start, stop)
                with np.errstate(invalid="ignore"):
                    expected = rows[start:stop] @ vector / np.linalg.norm(rows[start:stop], axis=1)
                assert np.allclose(scores, expected, atol=1e-6, equal_nan=True)
                order = np.lexsort((np.arange(len(scores)), -scores))[:count]
                ids, best = search.best(query, count, start, stop)
                assert np.array_equal(ids, order + start)
                assert np.array_equal(best, scores[order], equal_nan=True)
        assert np.allclose(search.norms(), np.linalg.norm(rows, axis=1))


def test_equal_rows_have_equal_scores(tmp_path):
    random = np.random.default_rng(3)
    rows = np.tile(random.normal(size=(1, 301)).astype(np.float32), (7000, 1))
    query = Query(random.normal(size=(1, 301)).astype(np.float32))
    with embstore.open(write(tmp_path / "t.embstore", rows, partitions=3)) as store:
        search = CosineSearch(store)
        assert len(np.unique(search.scores(query))) == 1
        assert search.best(query, 9, 5)[0].tolist() == list(range(5, 14))


def test_norms_are_computed_once(table):
    path, rows = table
    with embstore.open(path) as store:
        search = CosineSearch(store)
        query = Query(rows[1:2] / np.linalg.norm(rows[1]))
        search.scores(query, 0, 1000)
        kept: Any = search._norms._kept
        assert (kept[:1000] >= 0).all()
        assert (kept[1000:] == -1).all()
        kept[:] = 2  # Another pass would correct them.
        assert np.allclose(search.scores(query), rows @ query.vectors[0] / 2, atol=1e-6)


def test_norms_of_a_partition_are_those_of_its_ids():
    rows = np.random.default_rng(0).standard_normal((1003, 3)).astype(np.float32)
    norms = RowNorms(len(rows), np.dtype(np.float32))
    expected = norms.of(range(len(rows)), rows)
    assert norms.known() is not None
    for count in (2, 3, 7, 64, 1003, 2000):
        for start in (0, 1, count - 1, count, 5 * count + 1):
            for stop in (start, start + 1, 900, 1002, 1003):
                ids = range(start, max(min(stop, len(rows)), start), count)
                found = norms.of(ids, rows[ids.start : ids.stop : ids.step])
                assert np.array_equal(found, expected[ids.start : ids.stop : ids.step])


def test_searches_from_many_threads(table):
    path, rows = table
    vector = rows[2] / np.linalg.norm(rows[2])
    with embstore.open(path) as store:
        expected, _ = CosineSearch(store).best(Query(vector[None]), 20)
        search = CosineSearch(store)
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(search.best(Query(vector[None]), 20)[0]))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 12
    assert all(np.array_equal(ids, expected) for ids in found)


@pytest.mark.parametrize("reader", READERS)
def test_memory_is_bounded(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(workers, "processor_count", lambda: 2)
    rows = np.random.default_rng(0).normal(size=(1 << 16, 128)).astype(np.float16)
    path = write(tmp_path / "t.embstore", rows, partitions=8)
    with embstore.open(path, reader=reader) as store:
        search = CosineSearch(store)
        query = Query(rows[:1].astype(np.float32))
        store[0]  # So that the reader's imports are not measured.
        tracemalloc.start()
        search.best(query, 10)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # Each thread holds one chunk: 2 MiB, 4 MiB as float32. All rows would take 32 MiB.
    assert peak_bytes < 12 << 20


@settings(max_examples=200)
@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5, float("nan"), -np.inf]), max_size=60),
    count=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    seed=st.integers(0, 9),
)
def test_best_of_offers(scores, count, cuts, seed):
    values = np.array(scores, np.float32)
    ids = np.random.default_rng(seed).permutation(len(values))
    best = Best(count, np.dtype(np.float32))
    for part in np.split(ids, sorted(cuts)):
        best.offer(part, values[part])
    expected = np.lexsort((np.arange(len(values)), -values))[:count]
    found, best_scores = best.result()
    assert found.tolist() == expected.tolist()
    assert np.array_equal(best_scores, values[expected], equal_nan=True)
