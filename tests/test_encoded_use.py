"""Stores with encoded rows: words, partitions, torch's modules, search, plain stores' options."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import embstore
from embstore.interop.keyedvectors import KeyedVectors
from tests.helpers.encoded import KINDS, opened

COUNT, WIDTH = 500, 16
ROWS = np.random.default_rng(0).standard_normal((COUNT, WIDTH)).astype(np.float32)
WORDS = [f"w{number}" for number in range(COUNT)]
READERS = ["mapped", "chunked"]


@pytest.fixture(scope="module", params=["float8_e4m3fn", "int8", "float8_e4m3fn:8"])
def built(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "t.embstore"
    with embstore.build(
        ROWS, path, words=WORDS, unk="w3", partitions=4, encoding=request.param
    ) as store:
        expected = store.to_numpy()
    assert np.abs(expected - ROWS).max() < 0.2
    return path, expected, request.param


@pytest.fixture(params=READERS)
def store(built, request):
    with embstore.open(built[0], reader=request.param) as opened_store:
        yield opened_store


def test_words_find_decoded_rows(built, store):
    _, expected, _ = built
    assert np.array_equal(store["w7"], expected[7])
    assert np.array_equal(store[["w7", "w0"]], expected[[7, 0]])
    assert np.array_equal(store.lookup_words(["w7", "no"], missing="unk"), expected[[7, 3]])
    found = store.lookup_words([["w7", "no"]], missing="zeros")
    assert np.array_equal(found, np.stack([expected[7], np.zeros(WIDTH)])[None].astype(np.float32))
    assert np.array_equal(store[["w7", "w8"], :3], expected[7:9, :3])


def test_partitions_have_the_records_of_their_ids(built, store):
    _, expected, name = built
    assert store.encoding == name
    ids = np.random.default_rng(3).integers(0, COUNT, (30, 9))
    for _ in range(2):
        assert np.array_equal(store.lookup(ids), expected[ids])
        half = store.lookup(ids, dtype="bfloat16")
        assert np.array_equal(half, expected[ids].astype(ml_dtypes.bfloat16))
        raw = store.lookup(ids, raw=True)
        assert raw.shape == (30, 9, store.record_bytes)
    every = np.concatenate([store.lookup([number], raw=True) for number in range(COUNT)])
    assert np.array_equal(raw, every[ids])
    found = np.empty_like(every)

    def put(some: range, records: np.ndarray) -> None:
        found[some.start : some.stop : some.step] = records

    store.scan(put, raw=True)
    assert np.array_equal(found, every)
    assert np.array_equal(store.to_numpy(), expected)
    assert store.explain(ids).chunk_count >= 1


def test_neighbours_are_those_of_the_decoded_rows(built, store):
    _, expected, _ = built
    vectors = KeyedVectors(store)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    scores = unit @ unit[5]
    order = [number for number in np.argsort(-scores) if number != 5][:4]
    assert [word for word, _ in vectors.most_similar("w5", topn=4)] == [WORDS[at] for at in order]


def test_modules_give_decoded_rows(built, store):
    torch = pytest.importorskip("torch")
    from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag

    _, expected, _ = built
    table = torch.from_numpy(expected)
    ids = torch.randint(0, COUNT, (7, 30))
    module = StoreEmbedding(store)
    assert torch.equal(module(ids), torch.nn.functional.embedding(ids, table))
    big = torch.randint(0, COUNT, (3000,))
    assert torch.equal(module(big), table[big])
    half = StoreEmbedding(store).to(torch.bfloat16)
    assert torch.equal(half(ids), table[ids].to(torch.bfloat16))
    for mode in ("sum", "mean", "max"):
        bags = StoreEmbeddingBag(store, mode=mode)(ids)
        assert torch.equal(bags, torch.nn.functional.embedding_bag(ids, table, mode=mode))
    other = pickle.loads(pickle.dumps(module))
    assert torch.equal(other(ids), module(ids))
    other.store.close()
    graph = torch.export.export(module, (ids,))
    assert torch.equal(graph.module()(ids), table[ids])


def test_bags_are_combined_from_decoded_rows(built, store):
    _, expected, _ = built
    ids = embstore.RaggedIds([1, 2, 3, 4, 499], [0, 2, 2, 5])
    found = embstore.embedding_lookup_sparse(store, ids, None, combiner="sum")
    sums = [expected[[1, 2]].sum(0), np.zeros(WIDTH), expected[[3, 4, 499]].sum(0)]
    assert np.allclose(found, np.array(sums), rtol=1e-6)
    clipped = embstore.embedding_lookup_sparse(store, ids, None, combiner="sum", max_norm=1.0)
    norms = np.linalg.norm(expected.astype(np.float64), axis=1, keepdims=True)
    limited = expected * np.minimum(1 / norms, 1)
    sums = [limited[[1, 2]].sum(0), np.zeros(WIDTH), limited[[3, 4, 499]].sum(0)]
    assert np.allclose(clipped, np.array(sums), rtol=1e-5)


def test_modules_take_tables_of_several_columns(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from embstore.interop.torch import StoreEmbedding

    table = KINDS["scale_a_row"](900)
    ids = torch.randint(0, 900, (7, 300))
    with opened(tmp_path, table, monkeypatch) as store:
        assert torch.equal(StoreEmbedding(store)(ids), torch.from_numpy(table.rows)[ids])


PLAIN = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int8,
    np.uint16,
    np.int64,
    np.uint8,
]


@pytest.fixture(scope="module", params=PLAIN, ids=lambda dtype: np.dtype(dtype).name)
def plain(request, tmp_path_factory):
    rows = (np.random.default_rng(1).standard_normal((COUNT, WIDTH)) * 50).astype(request.param)
    path = tmp_path_factory.mktemp("p") / "t.embstore"
    embstore.build(rows, path, partitions=3).close()
    return path, rows


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("count", [1, 40, 600])
def test_plain_rows_are_cast_to_floats(plain, reader, count):
    path, rows = plain
    ids = np.random.default_rng(count).integers(0, COUNT, count)
    with embstore.open(path, reader=reader) as store:
        assert store.encoding == "plain"
        assert f"{rows.dtype}, 3 mod" in repr(store)
        for dtype in (np.float32, np.float16, np.float64, ml_dtypes.bfloat16, rows.dtype):
            with np.errstate(over="ignore"):
                expected = rows[ids].astype(np.float64).astype(np.float32).astype(dtype)
            if dtype in (rows.dtype, np.float64):
                expected = rows[ids].astype(dtype)
            for _ in range(2):
                found = store.lookup(ids, dtype=np.dtype(dtype).name)
                assert found.dtype == dtype
                assert found.tobytes() == expected.tobytes()
            out = np.empty_like(expected)
            assert store.lookup(ids, out=out, dtype=dtype) is out
            assert out.tobytes() == expected.tobytes()
            assert np.array_equal(store.submit(ids, dtype=dtype).result(), expected)
        raw = rows.view(np.uint8).reshape(COUNT, -1)
        for _ in range(2):
            assert np.array_equal(store.lookup(ids, raw=True), raw[ids])
        assert np.array_equal(store.submit(ids, raw=True).result(), raw[ids])
        assert store.stats().rows == count * 23


def test_plain_rows_are_not_cast_without_a_word(plain):
    path, rows = plain
    with embstore.open(path) as store:
        for other in (np.float32, np.int32):
            if rows.dtype != other:
                with pytest.raises(TypeError, match=f"out has dtype .*, expected {rows.dtype}$"):
                    store.lookup([1], out=np.empty((1, WIDTH), other))
        for dtype in ("int32", "uint64", "bool", "complex64", "S4", "float8_e5m2", object):
            with pytest.raises(TypeError, match="dtype must be"):
                store.lookup([1], dtype=dtype)
        with pytest.raises(TypeError, match="out has dtype float64, expected float16"):
            store.lookup([1], out=np.empty((1, WIDTH)), dtype=np.float16)


def test_numbers_too_large_become_infinite_and_others_are_rounded_once(tmp_path):
    rows = np.array([[1e9, -1e39, np.nan], [1 + 2.0**-8 + 2.0**-40, np.inf, -0.0]])
    with embstore.build(rows, tmp_path / "s") as store:
        half = store.lookup([0, 1], dtype="float16")
        assert np.array_equal(half[0], [np.inf, -np.inf, np.nan], equal_nan=True)
        brain = store.lookup([0, 1], dtype="bfloat16").astype(np.float64)
        # To the nearest: through float32, it would be a tie that rounds down to 1.
        assert brain[1, 0] == 1 + 2.0**-7
        assert np.signbit(brain[1, 2])


def test_opaque_rows_are_bytes(tmp_path, monkeypatch):
    from embstore.encodings.opaque import Opaque
    from tests.helpers.encoded import Encoded

    codes = np.random.default_rng(1).integers(0, 256, (50, 18), dtype=np.uint8)
    with opened(tmp_path, Encoded(Opaque("IQ2_XS", 18), (codes,), codes), monkeypatch) as store:
        assert (store.encoding, store.dtype.name, store.shape) == ("IQ2_XS", "uint8", (50, 18))
        assert np.array_equal(store[[3, 1]], codes[[3, 1]])
        assert np.array_equal(store.lookup(np.array([3, 1]), raw=True), codes[[3, 1]])
        assert np.array_equal(store.to_numpy(), codes)
        with pytest.raises(TypeError, match="rows of IQ2_XS are bytes that cannot be decoded"):
            store.lookup([1], dtype="float32")
        assert store.lookup([1], dtype="uint8").tolist() == codes[[1]].tolist()


def test_a_closed_store_leaves_no_mapping(tmp_path, monkeypatch):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list mappings")
    table = KINDS["scale_a_row"](900)
    ids = np.arange(100)
    gc.collect()
    gc.disable()
    try:
        with opened(tmp_path, table, monkeypatch, row_cache="1MiB") as store:
            kept = [store.lookup(ids), store.lookup(ids, raw=True), store[5]]
            store.submit(ids, dtype="float16").result()
            assert store.view(0, 50).lookup(ids, outside="zeros").any()
            assert str(tmp_path) in maps.read_text()
        with opened(tmp_path, table, monkeypatch) as store:
            kept += [store.lookup(ids), store.lookup(ids, raw=True), store[5]]
            store.lookup(ids, dtype="float16")
            store.prefetch(ids).wait()
        assert str(tmp_path) not in maps.read_text()
    finally:
        gc.enable()
    assert np.array_equal(kept[3], table.rows[ids])
