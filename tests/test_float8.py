"""Tables of float8, without a scale: a plain dtype, as bfloat16 is."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import embstore
from embstore.dtypes import DTYPES, as_dtype, is_safe_cast
from embstore.encodings.casting import Caster
from embstore.formats.own import spec
from embstore.norms import unit
from embstore.search.cosines import CosineSearch, Query

NAMES = [name for name in DTYPES if name.startswith("float8_")]
SIGNED = [name for name in NAMES if DTYPES[name].has_zero]
names = pytest.mark.parametrize("name", NAMES)
signed = pytest.mark.parametrize("name", SIGNED)
EVERY = np.arange(256, dtype=np.uint8)


def every(name: str) -> np.ndarray:
    """Return all numbers of a dtype, those of 8 bits four to a row."""
    dtype = as_dtype(name)
    bits = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    return bits.view(dtype).reshape(-1, 4)


@names
@pytest.mark.parametrize("reader", ["mapped", "chunked"])
def test_every_code_survives(tmp_path, name, reader):
    rows = every(name)
    words = [f"w{number}" for number in range(len(rows))]
    built = embstore.build(rows, tmp_path / "s", words=words, partitions=3)
    assert built.source.get("largest_cast_error") is None
    manifest = json.loads((tmp_path / "s/zarr.json").read_bytes())["attributes"]["embstore"]
    assert (manifest["dtype"], manifest["requires"]) == (name, [name])
    assert json.loads((tmp_path / "s/partitions/0/zarr.json").read_bytes())["data_type"] == "uint8"
    assert embstore.verify(tmp_path / "s").ok
    store = embstore.open(tmp_path / "s", reader=reader)
    assert store.dtype == as_dtype(name)
    assert name in repr(store)
    ids = np.random.default_rng(0).integers(0, 64, (5, 7))
    for found in (store.lookup(ids), embstore.embedding_lookup(store, ids)):
        assert found.dtype == as_dtype(name)
        assert found.tobytes() == rows[ids].tobytes()
    assert store["w9"].tobytes() == store[9].tobytes() == rows[9].tobytes()
    assert np.asarray(store).tobytes() == rows.tobytes()
    assert pickle.loads(pickle.dumps(store))[7].tobytes() == rows[7].tobytes()


@names
def test_readers_without_the_dtype_refuse_the_store(tmp_path, name, monkeypatch):
    embstore.build(every(name), tmp_path / "s")
    monkeypatch.setattr(spec, "FEATURES", ("bfloat16",))
    with pytest.raises(embstore.StoreVersionError, match=name):
        embstore.open(tmp_path / "s")


@names
def test_wider_stores_and_back(tmp_path, name):
    narrow = embstore.build(every(name), tmp_path / "narrow")
    for wide in ("bfloat16", "float32", "float64"):
        built = embstore.build(narrow, tmp_path / wide, dtype=wide)
        assert "largest_cast_error" not in built.source
        expected = every(name).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(built).astype(np.float32), expected)
        again = embstore.build(built, tmp_path / f"{wide}-again", dtype=name)
        assert "largest_cast_error" not in again.source
        numbers = ~np.isnan(expected)
        assert np.asarray(again)[numbers].tobytes() == every(name)[numbers].tobytes()


@names
@pytest.mark.parametrize("origin", ["float16", "bfloat16", "float32", "float64", "int16", "int64"])
def test_casts_are_those_of_ml_dtypes(name, origin):
    """The nearest number: near every number and every middle between two of them."""
    numbers = np.unique(every(name).astype(np.float64))
    numbers = numbers[np.isfinite(numbers)]
    if name == "float8_e8m0fnu":
        numbers = numbers[2:]  # ml_dtypes rounds 1.2 times the smallest one up.
    middles = (numbers[:-1] + numbers[1:]) / 2
    points = np.concatenate([numbers, middles])
    points = np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, 0)])
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.unique(points.astype(as_dtype(origin)).astype(np.float64))
    values = values[(values >= numbers[0]) & (values <= numbers[-1]) & np.isfinite(values)]
    cast = Caster(as_dtype(name)).cast(values.astype(as_dtype(origin))).astype(np.float64)
    place = np.clip(np.searchsorted(numbers, values), 1, len(numbers) - 1)
    nearest = np.minimum(abs(numbers[place] - values), abs(numbers[place - 1] - values))
    np.testing.assert_array_equal(abs(cast - values), nearest)


@names
@pytest.mark.parametrize("other", list(DTYPES))
def test_casts_of_every_pair(name, other):
    """Either the cast gives the same numbers, or the first number that is lost is named."""
    origin, target = as_dtype(name), as_dtype(other)
    if target.kind in "iu":
        assert not is_safe_cast(origin, target)
        return
    for one, another in ((origin, target), (target, origin)):
        rows = every(one.name) if one.itemsize <= 2 else np.ones((1, 4), one)
        if not is_safe_cast(one, another):
            continue
        cast = Caster(another).cast(rows)
        assert cast.dtype == another
        np.testing.assert_array_equal(cast.astype(np.float64), rows.astype(np.float64))


LOST = [
    ("float8_e4m3fn", 480.0, "480.0 is out of the range of"),
    ("float8_e4m3fn", -1000.0, "-1000.0 is out of the range of"),
    ("float8_e4m3fn", np.inf, "inf is not a number of"),
    ("float8_e4m3fnuz", 250.0, "250.0 is out of the range of"),
    ("float8_e5m2", 62000.0, "62000.0 is out of the range of"),
    ("float8_e5m2fnuz", -np.inf, "-inf is not a number of"),
    ("float8_e8m0fnu", 0.0, "0.0 is not a number of"),
    ("float8_e8m0fnu", -1.0, "-1.0 is not a number of"),
]


@pytest.mark.parametrize(("name", "value", "says"), LOST)
@pytest.mark.parametrize("origin", ["float32", "float64", "bfloat16"])
def test_numbers_that_would_become_nan_are_refused(name, value, says, origin):
    rows = np.ones((4, 2), as_dtype(origin))
    rows[2, 1] = value
    with pytest.raises(embstore.RowError, match="dtype") as caught:
        Caster(as_dtype(name)).cast(rows)
    assert caught.value.position == 2
    if origin == "float32":
        assert says in str(caught.value)
    assert ("on_overflow" in str(caught.value)) == DTYPES[name].has_inf


def test_numbers_that_round_into_the_range_are_kept():
    cast = Caster(as_dtype("float8_e4m3fn")).cast(np.array([[464.0, -464.0, np.nan]], np.float32))
    assert cast.astype(np.float32).tolist()[0][:2] == [448.0, -448.0]
    assert np.isnan(cast[0, 2])


@names
def test_overflow_to_infinity_needs_a_dtype_that_has_it(tmp_path, name):
    rows = np.array([[1e30]], np.float32)
    if DTYPES[name].has_inf:
        store = embstore.build(rows, tmp_path / "s", dtype=name, on_overflow="inf")
        assert np.isinf(store[0])
        assert store.source["overflow_count"] == 1
        return
    with pytest.raises(ValueError, match=f"infinities, which {name} lacks; .* float8_e5m2"):
        embstore.build(rows, tmp_path / "s", dtype=name, on_overflow="inf")
    assert not (tmp_path / "s").exists()


@signed
def test_norms_bags_and_searches_are_computed_in_float32(tmp_path, name):
    rows = np.random.default_rng(0).standard_normal((50, 6)).astype(as_dtype(name))
    wide = rows.astype(np.float32)
    store = embstore.build(rows, tmp_path / "s")
    norms = np.linalg.norm(wide.astype(np.float64), axis=1)
    expected = np.where((norms > 2)[:, None], wide * (2 / norms)[:, None], wide)
    found = store.lookup(np.arange(50), max_norm=2.0)
    assert found.tobytes() == expected.astype(np.float32).astype(rows.dtype).tobytes()
    bags = np.random.default_rng(1).integers(0, 50, (9, 4))
    ragged = embstore.RaggedIds(bags.reshape(-1), np.arange(0, 37, 4))
    sums = embstore.embedding_lookup_sparse(store, ragged, combiner="mean")
    assert sums.tobytes() == wide[bags].mean(axis=1).astype(rows.dtype).tobytes()
    query = unit(wide[3:4])
    found_ids, _ = CosineSearch(store).best(Query(query), 1)
    assert found_ids.tolist() == [(unit(wide) @ query[0]).argmax()]


def test_a_dtype_without_zeros_gives_none(tmp_path):
    rows = every("float8_e8m0fnu")
    store = embstore.build(rows, tmp_path / "s", words=[f"w{i}" for i in range(64)])
    with pytest.raises(TypeError, match="float8_e8m0fnu has no 0"):
        store.lookup_words(["w1", "absent"], missing="zeros")
    with pytest.raises(TypeError, match="cannot combine rows of float8_e8m0fnu"):
        embstore.embedding_lookup_sparse(store, embstore.RaggedIds([1, 2], [0, 1, 2]))
    view = store.view(0, 2)
    for take in (view.lookup, view.submit):
        with pytest.raises(TypeError, match="float8_e8m0fnu has no 0"):
            take([1, 2], outside="zeros")
    assert not view.lookup([1, 2], outside="zeros", dtype="float32")[1].any()
    assert np.array_equal(view.lookup([1, 0], outside="zeros"), rows[[1, 0]], equal_nan=True)


@names
def test_torch_tensors(tmp_path, name):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name)).view(64, 4)
    store = embstore.build(tensor, tmp_path / "s")
    assert store.dtype == as_dtype(name)
    out = torch.empty((3, 4), dtype=tensor.dtype)
    assert store.lookup([5, 0, 63], out=out) is out
    assert torch.equal(out.view(torch.uint8), tensor.view(torch.uint8)[[5, 0, 63]])


@signed
def test_modules_compute_in_another_dtype(tmp_path, name):
    torch = pytest.importorskip("torch")
    from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag

    rows = np.random.default_rng(0).standard_normal((50, 6)).astype(as_dtype(name))
    store = embstore.build(rows, tmp_path / "s")
    ids = torch.tensor([[3, 5], [3, 49]])
    found = StoreEmbedding(store)(ids).view(torch.uint8).numpy()
    assert found.tobytes() == rows[ids.numpy()].tobytes()
    table = torch.from_numpy(rows.astype(np.float32))
    for module, expected in (
        (StoreEmbeddingBag(store), torch.nn.functional.embedding_bag(ids, table)),
        (
            StoreEmbedding(store, max_norm=1.0),
            torch.nn.functional.embedding(ids, table.clone(), max_norm=1.0),
        ),
    ):
        with pytest.raises(TypeError, match=f"does not compute in torch.{name}; cast rows"):
            module(ids)
        assert torch.equal(module.to(torch.float32)(ids), expected)


@names
def test_safetensors_without_a_scale(tmp_path, name):
    rows = every(name)
    header = json.dumps(
        {
            "t": {
                "dtype": DTYPES[name].safetensors,
                "shape": list(rows.shape),
                "data_offsets": [0, rows.nbytes],
            }
        }
    ).encode()
    data = len(header).to_bytes(8, "little") + header + rows.tobytes()
    (tmp_path / "t.safetensors").write_bytes(data)
    with embstore.open(tmp_path / "t.safetensors") as store:
        assert store.dtype == as_dtype(name)
        assert np.asarray(store).tobytes() == rows.tobytes()
    built = embstore.build(tmp_path / "t.safetensors", tmp_path / "s")
    assert built.dtype == as_dtype(name)
    assert np.asarray(built).tobytes() == rows.tobytes()


@signed
def test_text_round_trip(tmp_path, name):
    numbers = every(name)
    finite = numbers[np.isfinite(numbers.astype(np.float32)).all(axis=1)]
    words = [f"w{i}" for i in range(len(finite))]
    store = embstore.build(finite, tmp_path / "s", words=words)
    embstore.export(store, tmp_path / "t.txt", format="word2vec")
    again = embstore.build(tmp_path / "t.txt", tmp_path / "again", dtype=name)
    assert np.asarray(again).astype(np.float32).tolist() == finite.astype(np.float32).tolist()
    embstore.export(store, tmp_path / "t.parquet", dtype="float32")
    again = embstore.build(tmp_path / "t.parquet", tmp_path / "again", dtype=name, overwrite=True)
    assert np.asarray(again).tobytes() == finite.tobytes()


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_formats_without_the_dtype_name_the_remedy(tmp_path, format):
    store = embstore.build(every("float8_e4m3fn"), tmp_path / "s")
    with pytest.raises(embstore.ExportError, match='pass dtype="float32"'):
        embstore.export(store, tmp_path / "t", format=format)


@names
def test_npy_files_do_not_keep_the_dtype(tmp_path, name):
    np.save(tmp_path / "t.npy", every(name))
    for read in (embstore.open, lambda path: embstore.build(path, tmp_path / "s")):
        with pytest.raises(embstore.EmbstoreError, match=r"float8|'<f1'"):
            read(tmp_path / "t.npy")
