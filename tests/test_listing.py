"""Lists of the tables in a path: `embstore.tables`, `embstore info`, and what a store says."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import embstore
from embstore.cli import app
from tests.helpers.programs import run_command
from tests.helpers.tensors import save, save_model

CODES = np.arange(96, dtype=np.int8).reshape(8, 12)
SCALE = np.linspace(0.5, 4, 8, dtype=np.float32)[:, np.newaxis]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert not result.exception, result.output
    return result.output


@pytest.fixture
def model(tmp_path):
    """Two files with an index: parts with a scale, a table, and a vector."""
    files = {
        "one.safetensors": {"x.shard_0.weight": CODES[:4], "x.weight_scale": SCALE},
        "two.safetensors": {
            "x.shard_1.weight": CODES[4:],
            "embed.weight": np.zeros((4, 3), np.float16),
            "norm": np.zeros(3),
        },
    }
    return save_model(tmp_path / "model", files, "model.safetensors.index.json")


def test_tables_of_a_model(model):
    expected = [
        embstore.ListedTable("x.shard_{}.weight", (8, 12), "int8", 2, 96, "x.weight_scale"),
        embstore.ListedTable("embed.weight", (4, 3), "float16", 1, 24),
    ]
    assert embstore.tables(model) == expected
    assert embstore.tables(model / "model.safetensors.index.json") == expected
    assert [one.name for one in embstore.tables(model / "two.safetensors")] == [
        "x.shard_1.weight",
        "embed.weight",
    ]


def noted(*arguments: object) -> str:
    return run_command("info", *arguments).stderr


def test_info_tells_what_is_not_listed(model, tmp_path):
    assert noted(model) == ""
    below = model / "more"
    below.mkdir()
    assert noted(model) == ""
    np.save(below / "t.npy", CODES)
    save_model(model / "other", {"a.safetensors": {"a": CODES, "b": CODES}}, None)
    assert noted(model) == "embstore: note: folders in it hold tables, too: more, other\n"
    (model / "one.safetensors").unlink()
    save(model / "more.safetensors", {"a": CODES, "b": CODES})
    index = model / "model.safetensors.index.json"
    assert "files are missing, and the tables in them: one.safetensors\n" in noted(index)
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    model.rename(tmp_path / "folder" / "model")
    with pytest.raises(embstore.StoreNotFoundError, match=r"open one of the folders in it: model$"):
        embstore.tables(tmp_path / "folder")
    with pytest.raises(embstore.StoreNotFoundError, match=r"no files of safetensors or GGUF$"):
        embstore.open(tmp_path / "folder" / "inner")


def test_tables_of_other_paths(tmp_path, words_store):
    np.save(tmp_path / "t.npy", np.zeros((5, 2), np.int16))
    assert embstore.tables(tmp_path / "t.npy") == [embstore.ListedTable("", (5, 2), "int16", 1, 20)]
    assert embstore.tables(words_store) == [embstore.ListedTable("", (11, 8), "float32", 1, 352)]
    with pytest.raises(embstore.StoreNotFoundError, match="no store at"):
        embstore.tables(tmp_path / "none")
    with pytest.raises(TypeError, match="path must be"):
        embstore.tables(b"x")  # type: ignore[arg-type]


def test_info_lists_the_tables_of_a_model(model):
    lines = run("info", model).splitlines()
    assert [line.split() for line in lines] == [
        ["tensor", "shape", "dtype", "parts", "bytes", "scale"],
        ["x.shard_{}.weight", "[8,", "12]", "int8", "2", "96", "x.weight_scale"],
        ["embed.weight", "[4,", "3]", "float16", "1", "24", "-"],
    ]
    found = json.loads(run("info", model, "--json"))
    assert found[0] == {
        "tensor": "x.shard_{}.weight",
        "shape": [8, 12],
        "dtype": "int8",
        "parts": 2,
        "bytes": 96,
        "scale": "x.weight_scale",
    }


def test_info_says_which_scale_was_taken(model):
    pattern = "x.shard_{}.weight"
    facts = json.loads(run("info", model, "--tensor", pattern, "--json"))
    assert (facts["tensor"], facts["scale"], facts["encoding"]) == (
        pattern,
        "x.weight_scale",
        "int8",
    )
    assert (facts["dtype"], facts["row_shape"], facts["row_bytes"]) == ("float32", [12], 8 * 16)
    facts = json.loads(run("info", model, "--tensor", pattern, "--scale", "none", "--json"))
    assert "scale" not in facts
    assert facts["dtype"] == "int8"


def test_names_do_not_command_the_terminal(tmp_path):
    tensors = {"\x1b[2J": np.zeros((2, 2)), "b": np.zeros((2, 3))}
    path = save(tmp_path / "t.safetensors", tensors)
    assert "\x1b" not in run("info", path)
    result = CliRunner().invoke(app, ["get", str(path), "--ids", "0"])
    assert "\x1b" not in str(result.exception)
    assert r"\x1b[2J" in str(result.exception)


def test_a_store_of_parts_and_scales(model):
    expected = CODES.astype(np.float32) * SCALE
    with embstore.open(model, tensor="x.shard_{}.weight") as store:
        assert "x.weight_scale" in repr(store)
        assert store.source == {
            "file": "model",
            "format": "safetensors",
            "tensor": "x.shard_{}.weight",
            "scale": "x.weight_scale",
        }
        assert np.array_equal(store.lookup([[7, 0], [3, 4]]), expected[[[7, 0], [3, 4]]])
        with pickle.loads(pickle.dumps(store)) as copy:
            assert np.array_equal(copy[:], expected)
            assert repr(copy) == repr(store)
    with embstore.open(model, tensor="x.shard_{}.weight", scale=None) as store:
        assert np.array_equal(store[:], CODES)
        with pickle.loads(pickle.dumps(store)) as copy:
            assert copy.dtype == np.int8
            assert np.array_equal(copy[:], CODES)


def test_options_of_a_table_survive_a_copy(tmp_path):
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tensors: dict[str, Any] = {
        "a": codes,
        "s": np.array([[1], [2]], np.float32),
        "z": np.array([[3], [4]], np.int8),
    }
    path = save(tmp_path / "t.safetensors", tensors)
    options: dict[str, Any] = {
        "scale": "s",
        "scale_block": (8, 16),
        "encoding": "uint8",
        "zero_point": "z",
    }
    expected = (codes.astype(np.float32) - np.repeat(tensors["z"], 8, 0)) * np.repeat(
        tensors["s"], 8, 0
    )
    with embstore.open(path, tensor="a", **options) as store:
        assert np.array_equal(store[:], expected)
        with pickle.loads(pickle.dumps(store)) as copy:
            assert np.array_equal(copy[:], expected)
    text = run(
        *("get", path, "--tensor", "a", "--scale", "s", "--scale-block", 8, 16, "--json"),
        *("--encoding", "uint8", "--zero-point", "z", "--ids", "0,15"),
    )
    assert [one["row"] for one in json.loads(text)] == expected[[0, 15]].tolist()


def test_a_scale_that_changes_is_noticed(tmp_path):
    save_model(tmp_path / "m", {"a.safetensors": {"x.weight": CODES}})
    save_model(tmp_path / "m", {"b.safetensors": {"x.weight_scale": np.float32(2)}})
    with embstore.open(tmp_path / "m", tensor="x.weight") as store:
        assert np.array_equal(store[1], CODES[1] * np.float32(2))
        pickled = pickle.dumps(store)
    scale = tmp_path / "m/b.safetensors"
    save(scale, {"x.weight_scale": np.float32(3)})
    os.utime(scale, ns=(1, 1))
    with pytest.raises(embstore.StoreChangedError):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"tensor": 3}, TypeError, "tensor must be a str, not 3"),
        ({"tensor": ""}, ValueError, "tensor must be a name"),
        ({"scale": True}, TypeError, "scale must be a str"),
        ({"zero_point": b"z"}, TypeError, "zero_point must be a str"),
        ({"encoding": "int3"}, ValueError, 'encoding must be "float8_e4m3fn", .* or "opaque"'),
        ({"encoding": None, "scale_block": 3}, TypeError, "scale_block must be a tuple"),
        ({"scale_block": (1, 2, 3)}, ValueError, "scale_block must be two integers"),
        ({"scale_block": (0, 2)}, ValueError, r"scale_block\[0\] must be 1 or more"),
        ({"scale_block": (1.5, 2)}, TypeError, r"scale_block\[0\] must be an integer"),
    ],
)
def test_options_are_settled(tmp_path, words_store, options, error, says):
    path = save(tmp_path / "t.safetensors", {"x": CODES})
    for where in (path, words_store):
        with pytest.raises(error, match=says):
            embstore.open(where, **options)


@pytest.mark.parametrize(
    "options",
    [
        *({"tensor": "x"}, {"scale": "x"}, {"zero_point": "z"}, {"encoding": "int8"}),
        *({"scale_block": (1, 2)}, {"encoding": "opaque"}),
    ],
    ids=str,
)
def test_options_that_a_format_does_not_take(tmp_path, words_store, options):
    np.save(tmp_path / "t.npy", CODES)
    (name,) = options
    for path in (words_store, tmp_path / "t.npy"):
        with pytest.raises(embstore.FormatError, match=f"does not take {name}="):
            embstore.open(path, **options)
        embstore.open(path, scale=None).close()  # It has none.


def test_build_and_export_take_the_options_of_a_table(model, tmp_path):
    pattern = "x.shard_{}.weight"
    expected = CODES.astype(np.float32) * SCALE
    with embstore.build(model, tmp_path / "s", tensor=pattern) as store:
        assert np.array_equal(store[:], expected)
    with embstore.build(model, tmp_path / "p", tensor=pattern, scale=None) as store:
        assert np.array_equal(store[:], CODES)
    with pytest.raises(embstore.SourceError, match="has no tensor 'y'"):
        embstore.build(model, tmp_path / "y", tensor=pattern, scale="y")
    embstore.export(model, tmp_path / "t.npy", tensor=pattern)
    assert np.array_equal(np.load(tmp_path / "t.npy"), expected)
    embstore.export(model, tmp_path / "u.npy", tensor=pattern, scale=None, encoding="int4")
    assert np.load(tmp_path / "u.npy").shape == (8, 24)
    run("export", model, tmp_path / "v.npy", "--tensor", pattern, "--scale", "none")
    assert np.array_equal(np.load(tmp_path / "v.npy"), CODES)
    run("build", model, tmp_path / "c", "--tensor", pattern, "--scale", "x.weight_scale")
    with embstore.open(tmp_path / "c") as store:
        assert np.array_equal(store[:], expected)
    np.save(tmp_path / "w.npy", CODES)
    with pytest.raises(embstore.SourceError, match="does not take scale="):
        embstore.build(tmp_path / "w.npy", tmp_path / "z", scale="s")
