"""`KeyedVectors` without gensim, and its differences from gensim."""

from __future__ import annotations

import numpy as np
import pytest

import embstore
from embstore.interop.keyedvectors import KeyedVectors

ROWS = np.array([[3, 4], [0, 0], [4, 3], [-3, -4], [6, 8], [1, 0]], np.float32)
WORDS = ["north", "zero", "east", "south", "north too", "x"]


@pytest.fixture(params=["mapped", "chunked"])
def store(request, tmp_path):
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(2,), dtype="float32", partitions=2) as writer:
        writer.write(ROWS, WORDS)
    with embstore.open(path, reader=request.param) as opened:
        yield opened


def test_order_of_neighbours(store):
    vectors = KeyedVectors(store)
    found = vectors.most_similar("south", topn=5)
    assert [word for word, _ in found] == ["x", "east", "north", "north too", "zero"]
    scores = [score for _, score in found]
    assert np.allclose(scores[:4], [-0.6, -0.96, -1, -1])
    assert np.isnan(scores[4])  # A row of zeros has no direction.


def test_vector_of_zeros(store):
    vectors = KeyedVectors(store)
    assert not vectors.get_vector("zero", norm=True).any()
    assert vectors.similarity("zero", "east") == 0
    # It does not change the direction of a mean.
    found = vectors.most_similar(["zero", "north"], topn=2)
    assert [word for word, _ in found] == ["north too", "east"]
    assert vectors.most_similar("zero", topn=1) == [("north", 0.0)]


def test_missing_words_are_named_together(store):
    vectors = KeyedVectors(store)
    with pytest.raises(embstore.MissingWordError, match="2 of 3 words are not in the store") as got:
        vectors[["north", "NORTH", "absent"]]
    assert got.value.words == ("NORTH", "absent")
    assert str(got.value).endswith("; did you mean 'north' for 'NORTH'?")
    with pytest.raises(
        embstore.MissingWordError, match="key 6 is missing: a key is a word, or an id from 0 to 5"
    ):
        vectors[6]
    for vector in (
        vectors.get_vector("absent", missing="zeros"),
        vectors.get_vector("absent", norm=True, missing="zeros"),
    ):
        assert vector.tolist() == [0, 0]
    with pytest.raises(embstore.MissingWordError, match="no unk word"):
        vectors.get_vector("absent", missing="unk")


def test_mismatched_arguments_are_refused(store, tmp_path):
    vectors = KeyedVectors(store)
    with pytest.raises(ValueError, match=r"a vector has shape \(3,\), expected \(2,\)"):
        vectors.similar_by_vector(np.ones(3))
    with pytest.raises(KeyError, match=r"key 1\.5 is missing: a key is a word, or an id"):
        vectors[[1.5]]  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"weights have shape \(1,\), expected \(2,\)"):
        vectors.get_mean_vector(["north", "east"], [1])
    for row_shape, words in [((2, 2), ["a"]), ((2,), None)]:
        path = tmp_path / f"{len(row_shape)}.embstore"
        with embstore.StoreWriter(path, row_shape=row_shape, dtype="float32") as writer:
            writer.write(np.ones((1, *row_shape)), words)
        with embstore.open(path) as other:
            kind = ValueError if words else embstore.MissingWordError
            with pytest.raises(kind, match=r"rows must be vectors|has no words"):
                KeyedVectors(other)


def test_norms_are_read_only(store):
    vectors = KeyedVectors(store)
    with pytest.raises(ValueError, match="read-only"):
        vectors.norms[0] = 1


def test_views_of_words_and_ids(store):
    vectors = KeyedVectors(store)
    words, ids = vectors.index_to_key, vectors.key_to_index
    assert list(words) == list(ids) == WORDS
    assert words[-6:2] == WORDS[:2]
    assert words[::-2] == WORDS[::-2]
    assert [words[at] for at in range(-6, 6)] == WORDS * 2
    assert list(reversed(words)) == WORDS[::-1]
    for at in (-7, 6):
        with pytest.raises(IndexError, match=f"index {at} is out of range for 6 words"):
            words[at]
    assert words.index("east") == words.index("east", -4) == 2
    with pytest.raises(ValueError, match="'east' is not in the list"):
        words.index("east", 3)
    assert words.count("east") == 1
    assert words.count(3) == 0
    assert ids == {word: at for at, word in enumerate(WORDS)}
    assert ids.get("absent", 9) == ids.get(3, 9) == 9  # type: ignore[call-overload]
    assert None not in ids
    assert repr(vectors) == "KeyedVectors<vector_size=2, 6 keys>"


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8"])
def test_other_dtypes(tmp_path, dtype):
    rows = np.random.default_rng(0).integers(-120, 120, (300, 7)).astype(dtype)
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(7,), dtype=dtype, partitions=3) as writer:
        writer.write(rows, [f"w{i}" for i in range(300)])
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    with embstore.open(path) as store:
        vectors = KeyedVectors(store)
        scores = np.asarray(vectors.most_similar(5, topn=None))
        assert scores.dtype == (np.float64 if dtype == "float64" else np.float32)
        assert np.allclose(scores, wide @ wide[5], atol=1e-6)
        # The square of such a norm is more than a float16 or an int8 can hold.
        others = [f"w{i}" for i in range(7, 300)]
        assert np.allclose(vectors.similarities("w5", others), wide[7:] @ wide[5], atol=1e-6)
        assert np.allclose(vectors.get_vector("w5", norm=True), wide[5], atol=1e-6)
