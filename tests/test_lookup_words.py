"""Lookups by word, of any shape, and the handling of missing words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = np.arange(12, dtype=np.float32).reshape(6, 2)
WORDS = ["the", "<unk>", "caf\u00e9", "", "two words", "\U0001f600"]


def write_store(path: Path, words: list[str] | None, **settings: Any) -> Path:
    with embstore.StoreWriter(path, row_shape=(2,), dtype="float32", **settings) as writer:
        writer.write(TABLE, words)
    return path


@pytest.fixture(params=["mapped", "chunked"])
def store(request, tmp_path):
    """A store with an unk word."""
    path = write_store(tmp_path / "t.embstore", WORDS, partitions=2)
    with embstore.open(path, reader=request.param) as opened:
        yield opened


@pytest.fixture
def plain(tmp_path):
    """A store without an unk word."""
    words = ["the", "like", *WORDS[2:]]
    with embstore.open(write_store(tmp_path / "plain.embstore", words)) as opened:
        yield opened


@pytest.fixture
def wordless(tmp_path):
    with embstore.open(write_store(tmp_path / "wordless.embstore", None)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("the", 0),
        (np.str_("caf\u00e9"), 2),
        ("", 3),
        (WORDS, [0, 1, 2, 3, 4, 5]),
        (("two words", "two words"), [4, 4]),
        ([["the", ""], ["", "\U0001f600"]], [[0, 3], [3, 5]]),
        (np.array([["the"], ["caf\u00e9"]]), [[0], [2]]),
        (np.array(["the", "two words"], object), [0, 4]),
        (np.array("the"), 0),
        ([[["the"]]], [[[0]]]),
        (np.empty((2, 0), "U3"), np.empty((2, 0), int)),
    ],
)
def test_words_of_any_shape(store, words, ids):
    found = store.ids(words)
    assert found.dtype == np.int64
    assert np.array_equal(found, ids)
    assert np.shape(found) == np.shape(ids)
    for rows in (store.lookup_words(words), store.lookup_words(words, missing="zeros")):
        assert np.array_equal(rows, TABLE[np.array(ids)])
        assert rows.shape == (*np.shape(ids), 2)
    if not isinstance(words, tuple):
        assert np.array_equal(store[words], TABLE[np.array(ids)])


def test_no_words(store):
    assert store.ids([]).shape == (0,)
    assert store.lookup_words([]).shape == store[[]].shape == (0, 2)
    assert store.lookup_words([[], []], missing="unk").shape == (2, 0, 2)


@pytest.mark.parametrize("words", ["absent", "th", "two", "\ud800"])
def test_missing_word(store, words):
    for call in (store.ids, store.lookup_words, store.__getitem__):
        with pytest.raises(embstore.MissingWordError) as raised:
            call(words)
        assert isinstance(raised.value, KeyError)
        assert str(raised.value) == (
            f"the word {words!r} is not in the store; "
            "missing=\"unk\" gives such words the row of '<unk>'"
        )
    assert words not in store


def test_message_names_five_words(plain):
    words = ["the", *(f"w{i}" for i in range(7)), "like"]
    with pytest.raises(embstore.MissingWordError) as raised:
        plain.lookup_words(words)
    assert str(raised.value) == (
        "7 of 9 words are not in the store: 'w0', 'w1', 'w2', 'w3', 'w4', ...; "
        'lookup_words(..., missing="zeros") gives such words zeros'
    )


@pytest.mark.parametrize(
    ("words", "ids"),
    [("absent", 1), ("the", 0), ([["absent", "the"], ["", "no"]], [[1, 0], [3, 1]]), ([], [])],
)
def test_unk(store, words, ids):
    assert store.unk == "<unk>"
    assert np.array_equal(store.ids(words, missing="unk"), np.array(ids, int))
    assert np.array_equal(store.lookup_words(words, missing="unk"), TABLE[np.array(ids, int)])


def test_unk_without_an_unk_word(plain):
    assert plain.unk is None
    assert plain.ids(["the"], missing="unk").tolist() == [0]
    for call in (plain.ids, plain.lookup_words):
        with pytest.raises(embstore.MissingWordError, match="has no unk word; name one"):
            call(["the", "absent"], missing="unk")


def test_zeros(store, plain):
    for each in (store, plain):
        rows = each.lookup_words([["the", "absent"], ["no", ""]], missing="zeros")
        expected = np.stack([TABLE[0], 0 * TABLE[0], 0 * TABLE[0], TABLE[3]]).reshape(2, 2, 2)
        assert np.array_equal(rows, expected)
        assert rows.dtype == np.float32
        assert each.lookup_words("absent", missing="zeros").tolist() == [0, 0]
        assert each.lookup_words(["absent"] * 3, missing="zeros").tolist() == [[0, 0]] * 3


def test_none(store, plain):
    for each in (store, plain):
        found = each.ids([["the", "absent"], ["no", ""]], missing="none")
        assert found.tolist() == [[0, -1], [-1, 3]]
        assert each.ids("absent", missing="none") == -1
        with pytest.raises(embstore.IdRangeError):
            each.lookup(found)


@pytest.mark.parametrize(
    ("missing", "kind"),
    [("zero", ValueError), (None, TypeError), (0, TypeError), ("UNK", ValueError)],
)
def test_other_values_of_missing_are_refused(store, missing, kind):
    with pytest.raises(kind, match='missing must be "error", "unk" or "zeros", not '):
        store.lookup_words(["the"], missing=missing)
    with pytest.raises(kind, match='missing must be "error", "unk" or "none", not '):
        store.ids(["the"], missing=missing)
    with pytest.raises(ValueError, match="not 'zeros'"):
        store.ids(["the"], missing="zeros")


@pytest.mark.parametrize(
    ("words", "kind"),
    [(5, "int"), (None, "NoneType"), (b"the", "bytes"), (["the", 5], "int"), ({"the"}, "set")],
)
def test_other_types_are_refused(store, words, kind):
    for missing in ("error", "unk", "zeros"):
        with pytest.raises(TypeError, match=f"words must be str, not {kind}"):
            store.lookup_words(words, missing=missing)


def test_ragged_words_are_refused(store):
    with pytest.raises(TypeError, match="words must be str, not list"):
        store.lookup_words([["the"], ["the", ""]])


def test_in(store, wordless):
    assert "the" in store
    assert "" in store
    assert "absent" not in store
    assert "the" not in wordless
    assert np.str_("the") in store
    with pytest.raises(TypeError, match="a str, not int"):
        assert 0 in store


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (2, "caf\u00e9"),
        (np.uint8(5), "\U0001f600"),
        ([0, 3, 0], ["the", "", "the"]),
        ([[4], [0]], [["two words"], ["the"]]),
        ([], []),
        (np.empty((2, 0), int), [[], []]),
    ],
)
def test_words_of_ids(store, ids, words):
    assert store.words(ids) == words


def test_store_without_words(wordless):
    assert not wordless.has_words
    assert np.array_equal(wordless[:], TABLE)
    calls: list[Callable[[], object]] = [
        lambda: wordless["the"],
        lambda: wordless.words(0),
        lambda: wordless.ids(["the"]),
    ]
    for call in calls:
        with pytest.raises(embstore.MissingWordError, match="has no words; look up its rows by id"):
            call()
    assert "words" not in repr(wordless)


def test_many_words(tmp_path):
    words = [f"word {i}" for i in range(30_000)]
    rows = np.arange(30_000, dtype=np.float64)
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(), dtype="float64", partitions=3) as writer:
        for start in range(0, 30_000, 7000):
            writer.write(rows[start : start + 7000], words[start : start + 7000])
    order = np.random.default_rng(0).integers(0, 30_000, 50_000)
    asked = [words[i] for i in order.tolist()]
    with embstore.open(path) as store:
        assert np.array_equal(store.ids(asked), order)
        assert np.array_equal(store[asked], rows[order])
        assert store.words(order) == asked
