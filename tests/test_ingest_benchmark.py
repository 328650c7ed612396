"""The benchmark of building runs small."""

from __future__ import annotations

import numpy as np

import embstore
from benchmarks import ingest

SIZES = ingest.Sizes(rows=50, dimension=7, vocabulary_words=300, words=200, batch=100)


def test_inputs_hold_the_same_vectors(tmp_path):
    ingest.make_inputs(tmp_path, SIZES)
    rows = np.load(tmp_path / "vectors.npy")
    with embstore.build(tmp_path / "vectors.txt", tmp_path / "built.embstore") as store:
        np.testing.assert_array_equal(store[:], rows)
        assert store.words([0, 49]) == ["word0", "word49"]


def test_tasks_take_turns(tmp_path):
    lines: list[str] = []
    chosen = ["build vocabulary", "words to ids"]
    found = ingest.measure(tmp_path, SIZES, chosen, 2, lines.append)
    assert {name: len(turns) for name, turns in found.items()} == {
        "build vocabulary": 1,
        "words to ids": 2,
        "dict": 2,
    }
    assert all(seconds > 0 for turns in found.values() for seconds, _ in turns)
    assert lines[0] == "making the inputs"
    table = ingest.text(found)
    assert "words to ids, against dict" in table
    assert "build text" not in table
