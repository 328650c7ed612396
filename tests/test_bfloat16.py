"""Tables of bfloat16, which neither NumPy nor zarr-python knows."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import zarr

import embstore
from embstore.dtypes import as_dtype
from embstore.formats.own import spec
from embstore.formats.own.manifest import read_manifest

BFLOAT16 = as_dtype("bfloat16")
ROWS = np.random.default_rng(0).standard_normal((100, 6)).astype(BFLOAT16)
WORDS = [f"w{number}" for number in range(100)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(6,), dtype="bfloat16", partitions=3) as writer:
        writer.write(ROWS, WORDS)
    return path


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
def test_rows(path, reader):
    store = embstore.open(path, reader=reader)
    assert store.dtype == BFLOAT16
    assert "bfloat16" in repr(store)
    ids = np.random.default_rng(1).integers(0, 100, (7, 9))
    for found in (store.lookup(ids), embstore.embedding_lookup(store, ids)):
        assert found.dtype == BFLOAT16
        assert found.tobytes() == ROWS[ids].tobytes()
    out = np.empty((2, 6), BFLOAT16)
    assert store.lookup([5, 5], out=out) is out
    assert out.tobytes() == ROWS[[5, 5]].tobytes()
    assert store[7].tobytes() == ROWS[7].tobytes()
    assert store["w3"].tobytes() == ROWS[3].tobytes()
    absent = store.lookup_words(["w3", "absent"], missing="zeros")
    assert absent[1].tolist() == [0.0] * 6
    assert store.to_numpy().tobytes() == ROWS.tobytes()
    assert store.explain([0]).summary()["bytes needed"] == 12
    again = pickle.loads(pickle.dumps(store))
    assert again[9].tobytes() == ROWS[9].tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_max_norm_is_computed_in_float32(tmp_path, dtype):
    rows = ROWS.astype(as_dtype(dtype))
    with embstore.StoreWriter(tmp_path / "s", row_shape=(6,), dtype=dtype) as writer:
        writer.write(rows)
    store = embstore.open(tmp_path / "s")
    wide = rows.astype(np.float32)
    norms = np.linalg.norm(wide.astype(np.float64), axis=1)
    over = norms > 2
    assert 0 < over.sum() < 100
    expected = np.where(over[:, None], wide * (2 / norms)[:, None], wide).astype(np.float32)
    found = store.lookup(np.arange(100), max_norm=2.0)
    assert found.tobytes() == expected.astype(as_dtype(dtype)).tobytes()


def test_every_number_survives_builds(tmp_path):
    rows = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 8).view(BFLOAT16)
    with embstore.StoreWriter(tmp_path / "s", row_shape=(8,), dtype="bfloat16") as writer:
        writer.write(rows)
    store = embstore.open(tmp_path / "s")
    assert store.to_numpy().tobytes() == rows.tobytes()
    wide = embstore.build(store, tmp_path / "wide", dtype="float32")
    assert "largest_cast_error" not in wide.source
    again = embstore.build(wide, tmp_path / "again", dtype="bfloat16")
    assert "largest_cast_error" not in again.source
    number = (rows.view(np.uint16) & 0x7FFF) <= 0x7F80  # Not nan: those may become quiet.
    assert again.to_numpy()[number].tobytes() == rows[number].tobytes()
    store.lookup(np.arange(1 << 13), max_norm=1.0)


def test_zarr_reads_bits(path):
    array = zarr.open_array(path / "partitions" / "1", mode="r")
    assert array.dtype == np.uint16
    assert np.asarray(array[:]).tobytes() == ROWS[1::3].tobytes()
    np.testing.assert_array_equal(embstore.open(path).partition(1)[:], array[:])


def test_manifest_requires_bfloat16(path):
    manifest = json.loads((path / "zarr.json").read_bytes())["attributes"]["embstore"]
    assert manifest["dtype"] == "bfloat16"
    assert manifest["requires"] == ["bfloat16"]
    assert embstore.verify(path).ok


def test_reader_without_bfloat16_refuses_the_store(path, monkeypatch):
    monkeypatch.setattr(spec, "FEATURES", ())
    with pytest.raises(embstore.StoreVersionError, match="bfloat16"):
        embstore.open(path)


def test_array_of_another_data_type_is_detected(path):
    array = read_manifest(path).partition(0)
    metadata = json.loads((path / array.metadata_name).read_bytes())
    assert array.differences(metadata) == []
    metadata["data_type"] = "float16"
    assert array.differences(metadata) == ["data_type is 'float16', expected 'uint16'"]


def test_text_is_rounded_once(tmp_path):
    """The nearest bfloat16 of the float32 that the text says."""
    (tmp_path / "t.txt").write_text("a 0.1 1.00390625\nb -3e-39 nan\n")
    store = embstore.build(tmp_path / "t.txt", tmp_path / "s", dtype="bfloat16")
    expected = np.array([[0.1, 1.00390625], [-3e-39, np.nan]], np.float32).astype(BFLOAT16)
    assert store.lookup([0, 1]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("row_shape", [(), (2, 3)])
def test_rows_of_other_ranks(tmp_path, row_shape):
    rows = ROWS[:, 0] if row_shape == () else ROWS.reshape(100, 2, 3)
    with embstore.StoreWriter(tmp_path / "s", row_shape=row_shape, dtype=BFLOAT16) as writer:
        writer.write(rows)
    assert embstore.open(tmp_path / "s").lookup([[3, 99]]).tobytes() == rows[[3, 99]].tobytes()
