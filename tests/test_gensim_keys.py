"""What `KeyedVectors` takes for keys and indices, and what it says of other things."""

from __future__ import annotations

import pickle
import shutil
import warnings
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.interop.keyedvectors import KeyedVectors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    gensim = pytest.importorskip("gensim")
    from gensim.models import KeyedVectors as GensimVectors

# gensim leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

FILE = Path(gensim.__file__).parent / "test" / "test_data" / "euclidean_vectors.bin"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    path = shutil.copy(FILE, tmp_path_factory.mktemp("keys"))
    ours = KeyedVectors.load_word2vec_format(path, binary=True)
    with ours.store:
        yield ours, GensimVectors.load_word2vec_format(str(path), binary=True)


@pytest.mark.parametrize(
    "key", [None, 1.5, float("nan"), np.float32(1), ("war",), b"war", -1, 9**9]
)
def test_other_things_are_missing_keys(both, key):
    """Code that skips missing words by KeyError meets nan where a word was missing."""
    for vectors in both:
        assert key not in vectors
        assert vectors.get_index(key, default=-1) == -1
        for call, given in (
            (vectors.get_index, key),
            (vectors.get_vector, key),
            (vectors.__getitem__, ["war", key]),
        ):
            with pytest.raises(KeyError):
                call(given)
        assert np.allclose(vectors.get_mean_vector(["war", key]), both[1].get_mean_vector(["war"]))
        assert vectors.doesnt_match(["war", key]) == "war"
        with pytest.raises(KeyError):
            vectors.get_mean_vector(["war", key], ignore_missing=False)


@pytest.mark.parametrize("key", [["war"], np.ones(10), {"war": 1}, True, np.False_])
def test_what_is_no_key(both, key):
    for call in (both[0].get_index, both[0].get_vector, lambda key: both[0].similarity("war", key)):
        with pytest.raises(TypeError, match="a key must be a str or an int, not"):
            call(key)


@pytest.mark.parametrize(
    "call",
    [
        lambda vectors: vectors.doesnt_match("war call"),
        lambda vectors: vectors.n_similarity("war", ["call"]),
        lambda vectors: vectors.distances("war", "call"),
        lambda vectors: vectors.most_similar_to_given("war", "call"),
        lambda vectors: vectors.vectors_for_all("war"),
        lambda vectors: vectors.get_mean_vector("war"),
    ],
)
def test_a_word_is_no_list_of_letters(both, call):
    with pytest.raises(TypeError, match=r"expected a list of words, not '(war|call)"):
        call(both[0])


@pytest.mark.parametrize("item", [("war",), ("war", 1, 2), ("war", "x"), 1.5, [0.1] * 10])
def test_what_is_no_key_with_a_weight(both, item):
    with pytest.raises(TypeError, match=r"expected a key, a vector or \(key, weight\), not"):
        both[0].most_similar([item])


def test_a_missing_word_says_what_this_class_has(tmp_path):
    words = {"like": [1.0, 2.0], "unk": [3.0, 4.0]}
    ways: list[tuple[str | None, Any]] = [(None, "zeros"), ("unk", "unk")]
    for unk, missing in ways:
        view = KeyedVectors(embstore.build(words, tmp_path / f"{missing}.embstore", unk=unk))
        gives = rf'get_vector\(key, missing="{missing}"\) gives'
        remedy = rf"the word 'lik' is not in the store; {gives} .*did you mean 'like'"
        for ask in (view.__getitem__, view.get_vector, view.word_vec):
            with pytest.raises(embstore.MissingWordError, match=remedy) as caught:
                ask("lik")
            assert caught.value.words == ("lik",)
        with pytest.raises(embstore.MissingWordError, match=r"; get\(word\) gives None; did you"):
            view.key_to_index["lik"]
        assert view.get_vector("lik", missing=missing).tolist() == ([0, 0], [3, 4])[unk == "unk"]
    with pytest.raises(embstore.MissingWordError, match=r'no unk word; give missing="zeros"'):
        KeyedVectors(embstore.open(tmp_path / "zeros.embstore")).get_vector("lik", missing="unk")


