"""`KeyedVectors` against gensim's own, on gensim's files."""

from __future__ import annotations

import json
import pickle
import warnings
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

DATA = Path(gensim.__file__).parent / "test" / "test_data"
# The file, whether it is binary, and whether it has a header.
FILES = [
    ("word2vec_pre_kv_c", False, True),
    ("euclidean_vectors.bin", True, True),
    ("test_glove.txt", False, False),
    ("lee_fasttext.vec", False, True),
    ("crime-and-punishment.vec", False, True),
    ("toy-model.vec", False, True),
]


@pytest.fixture(scope="module", params=FILES, ids=[name for name, _, _ in FILES])
def both(request, tmp_path_factory):
    """The same file in a store, and in gensim."""
    name, binary, has_header = request.param
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # gensim leaves a file open.
        theirs = GensimVectors.load_word2vec_format(
            str(DATA / name), binary=binary, no_header=not has_header
        )
    path = tmp_path_factory.mktemp("kv") / "t.embstore"
    if binary:
        rows, words = theirs.vectors, list(theirs.index_to_key)
        with embstore.StoreWriter(
            path, row_shape=rows.shape[1:], dtype="float32", partitions=3
        ) as writer:
            writer.write(rows, words)
        store = embstore.open(path)
    else:
        store = embstore.build(DATA / name, path, partitions=3)
    with store:
        yield KeyedVectors(store), theirs


def same(ours: Any, theirs: Any) -> None:
    """Compare neighbours, and scores to 1e-5; words of equal scores may be swapped."""
    assert len(ours) == len(theirs)
    our_words, our_scores = zip(*ours, strict=True)
    their_words, their_scores = zip(*theirs, strict=True)
    assert np.allclose(our_scores, their_scores, atol=1e-5)
    score_of = dict(theirs)
    for place, (our, their) in enumerate(zip(our_words, their_words, strict=True)):
        # At the end, a word of an equal score may have been left out.
        score = score_of.get(our, their_scores[-1])
        assert our == their or abs(score - their_scores[place]) < 1e-6


def some_words(theirs: Any, count: int, seed: int = 0) -> list[str]:
    places = np.random.default_rng(seed).choice(len(theirs), count, replace=False)
    return [theirs.index_to_key[place] for place in places.tolist()]


def test_words_and_vectors(both):
    ours, theirs = both
    assert len(ours) == len(theirs)
    assert ours.vector_size == theirs.vector_size
    assert list(ours.index_to_key) == theirs.index_to_key
    assert dict(ours.key_to_index) == theirs.key_to_index
    words = some_words(theirs, 5)
    assert np.array_equal(ours[words], theirs[words])
    assert np.array_equal(ours[[*words, 3]], theirs[[*words, 3]])
    for key in (words[0], 2, np.int64(2)):
        assert key in ours
        assert np.array_equal(ours[key], theirs[key])
        assert ours.get_index(key) == theirs.get_index(key)
        assert np.allclose(
            ours.get_vector(key, norm=True), theirs.get_vector(key, norm=True), atol=1e-6
        )
    theirs.fill_norms()
    assert np.allclose(ours.norms, theirs.norms)


@pytest.mark.parametrize("topn", [1, 10, 3000])
def test_most_similar(both, topn):
    ours, theirs = both
    a, b, c, d = some_words(theirs, 4)
    vector = theirs[d] + theirs[a]
    for positive, negative in [
        (a, None),
        ([a, b], [c]),
        ([a, (b, 0.3)], [(c, -2.0), d]),
        ([a, 5], None),
        (vector, b),
        ([vector, (theirs[b], 2.5)], None),
        (np.stack([theirs[a], theirs[b]]), None),
        (None, [a]),
    ]:
        same(
            ours.most_similar(positive, negative, topn=topn),
            theirs.most_similar(positive, negative, topn=topn),
        )
    same(ours.similar_by_word(a, topn), theirs.similar_by_word(a, topn))
    same(ours.similar_by_key(7, topn), theirs.similar_by_key(7, topn))
    same(ours.similar_by_vector(vector, topn), theirs.similar_by_vector(vector, topn))


