"""Attributes on their way out: exported files, gensim's keys, and the command line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import as_dtype
from embstore.errors import ExportError
from tests.helpers.programs import run_command

WORDS = ["the", "like", "day"]
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
VALUES = {
    "count": np.array([3, 2, 1], np.uint16),
    "weight": [0.5, float("nan"), -1.0],
    "title": ["Ü", "", "a b"],
    "ok": [True, False, True],
}


@pytest.fixture
def counted(tmp_path):
    """A store with attributes of every kind."""
    source = dict(zip(WORDS, ROWS, strict=True))
    with embstore.build(source, tmp_path / "counted", attributes=VALUES) as store:
        yield store


@pytest.mark.parametrize("has_words", [True, False])
def test_parquet_and_back(tmp_path, counted, has_words):
    pytest.importorskip("pyarrow")
    store = counted
    if not has_words:
        store = embstore.build(ROWS, tmp_path / "bare", attributes=VALUES)
    report = embstore.export(store, tmp_path / "t.parquet")
    assert report.attributes_left_out == ()
    again = embstore.build(tmp_path / "t.parquet", tmp_path / "again")
    with store, again:
        assert again.fingerprint() == store.fingerprint()
        assert again.has_words == has_words
        for name, column in store.attributes.items():
            assert again.attributes[name].dtype_name == column.dtype_name
            np.testing.assert_array_equal(again.attributes[name][:], column[:])
    none = embstore.build(tmp_path / "t.parquet", tmp_path / "none", attributes=[])
    one = embstore.build(tmp_path / "t.parquet", tmp_path / "one", attributes=["ok"])
    with none, one:
        assert not none.attributes
        assert list(one.attributes) == ["ok"]


def test_parquet_has_columns_that_others_read(tmp_path, counted):
    parquet = pytest.importorskip("pyarrow.parquet")
    embstore.export(counted, tmp_path / "t.parquet")
    found = parquet.read_table(tmp_path / "t.parquet")
    assert found.column_names == ["word", "vector", *VALUES]
    assert found["count"].to_pylist() == [3, 2, 1]
    assert found["title"].to_pylist() == VALUES["title"]
    assert found["ok"].to_pylist() == VALUES["ok"]


def test_blocks_of_a_large_table(tmp_path, monkeypatch):
    """Each row group has the values of its own rows."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("embstore.row_blocks.MAX_BLOCK_ROWS", 100)
    rows = np.zeros((1050, 1), np.float32)
    values: dict[str, Any] = {"n": np.arange(1050), "t": [f"t{number}" for number in range(1050)]}
    with embstore.build(rows, tmp_path / "s", attributes=values) as store:
        embstore.export(store, tmp_path / "t.parquet")
        found = parquet.read_table(tmp_path / "t.parquet")
        assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 11
        assert found["n"].to_pylist() == values["n"].tolist()
        assert found["t"].to_pylist() == values["t"]
        again = embstore.build(store, tmp_path / "again", partitions=4, strategy="div")
        with again:
            assert again.fingerprint() == store.fingerprint()


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"word": [1, 2, 3]}, "the attribute 'word' has the name of the column of words; build"),
        ({"vector": ["a", "b", "c"]}, "the attribute 'vector' has the name of the column of rows"),
        ({"half": ROWS[:, 0].astype(as_dtype("bfloat16"))}, "'half' is bfloat16, which Parq"),
    ],
)
@pytest.mark.parametrize("has_words", [True, False])
def test_columns_that_parquet_cannot_have(tmp_path, attributes, says, has_words):
    pytest.importorskip("pyarrow")
    source = dict(zip(WORDS, ROWS, strict=True)) if has_words else ROWS
    store = embstore.build(source, tmp_path / "s", attributes=attributes)
    with store, pytest.raises(ExportError, match=says):
        embstore.export(store, tmp_path / "t.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("name", ["t.vec", "t.bin", "t.npy", "t.safetensors"])
def test_other_formats_tell_what_is_left_out(tmp_path, counted, name):
    pytest.importorskip("pyarrow")
    report = embstore.export(counted, tmp_path / name)
    assert report.attributes_left_out == tuple(VALUES)
    with embstore.build(tmp_path / name, tmp_path / "again") as again:
        assert not again.attributes


def test_gensims_keys_have_the_attributes(tmp_path, counted):
    pytest.importorskip("gensim")
    keys = counted.to_gensim()
    assert list(keys.expandos) == list(VALUES)
    assert keys.get_vecattr("like", "count") == 2
    assert keys.get_vecattr("day", "title") == "a b"
    with embstore.build(keys, tmp_path / "again", attributes=list(VALUES)) as again:
        assert again.fingerprint() == counted.fingerprint()


TEXT = "the 10 0.1 0.2\nof 5 0.2 0.1\nx 4 0.3 0.1\n"
BARE = "the 0.1 0.2\nof 0.2 0.1\nx 0.3 0.1\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with texts and files of values."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counted.txt").write_text(TEXT)
    (tmp_path / "bare.txt").write_text(BARE)
    (tmp_path / "titles.txt").write_text("The\nOf\nX\n")
    np.save(tmp_path / "item_id.npy", np.array([7, 8, 9], np.uint32))
    return tmp_path


def facts(name: str) -> dict[str, str]:
    found = json.loads(run_command("info", name, "--json").stdout).get("attributes", {})
    assert all(one["disk_bytes"] > 0 for one in found.values())
    return {name: one["dtype"] for name, one in found.items()}


def test_commands_take_and_show_attributes(folder):
    run_command("build", "counted.txt", "a", "--attribute", "count")
    assert facts("a") == {"count": "int64"}
    files = ("--attribute", "title=titles.txt", "--attribute", "item_id=item_id.npy")
    run_command("build", "bare.txt", "b", *files)
    assert facts("b") == {"title": "string", "item_id": "uint32"}
    shown = run_command("info", "b").stdout
    assert "attribute item_id " in shown
    assert "uint32, " in shown
    run_command("repartition", "b", "c", "--partitions", "2")
    assert facts("c") == facts("b")
    run_command("build", "b", "d", "--attribute", "item_id")
    assert facts("d") == {"item_id": "uint32"}
    run_command("build", "b", "e", "--attribute", "")
    assert facts("e") == {}
    with embstore.open("b") as b, embstore.open("c") as c:
        assert b.fingerprint() == c.fingerprint()
        assert b.attributes["title"][:].tolist() == ["The", "Of", "X"]
        assert b.attributes["item_id"][:].tolist() == [7, 8, 9]


def test_the_export_command_tells_what_is_left_out(folder):
    run_command("build", "counted.txt", "a", "--attribute", "count")
    noted = run_command("export", "a", "a.vec").stderr
    assert "word2vec has no attributes; left out: count (parquet has them)" in noted
    assert not run_command("export", "a", "a.parquet").stderr


@pytest.mark.parametrize(
    ("given", "says", "status"),
    [
        (["count=titles.txt", "count"], "names of columns in the source, or NAME=FILE for each", 2),
        (["a=titles.txt", "a=item_id.npy"], "or NAME=FILE for each, once", 2),
        (["a=none.txt"], "no such file: none.txt", 1),
        (["a="], "or NAME=FILE for each", 2),
        (["a/b"], "'a/b' cannot name an attribute", 1),
        (["count", "count"], "--attribute has 'count' twice", 1),
        (["a=counted.txt.gz"], "no such file", 1),
        (["a=bare"], "is not a file, but a directory", 1),
    ],
)
def test_wrong_options_of_commands(folder, given, says, status):
    (folder / "bare").mkdir()
    options = [part for one in given for part in ("--attribute", one)]
    failed = run_command("build", "bare.txt", "s", *options, status=None)
    assert failed.returncode == status, failed.stderr
    assert says in " ".join(failed.stderr.split())
    assert not (folder / "s").exists()
