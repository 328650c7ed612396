"""Stores built from stores: repartitioned, or cast to another dtype."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from tests.helpers.programs import run_command as run
from tests.helpers.stores import make_store as make


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 40),
    *[st.integers(1, 6)] * 2,
    *[st.sampled_from(["mod", "div"])] * 2,
    st.sampled_from([(), (3,), (2, 2)]),
    st.booleans(),
)
def test_rows_and_words_are_kept(
    tmp_path_factory, rows, old, new, strategy, into, row_shape, named
):
    path = tmp_path_factory.mktemp("any")
    table = np.random.default_rng(rows).standard_normal((rows, *row_shape)).astype(np.float32)
    words = [f"w{number}" for number in range(rows)] if named else None
    with embstore.StoreWriter(
        path / "s",
        row_shape=row_shape,
        dtype="float32",
        partitions=old,
        strategy=strategy,
        rows=rows,
    ) as writer:
        writer.write(table, words)
    with embstore.open(path / "s") as store:
        built = embstore.build(store, path / "t", partitions=new, strategy=into)
    assert (built.partition_count, built.strategy, built.shape) == (new, into, table.shape)
    assert built.to_numpy().tobytes() == table.tobytes()
    assert built.dtype == np.float32
    if named and rows:
        assert built.words(np.arange(rows)) == words


def test_unk_and_source_facts_are_kept(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("the 0.1 1\nstranger 2 3\nthe 4 5\nodd nan 1\n")
    store = embstore.build(text, tmp_path / "s", unk="stranger")
    half = embstore.build(store, tmp_path / "half", dtype="float16")
    assert half.unk == "stranger"
    assert half.dtype == np.float16
    assert half.source["origins"] == [store.source]
    assert half.source["largest_cast_error"] > 0
    assert (half.source["duplicate_count"], half.source["non_finite_row_count"]) == (0, 1)
    again = embstore.build(half, tmp_path / "again", partitions=2)
    first, second = again.source["origins"]
    assert first == store.source
    assert second == {name: fact for name, fact in half.source.items() if name != "origins"}
    assert "largest_cast_error" not in again.source
    assert embstore.build(half, tmp_path / "other", unk="the").unk == "the"


def test_store_can_replace_itself(tmp_path):
    rows = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    words = [f"w{number}" for number in range(1000)]
    for reader in ("mapped", "chunked"):
        make(tmp_path / "s", rows, words, partitions=3, overwrite=True).close()
        with embstore.open(tmp_path / "s", reader=reader) as store:
            with pytest.raises(embstore.StoreExistsError):
                embstore.build(store, tmp_path / "s")
            built = embstore.build(store, tmp_path / "s", partitions=5, overwrite=True)
            if reader == "mapped":  # The open store is unchanged.
                assert store.to_numpy().tobytes() == rows.tobytes()
                assert store.ids("w7") == 7
        assert built.partition_count == 5
        assert built.to_numpy().tobytes() == rows.tobytes()
        assert built.words([7]) == ["w7"]
    assert embstore.verify(tmp_path / "s").ok
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_failed_cast_leaves_the_store(tmp_path):
    rows = np.array([[1.0], [1e6]], np.float32)
    store = make(tmp_path / "s", rows)
    with pytest.raises(embstore.SourceError, match=r"1000000\.0 is out of the range of float16"):
        embstore.build(store, tmp_path / "s", dtype="float16", overwrite=True)
    assert embstore.open(tmp_path / "s").to_numpy().tolist() == rows.tolist()
    half = embstore.build(store, tmp_path / "s", dtype="float16", on_overflow="inf", overwrite=True)
    assert half.source["overflow_count"] == 1


def test_command(words_store, tmp_path):
    new = tmp_path / "new.embstore"
    options = ["--partitions", 4, "--strategy", "div", "--dtype", "bfloat16", "--json"]
    done = run("repartition", words_store, new, *options)
    facts = json.loads(done.stdout)
    assert (facts["partitions"], facts["strategy"], facts["dtype"]) == (4, "div", "bfloat16")
    assert facts["source"]["origins"][0]["file"] == "words.txt"
    assert "rounded to bfloat16" in done.stderr
    entry = json.loads(run("get", new, "like", "--json").stdout)[0]
    with embstore.open(new) as store:
        assert np.array(entry["row"], np.float32).tolist() == store["like"].tolist()
    # Without options, partitions, strategy and dtype are kept.
    facts = json.loads(run("repartition", new, new, "--overwrite", "--json").stdout)
    assert (facts["partitions"], facts["strategy"], facts["dtype"]) == (4, "div", "bfloat16")
    assert "exists" in run("repartition", words_store, new, status=1).stderr


def test_exporting_from_the_command_line(words_store, tmp_path):
    done = run("export", words_store, tmp_path / "t.npy", "--json")
    facts = json.loads(done.stdout)
    assert (facts["format"], facts["rows"]) == ("npy", 11)
    assert "--words" in done.stderr
    done = run("export", words_store, tmp_path / "t.txt", "--format", "glove")
    assert "rows" in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "t.txt").read_text().startswith("the 0.418 0.24968")
    assert "--format" in run("export", words_store, tmp_path / "t", status=1).stderr
