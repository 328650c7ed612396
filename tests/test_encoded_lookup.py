"""Lookups in encoded tables: every way to ask for rows, by both readers, against ndarrays."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

import embstore
from embstore.errors import IdRangeError, StoreClosedError
from tests.helpers.encoded import KINDS, WIDTH, opened

COUNT = 1000
READERS = ["mapped", "chunked"]
FLOATS = [np.float32, np.float16, np.float64, ml_dtypes.bfloat16]


@pytest.fixture(scope="module", params=READERS)
def reader(request):
    return request.param


@pytest.fixture(scope="module", params=list(KINDS))
def table(request):
    return KINDS[request.param](COUNT)


@pytest.fixture(scope="module", params=[1, 3], ids=["one part", "parts"])
def place(table, reader, request, tmp_path_factory):
    with (
        pytest.MonkeyPatch.context() as patch,
        opened(
            tmp_path_factory.mktemp("t"), table, patch, parts=request.param, reader=reader
        ) as store,
    ):
        yield table, store


def same(found, expected):
    """Say whether arrays are equal, bit by bit, also in dtype."""
    expected = np.asarray(expected)
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


@pytest.mark.parametrize("count", [0, 1, 2, 40, 64, 65, 400, 3000, 20_000])
def test_rows_are_those_of_the_model(place, count):
    table, store = place
    ids = np.random.default_rng(count).integers(0, COUNT, count)
    assert same(store.lookup(ids), table.rows[ids])
    assert same(store.lookup(ids.tolist()), table.rows[ids])
    assert same(store[ids.astype(np.uint16)], table.rows[ids])
    assert same(store.submit(ids).result(), table.rows[ids])
    assert store.prefetch(ids).wait(60)
    assert same(store.lookup(ids, raw=True), table.raw[ids])
    assert same(store.submit(ids, raw=True).result(), table.raw[ids])


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (0, 4), (1, 5, 2)])
def test_results_have_the_shape_of_the_ids(place, shape):
    table, store = place
    ids = np.asarray(np.random.default_rng(1).integers(0, COUNT, shape))
    for _ in range(2):  # The second lookup of a kind may take a shorter path.
        assert same(store.lookup(ids), table.rows[ids])
        assert same(store.lookup(ids, raw=True), table.raw[ids])
        assert same(store.lookup(ids, dtype="float16"), table.rows[ids].astype(np.float16))
    for wrong in ("no", 2, None):
        with pytest.raises(TypeError, match="raw must be True or False"):
            store.lookup(ids, raw=wrong)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [3, 700])
def test_rows_are_decoded_to_another_dtype(place, dtype, count):
    table, store = place
    ids = np.random.default_rng(count).integers(0, COUNT, count)
    expected = table.rows[ids].astype(dtype)
    name = np.dtype(dtype).name
    for given in (dtype, np.dtype(dtype), name):
        assert same(store.lookup(ids, dtype=given), expected)
    out = np.empty(expected.shape, dtype)
    assert store.lookup(ids, out=out) is out
    assert same(out, expected)
    out[:] = 0
    assert store.lookup(ids, out=out, dtype=name) is out
    assert same(out, expected)
    out[:] = 0
    assert store.submit(ids, out).result() is out
    assert same(out, expected)
    assert same(store.submit(ids, dtype=name).result(), expected)


def test_tensors_are_filled(place):
    torch = pytest.importorskip("torch")
    table, store = place
    ids = np.array([[5, 999], [0, 5]])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        out = torch.empty((2, 2, WIDTH), dtype=dtype)
        assert store.lookup(ids, out=out) is out
        assert torch.equal(out, torch.from_numpy(table.rows[ids]).to(dtype))
        found = store.lookup(ids, dtype=dtype)
        assert found.dtype.name == str(dtype).removeprefix("torch.")
    out = torch.empty((2, 2, store.record_bytes), dtype=torch.uint8)
    store.lookup(ids, out=out, raw=True)
    assert same(out.numpy(), table.raw[ids])


def test_indices_are_those_of_an_ndarray(place):
    table, store = place
    for index in (
        *(3, -0, np.int32(7), slice(5, 9), slice(None, None, 300), ...),
        *([4, 4, 1], np.array([[1], [2]]), (slice(3), 0), ([1, 2], slice(1, 5)), (..., 1)),
    ):
        assert same(store[index], table.rows[index]), index


def test_a_row_is_a_new_array(place):
    table, store = place
    for _ in range(3):
        row = store[17]
        assert same(row, table.rows[17])
        row[:] = 5


def test_scans_pass_every_row_once(place):
    table, store = place
    for raw, expected in ((False, table.rows), (True, table.raw)):
        found = np.zeros_like(expected)
        seen = np.zeros(COUNT, int)

        def visit(ids, rows, found=found, seen=seen):
            assert not rows.flags.writeable
            found[ids.start : ids.stop : ids.step] = rows
            seen[ids.start : ids.stop : ids.step] += 1

        store.scan(visit, 13, 977, raw=raw)
        assert same(found[13:977], expected[13:977])
        assert seen.sum() == seen[13:977].sum() == 964


def test_the_whole_table_is_an_array(place):
    table, store = place
    assert same(store.to_numpy(), table.rows)
    assert same(np.asarray(store), table.rows)
    assert same(np.stack(list(store)), table.rows)
    assert same(np.stack(list(reversed(store))), table.rows[::-1])
    assert store.dtype == np.float32
    assert store.nbytes == table.rows.nbytes


def test_max_norm_scales_decoded_rows(place):
    table, store = place
    ids = [1, 2, 900]
    norms = np.linalg.norm(table.rows[ids].astype(np.float64), axis=1)
    limit = float(np.median(norms))
    found = store.lookup(ids, max_norm=limit)
    expected = table.rows[ids] * np.minimum(limit / norms, 1)[:, None]
    assert np.allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="raw=True returns bytes"):
        store.lookup(ids, raw=True, max_norm=1.0)


def test_functions_take_encoded_stores(place):
    table, store = place
    ids = np.array([[3, 1], [1, 999]])
    assert same(embstore.embedding_lookup(store, ids), table.rows[ids])
    bags = embstore.RaggedIds([3, 1, 999], [0, 2, 2, 3])
    sums = embstore.embedding_lookup_sparse(store, bags, None, combiner="sum")
    expected = [table.rows[[3, 1]].sum(0), np.zeros(WIDTH), table.rows[999]]
    assert np.allclose(sums, np.array(expected), rtol=1e-6)
    safe = embstore.safe_embedding_lookup_sparse(store, bags, None, combiner="mean", default_id=2)
    assert np.allclose(safe[1], table.rows[2])


def test_bad_requests_are_refused(place):
    _, store = place
    for bad, error in (([COUNT], IdRangeError), ([-1], IdRangeError), ([0.5], TypeError)):
        for raw in (False, True):
            with pytest.raises(error):
                store.lookup(bad, raw=raw)
            with pytest.raises(error):
                store.submit(bad, raw=raw)
    for ids in (np.array([0, COUNT]), np.array([-1, 3])):
        for options in ({}, {"dtype": "bfloat16"}, {"raw": True}):
            with pytest.raises(IdRangeError, match="is out of range"):
                store.lookup(ids, **options)
    for dtype in ("int8", "int32", "complex64", "float8_e4m3fn", "unknown", "uint8"):
        with pytest.raises(TypeError, match="dtype must be"):
            store.lookup([1], dtype=dtype)
        with pytest.raises(TypeError, match="dtype must be"):
            store.lookup(np.array([1]), dtype=dtype)
    with pytest.raises(ValueError, match="raw=True returns bytes"):
        store.lookup([1], raw=True, dtype="float32")
    for some in ([1], np.array([1])):
        for out in (np.empty((1, WIDTH), np.int32), np.empty((1, WIDTH), ">f4")):
            with pytest.raises(TypeError, match="out has dtype"):
                store.lookup(some, out=out)
        with pytest.raises(TypeError, match="out has dtype float32, expected float16"):
            store.lookup(some, out=np.empty((1, WIDTH), np.float32), dtype="float16")
        with pytest.raises(ValueError, match="out has shape"):
            store.lookup(some, out=np.empty((1, WIDTH + 1), np.float32))
        with pytest.raises(TypeError, match="out has dtype"):
            store.lookup(some, out=np.empty((1, store.record_bytes), np.int8), raw=True)


def test_store_tells_its_encoding(place):
    table, store = place
    assert store.encoding == table.encoding.name
    assert store.record_bytes == table.raw.shape[1]
    assert f"float32 from {table.encoding.name}" in repr(store)


def test_copies_have_the_same_rows(place):
    table, store = place
    for other in (pickle.loads(pickle.dumps(store)), copy.copy(store)):
        with other:
            assert same(other.lookup([5, 7]), table.rows[[5, 7]])
            assert same(other.lookup([5, 7], raw=True), table.raw[[5, 7]])
        with pytest.raises(StoreClosedError):
            other.lookup([5])


def test_many_threads_look_rows_up(place):
    table, store = place

    def work(seed):
        ids = np.random.default_rng(seed).integers(0, COUNT, 20 * seed + 1)
        return same(store.lookup(ids), table.rows[ids]) and same(
            store.lookup(ids, raw=True), table.raw[ids]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(100)))


def test_forked_children_look_rows_up(place):
    table, store = place
    ids = np.arange(0, COUNT, 3)
    store.lookup(ids)
    child = os.fork()
    if child == 0:  # pragma: no cover
        good = same(store.lookup(ids), table.rows[ids])
        good = good and same(store.submit(ids).result(), table.rows[ids])
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_plans_count_all_columns(place):
    table, store = place
    ids = [0, 1, 1, 500]
    plan = store.explain(ids)
    columns = zip(table.fields, table.shares, strict=False)
    needed = sum(
        len({number // share for number in ids}) * some.shape[1] for some, share in columns
    )
    assert plan.bytes_needed == needed
    assert (plan.row_count, plan.distinct_row_count) == (4, 3)
    assert plan.bytes_read >= needed


def test_statistics_count_a_lookup_once(table, reader, tmp_path, monkeypatch):
    with opened(tmp_path, table, monkeypatch, reader=reader) as store:
        store.lookup([1, 2, 3])
        store.lookup(np.array([1, 2, 3]))
        store.lookup(np.arange(500))
        store.lookup([4], raw=True)
        _ = store[5]
        store.submit([1, 2]).result()
        stats = store.stats()
        assert (stats.lookups, stats.rows) == (6, 510)
        assert stats.bytes_needed == 510 * store.record_bytes
        held = store.residency()
        assert held.table_bytes == sum(some.size for some in table.fields)
    with pytest.raises(StoreClosedError):
        store.lookup(np.array([1]))
    with pytest.raises(StoreClosedError):
        store.lookup(np.array([1]), raw=True)


@pytest.mark.parametrize(
    "options", [{"preload": True}, {"resident_limit": "64MiB"}, {"row_cache": "1MiB"}]
)
def test_rows_are_the_same_under_options(table, options, tmp_path, monkeypatch):
    seen: list[embstore.Progress] = []
    with opened(tmp_path, table, monkeypatch, progress=seen.append, **options) as store:
        generator = np.random.default_rng(2)
        for number in range(40):
            ids = generator.zipf(1.3, 1000) % COUNT
            assert same(store.lookup(ids), table.rows[ids])
            if number % 10 == 0:
                assert store.warm(ids) == len(np.unique(ids))
                assert same(store.submit(ids, raw=True).result(), table.raw[ids])
                assert same(store.lookup(ids[:50]), table.rows[ids[:50]])
        assert same(store.to_numpy(), table.rows)
        if "row_cache" in options:
            assert store.residency().row_cache_rows > 0
            assert store.stats().row_cache_hits > 0
    if "preload" in options:
        assert seen[-1].done_bytes == seen[-1].total_bytes
        assert [one.total_bytes for one in seen] == [seen[0].total_bytes] * len(seen)