def test_a_vector_may_be_a_word(both):
    ours, theirs = both
    for key in ("war", 3):
        found, want = ours.similar_by_vector(key), theirs.similar_by_vector(key)
        assert [word for word, _ in found] == [word for word, _ in want]


def test_other_words_may_be_none(both):
    ours, theirs = both
    assert np.allclose(ours.distances("war", None), theirs.distances("war", None), atol=1e-5)


def test_lists_for_cosine_similarities(both):
    one, others = [3.0, 4.0], [[4.0, 3.0], [0.0, 2.0]]
    assert np.allclose(both[0].cosine_similarities(one, others), [0.96, 0.8])


@pytest.mark.parametrize("topn", [0, -1, None])
def test_relative_similarity_needs_a_count(both, topn):
    with pytest.raises((ValueError, TypeError), match="topn must be"):
        both[0].relative_cosine_similarity("war", "call", topn)


INDICES = [0, -1, np.int64(4), [2, -3], [[0], [-1]], slice(-3, None), slice(None, None, -900)]
INDICES += [..., None, (1,), (..., 0), (None, 1), (), np.arange(2747) % 1000 == 5]


@pytest.mark.parametrize("index", INDICES)
def test_attributes_are_indexed_as_arrays(both, index):
    ours, theirs = (vectors.expandos["count"] for vectors in both)
    assert np.array_equal(ours[index], theirs[index])
    assert np.shape(ours[index]) == np.shape(theirs[index])


@pytest.mark.parametrize("index", [2747, -2748, [0, 2747], "war", 1.0, [0.5], (1, 2)])
def test_a_wrong_index_of_an_attribute(both, index):
    for vectors in both:
        with pytest.raises(IndexError):
            vectors.expandos["count"][index]


def test_arithmetic_with_attributes(both):
    ours, theirs = (vectors.expandos["count"] for vectors in both)
    for use in (np.log, np.sum, max, list, np.argsort, lambda counts: counts.mean(), len):
        use_any: Any = use
        assert np.array_equal(use_any(ours), use_any(theirs))
    assert np.array_equal((ours / 2 + ours)[ours > 2000], (theirs / 2 + theirs)[theirs > 2000])
    again = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(again, theirs)
    assert not hasattr(ours, "other")


def test_words_and_ids_as_a_list_and_a_dict(both):
    ours, theirs = both
    for use in (
        lambda words: add(["[PAD]"], words),
        lambda words: add(words, ["[PAD]"]),
        lambda words: add(words, words),
        lambda words: words.copy(),
        lambda words: words[np.array(3)],
    ):
        found, want = use(ours.index_to_key), use(theirs.index_to_key)
        assert type(found) is type(want)
        assert found == want
    for use in (
        lambda ids: ids.copy(),
        lambda ids: ids | {"[PAD]": -1},
        lambda ids: {"[PAD]": -1} | ids,
    ):
        found, want = use(ours.key_to_index), use(theirs.key_to_index)
        assert type(found) is dict
        assert found == want
    for pair in ((ours.index_to_key, ("a",)), (("a",), ours.index_to_key)):
        with pytest.raises(TypeError):
            add(*pair)


def test_what_vectors_do_not_have_says_what_to_do(both):
    view = both[0].vectors
    assert (np.shape(view), np.ndim(view), np.size(view)) == (view.shape, 2, view.size)
    for name in ("T", "mean", "astype", "sum"):
        with pytest.raises(AttributeError, match=rf"no {name} here: .*np.asarray\(vectors\)"):
            getattr(view, name)
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        getattr(view, "other")  # noqa: B009
    assert np.array_equal(pickle.loads(pickle.dumps(view))[3], view[3])
