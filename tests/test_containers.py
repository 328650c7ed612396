"""Containers of arrays: HDF5, .npz, checkpoints; they are not ``{word: vector}``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr

import embstore
from embstore.errors import SourceError
from tests.helpers.sources import read

ROWS: Any = np.arange(40, dtype=np.float32).reshape(8, 5)
WORDS = [f"w{i}" for i in range(8)]


def refused(tmp_path: Any, source: Any, *says: str) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SourceError, match=r"not \{word: vector\}") as error:
        embstore.build(source, tmp_path / "s")
    for text in says:
        assert text in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"embed.weight": ROWS}, ["'embed.weight': (8, 5) float32; pass one", ".items()"]),
        ({"q": ROWS, "k": ROWS}, ["'q': (8, 5) float32, 'k': (8, 5) float32", "source['q']"]),
        ({"norm": ROWS[0], "head": ROWS}, ["'norm': (5,) float32, 'head': (8, 5) float32"]),
        ({"state_dict": {"a": ROWS}, "epoch": 3}, ["'state_dict': dict of 1, 'epoch': int"]),
        ({"epoch": 3, "model": {"a": ROWS}}, ["'epoch': int, 'model': dict of 1"]),
        ({"words": WORDS, "vectors": ROWS}, ["'words': list, 'vectors': (8, 5) float32"]),
        ({"a": [[1, 2], [3, 4]]}, ["'a': list"]),
        ({0: ROWS, 1: ROWS}, ["0: (8, 5) float32, 1: (8, 5) float32"]),
        ({f"layer.{i}": ROWS for i in range(30)}, ["'layer.9': (8, 5) float32, and 20 more"]),
    ],
)
def test_mappings_of_matrices(tmp_path, source, says):
    refused(tmp_path, source, *says)


def test_pairs_say_that_matrices_are_rows():
    source = {"a": ROWS[:2], "b": ROWS[2:4]}
    words, rows = read(source.items())
    assert words == ["a", "b"]
    np.testing.assert_array_equal(rows, ROWS[:4].reshape(2, 2, 5))


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", vectors=ROWS, more=ROWS[0])
    np.savez_compressed(tmp_path / "b.npz", **dict(zip(WORDS, ROWS, strict=True)))
    with np.load(tmp_path / "a.npz") as archive:
        refused(tmp_path, archive, "'vectors': (8, 5) float32, 'more': (5,) float32")
        refused(tmp_path, dict(archive), "'vectors': (8, 5) float32, 'more': (5,) float32")
    with np.load(tmp_path / "b.npz") as archive:
        refused(tmp_path, archive, "'w0': (5,) float32")
        words, rows = read(dict(archive))  # Vectors by word, which only the caller can tell.
    assert words == WORDS
    np.testing.assert_array_equal(rows, ROWS)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["vectors"] = ROWS
        file["group/inner"] = ROWS[0]
        refused(tmp_path, file, "File holds", "'group': Group of 1, 'vectors': (8, 5) float32")
        refused(tmp_path, file["group"], "Group holds", "'inner': (5,) float32", "source['inner']")
        assert read(dict(file["group"]))[0] == ["inner"]
        words = file.create_dataset("words", data=WORDS)
        for kind in (words, words.asstr(), words[:]):
            assert read(file["vectors"], words=kind)[0] == WORDS
        refused(tmp_path, {"vectors": file["vectors"]}, "'vectors': (8, 5) float32")
        np.testing.assert_array_equal(read(file["vectors"], words=WORDS)[1], ROWS)
    with h5py.File(tmp_path / "empty.h5", "w") as empty:
        refused(tmp_path, empty, "File holds", "none that can be read")
    with h5py.File(tmp_path / "w.h5", "w") as file, pytest.raises(SourceError, match="decode it"):
        read(ROWS, words=file.create_dataset("words", data=["é".encode()] * 8).asstr("ascii"))
    refused(
        tmp_path, file, "none that can be read; pass one of them, such as source['name']"
    )  # It is closed.


def test_zarr_groups(tmp_path):
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array("vectors", data=ROWS)
    refused(tmp_path, group, "Group holds", "'vectors': (8, 5) float32")
    np.testing.assert_array_equal(read(group["vectors"])[1], ROWS)


def test_safetensors(tmp_path):
    library = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"embed": ROWS, "bias": ROWS[0]}, tmp_path / "t.safetensors")
    refused(tmp_path, numpy.load_file(tmp_path / "t.safetensors"), "'embed': (8, 5) float32")
    with library.safe_open(tmp_path / "t.safetensors", "np") as file:
        refused(tmp_path, file, "'embed': (8, 5) F32", "'bias': (5,) F32")


def test_torch_checkpoints(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Embedding(8, 5), torch.nn.Linear(5, 3))
    refused(tmp_path, module.state_dict(), "'0.weight': (8, 5) torch.float32", "'1.bias': (3,)")
    refused(tmp_path, {"model": module, "optimizer": {}}, "'model': Sequential")
    with pytest.raises(TypeError, match="cannot build from Linear; pass its weight"):
        read(module[1])
    with pytest.raises(TypeError, match=r"cannot build from Sequential; pass its weight"):
        read(module)


def test_frames_by_name(tmp_path):
    pandas = pytest.importorskip("pandas")
    refused(tmp_path, {"train": pandas.DataFrame(ROWS)}, "'train': (8, 5) DataFrame")
    words, rows = read({word: pandas.Series(row) for word, row in zip(WORDS, ROWS, strict=True)})
    assert words == WORDS
    np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize(
    "keys", [range(8), [3, 1, 0, 2, 7, 6, 5, 4], np.arange(8)[::-1], np.arange(8, dtype=np.uint8)]
)
def test_vectors_by_id(tmp_path, keys):
    source = {key: ROWS[key] for key in keys}
    assert read(source)[0] is None
    np.testing.assert_array_equal(read(source)[1], ROWS)
    words, rows = read(source, words=WORDS, limit=3)
    assert words == WORDS[:3]
    np.testing.assert_array_equal(rows, ROWS[:3])
    with embstore.build(source, tmp_path / "s", partitions=3, strategy="div") as store:
        np.testing.assert_array_equal(store[:], ROWS)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ([0, 2, 4], "found 4"),
        ([1, 2, 3], "found 3"),
        ([-1, 0, 1], "found -1"),
        ([0, 1, "two"], "found 'two'"),
        ([False, True, 2], "found False"),
        ([0.0, 1.0, 2.0], "found 0.0"),
        ([b"the", b"of", b"a"], "found b'the'"),
        ([("a",), ("b",), ("c",)], r"found \('a',\)"),
        ([None, 1, 2], "found None"),
    ],
)
def test_other_keys_are_refused(tmp_path, keys, found):
    with pytest.raises(SourceError, match=rf"as keys, or ids from 0 to 2, each once; {found}"):
        embstore.build(dict(zip(keys, ROWS, strict=False)), tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_vectors_by_id_have_one_dtype_that_holds_all():
    words, rows = read({0: ROWS[0], 1: ROWS[1].astype(np.float64) + 1e-9})
    assert words is None
    assert rows.dtype == np.float64
    assert rows[1, 0] == 5 + 1e-9
    with pytest.raises(SourceError, match=r"dict\[1\] has int64 numbers that float64"):
        read({0: np.ones(2), 1: np.array([2**53 + 1, 1])})
    with pytest.raises(SourceError, match=r"dict\[1\] has shape \(1, 2\).*dict\[0\] has shape"):
        read({0: [1.0], 1: [1.0, 2.0]})
