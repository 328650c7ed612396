"""Upserted rows: those of known words replaced, others appended, against a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import DuplicateWordError, SourceError
from tests.helpers.changes import check, numbers, words_of, write
from tests.helpers.stores import names
from tests.test_append import LAYOUTS

OLD, TOTAL = 50, 90
# Positions of words of a table of all rows.
CHOICES = {
    "old and new": [49, 60, 3, 61, 0, 62],
    "old": [48, 7],
    "new": list(range(OLD, TOTAL)),
    "all": list(range(TOTAL))[::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("choice", CHOICES)
def test_upserted_rows_are_those_of_a_build(tmp_path, layout, choice):
    options = LAYOUTS[layout]
    rows, words = numbers(OLD), words_of(OLD)
    write(tmp_path / "t", rows, words, **options)
    model: dict[str, Any] = dict(zip(words, rows, strict=True))
    new = {
        f"word {number}": row
        for number, row in zip(CHOICES[choice], numbers(TOTAL, seed=1), strict=False)
    }
    told = embstore.upsert(tmp_path / "t", new, dry_run=True)
    report = embstore.upsert(tmp_path / "t", new)
    assert told == report
    replaced = sum(word in model for word in new)
    assert (report.rows_replaced, report.rows_appended) == (replaced, len(new) - replaced)
    model |= new
    check(tmp_path / "t", np.stack(list(model.values())), list(model), **options)


def test_new_rows_beyond_the_memory(tmp_path):
    rows, words = numbers(4000, (64,)), words_of(4000)
    write(tmp_path / "t", rows[:100], words[:100], chunk_rows=64)
    pairs = zip(words[50:], rows[50:] + 1, strict=True)
    report = embstore.upsert(tmp_path / "t", pairs, memory_limit=256 << 10)
    assert (report.rows_replaced, report.rows_appended) == (50, 3900)
    check(tmp_path / "t", np.concatenate([rows[:50], rows[50:] + 1]), words)


@pytest.mark.parametrize("partitions", [1, 2])
def test_chunks_grow_and_rows_are_replaced(tmp_path, partitions):
    rows, words = numbers(1000), words_of(1000)
    write(tmp_path / "t", rows[:10] + 1, words[:10], chunk_rows=4, partitions=partitions)
    report = embstore.upsert(tmp_path / "t", dict(zip(words[3:], rows[3:], strict=True)))
    assert report.chunk_rows == 16
    rows[:3] += 1
    check(tmp_path / "t", rows, words)


@pytest.mark.parametrize("word", ["word 3", "new"])
def test_repeated_words(tmp_path, word):
    rows, words = numbers(5), words_of(5)
    write(tmp_path / "t", rows, words)
    pairs = [(word, rows[0] + 1), ("other", rows[1]), (word, rows[0] + 2)]
    with pytest.raises(SourceError, match=word) as caught:
        embstore.upsert(tmp_path / "t", pairs, on_duplicate="error")
    assert isinstance(caught.value, DuplicateWordError)
    assert names(tmp_path) == ["t"]
    report = embstore.upsert(tmp_path / "t", pairs, on_duplicate="first")
    assert report.rows == 2
    with embstore.open(tmp_path / "t") as store:
        assert np.array_equal(store[word], rows[0] + 1)
        assert store.source["duplicate_count"] == 1


def test_what_cannot_be_upserted_is_refused(tmp_path):
    rows = numbers(5)
    write(tmp_path / "plain", rows)
    write(tmp_path / "t", rows, words_of(5))
    write(tmp_path / "div", rows, words_of(5), partitions=2, strategy="div")
    with pytest.raises(SourceError, match=r"embstore\.update"):
        embstore.upsert(tmp_path / "plain", rows)
    with pytest.raises(SourceError, match="words"):
        embstore.upsert(tmp_path / "plain", {"a": rows[0]})
    with pytest.raises(ValueError, match="words"):
        embstore.upsert(tmp_path / "t", rows)
    with pytest.raises(ValueError, match='strategy="mod"'):
        embstore.upsert(tmp_path / "div", {"new": rows[0]})
    assert embstore.upsert(tmp_path / "div", {"word 3": rows[0]}).rows == 1
    assert names(tmp_path) == ["div", "plain", "t"]


def test_two_stores_that_feed_each_other_keep_their_size(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        embstore.build({"like": [1.0, 2.0]}, path)
    sizes = []
    for _ in range(4):
        embstore.upsert(paths[0], paths[1])
        embstore.upsert(paths[1], paths[0])
        sizes += [(path / "zarr.json").stat().st_size for path in paths]
    assert max(sizes) - min(sizes) < 20  # Checksums have more or fewer digits.
    with embstore.open(paths[0]) as store:
        assert store.source["last_change"]["file"] == "b"