def test_searching_a_part_of_the_words(both):
    ours, theirs = both
    word = theirs.index_to_key[3]
    count = len(theirs)
    for window in [
        {"restrict_vocab": 9},
        {"restrict_vocab": 10 * count},
        {"clip_start": 4},
        {"clip_start": 2, "clip_end": count // 2},
        {"clip_end": -3},
        {"clip_start": 5, "clip_end": 6},
        {"restrict_vocab": 5, "clip_start": 4},
    ]:
        same(ours.most_similar(word, **window), theirs.most_similar(word, **window))
        assert np.allclose(
            ours.most_similar(word, topn=None, **window),
            theirs.most_similar(word, topn=None, **window),
            atol=1e-5,
        )
    assert ours.most_similar(word, clip_start=6, clip_end=4) == []
    same(ours.similar_by_word(word, 3, 8), theirs.similar_by_word(word, 3, 8))


def test_no_keys_and_no_neighbours(both):
    ours, theirs = both
    for topn in (0, -1):
        assert ours.most_similar("absent", topn=topn) == []
        assert theirs.most_similar("absent", topn=topn) == []
        assert ours.most_similar_cosmul(["absent"], topn=topn) == []
    for call in (ours.most_similar, theirs.most_similar, ours.most_similar_cosmul):
        with pytest.raises(ValueError, match=r"no|is empty"):
            call()


def test_most_similar_cosmul(both):
    ours, theirs = both
    a, b, c = some_words(theirs, 3, seed=1)
    for positive, negative in [(a, None), ([a, b], [c]), ([a, theirs[b]], c)]:
        for topn in (4, 2000):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # gensim calls its own.
                expected = theirs.most_similar_cosmul(positive, negative, topn=topn)
            found = ours.most_similar_cosmul(positive, negative, topn=topn)
            relative = [(word, score / expected[0][1]) for word, score in expected]
            same([(word, score / expected[0][1]) for word, score in found], relative)
    assert ours.most_similar_cosmul([a, 5], topn=None, restrict_vocab=7).shape == (7,)


def test_similarities_of_pairs_and_lists(both):
    ours, theirs = both
    words = some_words(theirs, 8, seed=2)
    a, b, *others = words
    assert ours.similarity(a, b) == pytest.approx(theirs.similarity(a, b), abs=1e-5)
    assert type(ours.similarity(a, b)) is type(theirs.similarity(a, b))
    assert ours.distance(a, 3) == pytest.approx(theirs.distance(a, 3), abs=1e-5)
    assert ours.n_similarity(words[:3], [*others, "absent"]) == pytest.approx(
        theirs.n_similarity(words[:3], [*others, "absent"]), abs=1e-5
    )
    for key in (a, theirs[a]):
        assert np.allclose(ours.distances(key), theirs.distances(key), atol=1e-5)
        assert np.allclose(ours.distances(key, others), theirs.distances(key, others), atol=1e-5)
        assert np.allclose(ours.similarities(key), 1 - theirs.distances(key), atol=1e-5)
    assert ours.doesnt_match(words) == theirs.doesnt_match(words)
    for use_norm in (True, False):
        found, expected = (kv.rank_by_centrality(words, use_norm) for kv in both)
        assert np.allclose([s for s, _ in found], [s for s, _ in expected], atol=1e-5)
    assert ours.most_similar_to_given(a, others) == theirs.most_similar_to_given(a, others)
    close, _ = theirs.most_similar(a, topn=3)[2]
    assert ours.closer_than(a, close) == theirs.closer_than(a, close)
    assert ours.rank(a, close) == theirs.rank(a, close) == 3
    with pytest.raises(ZeroDivisionError):
        ours.n_similarity([], [a])


@pytest.mark.parametrize("as_words", [False, True])
def test_arrays_of_keys(both, as_words):
    ours, theirs = both
    keys = np.array(ours.index_to_key[:2] if as_words else [1, 0])
    np.testing.assert_array_equal(ours[keys], theirs[keys])
    np.testing.assert_allclose(ours.distances(0, keys), theirs.distances(0, [*keys]), atol=1e-6)


def test_other_types_of_keys_are_refused(both):
    ours, theirs = both
    for vectors in both:
        with pytest.raises(TypeError):
            vectors[None]
        with pytest.raises(TypeError):
            vectors.most_similar(b"\x05\x02")
    with pytest.raises(TypeError, match="not bytes"):
        ours[b"\x05\x02"]  # To gensim, these are the keys 5 and 2.
    assert theirs[b"\x05\x02"].shape == (2, theirs.vector_size)


def test_means(both):
    ours, theirs = both
    words = [*some_words(theirs, 3, seed=3), 4]
    keys = [*words, theirs["the"] if "the" in theirs else theirs[0]]
    every: list[dict[str, Any]] = [
        {},
        {"weights": [1, -2, 0.5, 0, 3]},
        {"weights": np.ones(5), "pre_normalize": False},
        {"post_normalize": True},
        {"ignore_missing": False},
    ]
    for settings in every:
        found, expected = (kv.get_mean_vector(keys, **settings) for kv in both)
        assert np.allclose(found, expected, atol=1e-5)
        assert found.dtype == np.float32
    found, expected = (kv.get_mean_vector([words[0], "absent"], [3.0, 1.0]) for kv in both)
    assert np.allclose(found, expected, atol=1e-5)
    assert not ours.get_mean_vector(["absent"]).any()
    assert not theirs.get_mean_vector(["absent"]).any()
    for kv in both:
        with pytest.raises(KeyError):
            kv.get_mean_vector([words[0], "absent"], ignore_missing=False)
        with pytest.raises(ValueError, match=r"no|keys is empty"):
            kv.get_mean_vector([])
        with pytest.raises(ValueError, match="weights"):
            kv.get_mean_vector(words, [1.0])


def test_missing_keys(both):
    for kv in both:
        assert "absent word" not in kv
        assert len(kv) not in kv
        assert -1 not in kv
        assert kv.get_index("absent word", default=-1) == -1
        for call, key in [
            (kv.__getitem__, "absent word"),
            (kv.__getitem__, len(kv)),
            (kv.__getitem__, -1),
            (kv.get_index, "absent word"),
            (kv.most_similar, ["absent word"]),
            (kv.distances, "absent word"),
            (kv.key_to_index.__getitem__, "absent word"),
        ]:
            with pytest.raises(KeyError):
                call(key)
        with pytest.raises(ValueError, match=r"empty|has none of the 1 words"):
            kv.doesnt_match(["absent word"])


def test_results_can_be_written_as_json(both):
    ours, _ = both
    json.dumps(ours.most_similar(0, topn=3))


def test_pickled_view_opens_its_store(both):
    ours, _ = both
    again = pickle.loads(pickle.dumps(ours))
    assert np.array_equal(again[0], ours[0])
    again.store.close()
