"""The rest of gensim's `KeyedVectors`: vectors as an array, evaluations, files, and refusals."""

from __future__ import annotations

import inspect
import math
import os
import pickle
import re
import shutil
import sys
import types
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

# gensim leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

DATA = Path(gensim.__file__).parent / "test" / "test_data"
FILE = DATA / "euclidean_vectors.bin"
TEXT = DATA / "word2vec_pre_kv_c"


@pytest.fixture(scope="module")
def theirs():
    return GensimVectors.load_word2vec_format(str(FILE), binary=True)


@pytest.fixture(scope="module")
def ours(tmp_path_factory, theirs):
    path = tmp_path_factory.mktemp("view") / "t.embstore"
    counts = np.arange(len(theirs), 0, -1)
    with embstore.build(theirs, path, partitions=3, attributes={"count": counts}) as store:
        yield KeyedVectors(store)


def test_vectors_are_indexed_as_an_array(ours, theirs):
    array, view = theirs.vectors, ours.vectors
    assert view.shape == array.shape
    assert view.dtype == array.dtype
    assert (view.ndim, view.size, view.nbytes, len(view)) == (
        2,
        array.size,
        array.nbytes,
        len(array),
    )
    mask = np.zeros(len(array), bool)
    mask[[3, 8]] = True
    for index in (
        *(0, -1, np.int64(5), [1, 1, -2], np.array([[0, -3], [4, 4]]), [], mask),
        *(slice(2, 9), slice(-3, None), slice(None, None, -7), slice(5, 2), ..., None),
        *((3, 4), (slice(0, 4), 2), ([1, -1], slice(0, 3)), (..., 0), (mask, 1), (-1, ...)),
    ):
        found = view[index]
        assert np.shape(found) == np.shape(array[index]), index
        assert np.array_equal(found, array[index]), index
    assert np.array_equal(np.asarray(view), array)
    assert np.asarray(view, np.float64).dtype == np.float64
    assert np.array_equal(np.stack(list(view)), array)
    assert "read when indexed" in repr(view)


@pytest.mark.parametrize("index", [10**6, -(10**6), [0, 10**6]])
def test_a_wrong_index_of_a_vector_is_an_index_error(ours, index):
    with pytest.raises(IndexError):
        ours.vectors[index]


@pytest.mark.parametrize("index", [1.0, "war", [0.5]])
def test_a_vector_is_not_indexed_by_others(ours, index):
    with pytest.raises(IndexError, match="an index must be integers"):
        ours.vectors[index]


def test_a_mask_of_another_length_is_refused(ours):
    with pytest.raises(IndexError, match=r"a mask has shape \(2,\), expected"):
        ours.vectors[np.array([True, False])]


@pytest.mark.parametrize(
    "use",
    [
        lambda vectors: vectors @ np.ones(vectors.shape[1], np.float32),
        lambda vectors: np.ones(len(vectors)) @ vectors,
        lambda vectors: vectors * 2.0,
        lambda vectors: np.float32(2) * vectors,
        lambda vectors: 2 / vectors,
        lambda vectors: -vectors,
        lambda vectors: vectors > 0,
        lambda vectors: vectors != 3,
        lambda vectors: vectors.__itruediv__(2.0),
        lambda vectors: np.dot(vectors, vectors[0]),
        lambda vectors: np.linalg.norm(vectors, axis=1),
        lambda vectors: vectors == vectors[:],
        np.sqrt,
        np.sum,
    ],
)
def test_arithmetic_does_not_read_the_whole_table(ours, use):
    with pytest.raises(TypeError, match=r"read all with np\.asarray\(vectors\)"):
        use(ours.vectors)


def test_normed_vectors(ours, theirs):
    found = ours.get_normed_vectors()
    assert np.allclose(np.asarray(found), theirs.get_normed_vectors(), atol=1e-6)
    assert np.allclose(found[[3, -1]], theirs.get_normed_vectors()[[3, -1]], atol=1e-6)
    ours.fill_norms()
    ours.fill_norms(force=True)
    ours.init_sims()
    assert np.allclose(ours.norms, np.linalg.norm(theirs.vectors, axis=1))


def test_index_to_key_equals_a_list(ours, theirs):
    words = theirs.index_to_key
    assert ours.index_to_key == words
    assert words == ours.index_to_key
    assert ours.index_to_key != words[:-1]
    assert ours.index_to_key != [*words[:-1], "another"]
    assert ours.index_to_key != tuple(words)
    assert ours.key_to_index == theirs.key_to_index


def test_attributes_of_keys(ours):
    count = len(ours)
    assert list(ours.expandos) == ["count"]
    assert ours.get_vecattr("war", "count") == count - ours.get_index("war")
    assert ours.get_vecattr(3, "count") == count - 3
    assert ours.expandos["count"][3] == count - 3
    with pytest.raises(KeyError, match="no attribute 'tag'"):
        ours.get_vecattr("war", "tag")
    with pytest.raises(KeyError):
        ours.get_vecattr("not there", "count")


def test_names_that_are_the_same_method(ours, theirs):
    assert np.array_equal(ours.word_vec("war"), theirs.get_vector("war"))
    assert ours.words_closer_than("war", "call") == theirs.closer_than("war", "call")
    assert ours.similar_by_word(word="war", topn=3) == ours.most_similar("war", topn=3)
    assert ours.get_index("not there", 7) == 7


def test_relative_cosine_similarity(ours, theirs):
    for topn in (1, 10):
        found = ours.relative_cosine_similarity("war", "conflict", topn)
        assert math.isclose(
            found, theirs.relative_cosine_similarity("war", "conflict", topn), rel_tol=1e-5
        )
    with pytest.raises(ValueError, match="topn must be 1 or more"):
        ours.relative_cosine_similarity("war", "conflict", 0)


def test_an_indexer_answers(ours, theirs):
    class Index:
        def most_similar(self, vector: Any, count: int) -> Any:
            asked.append((vector, count))
            return [("index", 1.0)]

    asked: list[Any] = []
    assert ours.most_similar("war", topn=4, indexer=Index()) == [("index", 1.0)]
    assert theirs.most_similar("war", topn=4, indexer=Index()) == [("index", 1.0)]
    assert np.allclose(asked[0][0], asked[1][0], atol=1e-6)
    assert asked[0][1] == asked[1][1] == 4
    assert len(ours.most_similar("war", topn=None, indexer=Index())) == len(ours)


DOCUMENTS = [
    (["war", "conflict"], ["terrorism", "call"]),
    (["war", "war", "call"], ["war", "israel", "call", "call"]),
    (["war", "unknown-word"], ["conflict"]),
    (["war"], ["war"]),
    (["war", "call"], ["war", "call"]),
    ([], ["war"]),
    (["unknown-word"], ["war"]),
]


@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize("norm", [True, False])
def test_word_movers_distance(ours, theirs, documents, norm):
    pytest.importorskip("ot")
    found, want = ours.wmdistance(*documents, norm=norm), theirs.wmdistance(*documents, norm=norm)
    assert found == want or math.isclose(found, want, rel_tol=1e-5, abs_tol=1e-6)


def test_a_document_is_a_list(ours):
    pytest.importorskip("ot")
    with pytest.raises(TypeError, match="expected a list of words"):
        ours.wmdistance("war", ["call"])


def analogies(theirs: Any, path: Path) -> Path:
    """Write analogies of words that both have, of unknown ones, and lines that are none."""
    words = theirs.index_to_key
    random = np.random.default_rng(0)
    lines = [": one"]
    for place in range(300):
        a, b, c = (words[at] for at in random.choice(len(words), 3, replace=False))
        nearest = theirs.most_similar([b, c], [a], topn=3)
        fourth = nearest[place % 3][0] if place % 4 else "unknown"
        lines.append(f"{a} {b} {c.title()} {fourth}")
        if place == 150:
            lines += ["two words", ": two: and more", ""]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("dummy", [True, False])
@pytest.mark.parametrize("restrict", [50, 300_000, None])
def test_word_analogies(ours, theirs, tmp_path, folds, dummy, restrict):
    path = analogies(theirs, tmp_path / "questions.txt")
    options: dict[str, Any] = {"restrict_vocab": restrict, "dummy4unknown": dummy}
    options["case_insensitive"] = folds
    score, sections = ours.evaluate_word_analogies(path, **options)
    want_score, want = theirs.evaluate_word_analogies(str(path), **options)
    assert [one["section"] for one in sections] == [one["section"] for one in want]
    for one, other in zip(sections, want, strict=True):
        assert one["correct"] == other["correct"]
        assert one["incorrect"] == other["incorrect"]
    assert score == pytest.approx(want_score)
    if restrict != 50 and folds:  # With few words, or in other letters, nearly all are unknown.
        assert sections[-1]["correct"]
        assert sections[-1]["incorrect"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a b c d\n", "line 1 stands before the first heading"),
        ("", "has no analogies"),
        (": one\nthree words only\n", "has no analogies"),
    ],
)
def test_a_file_without_analogies_is_refused(ours, tmp_path, text, problem):
    (tmp_path / "q.txt").write_text(text)
    with pytest.raises(ValueError, match=problem):
        ours.evaluate_word_analogies(tmp_path / "q.txt")


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("dummy", [True, False])
def test_word_pairs(ours, theirs, folds, dummy):
    pytest.importorskip("scipy")
    path = DATA / "wordsim353.tsv"
    options = {"case_insensitive": folds, "dummy4unknown": dummy}
    found = ours.evaluate_word_pairs(path, **options)
    want = theirs.evaluate_word_pairs(str(path), **options)
    assert np.allclose(found[0], want[0], atol=1e-6)
    assert np.allclose(found[1], want[1], atol=1e-6)
    assert found[2] == pytest.approx(want[2])


def test_pairs_of_unknown_words_are_refused(ours, tmp_path):
    pytest.importorskip("scipy")
    (tmp_path / "p.tsv").write_text("# a comment\nxx\tyy\t3\nnot a pair\n")
    with pytest.raises(ValueError, match="no pairs of known words"):
        ours.evaluate_word_pairs(tmp_path / "p.tsv")


@pytest.mark.parametrize("copies", [True, False])
def test_vectors_for_some_keys(ours, theirs, copies):
    keys = ["war", "not there", "call", "war", "israel"]
    found = ours.vectors_for_all(keys, copy_vecattrs=copies)
    want = theirs.vectors_for_all(keys)
    assert found.index_to_key == want.index_to_key
    assert np.array_equal(np.asarray(found.vectors), want.vectors)
    same = found.get_vecattr("call", "count") == ours.get_vecattr("call", "count")
    assert same is np.bool_(copies)
    place = Path(found.store.location)
    assert place.exists()
    del found
    assert not place.exists()
    assert len(ours.vectors_for_all(["not there"])) == 0


def test_files_of_word2vec_are_built_once(tmp_path, monkeypatch):
    from embstore.interop.gensim import beside

    file = tmp_path / "vectors.bin"
    shutil.copy(FILE, file)
    builds: list[Any] = []
    build: Any = vars(beside)["build"]

    def counted(*given: Any, **options: Any) -> Any:
        builds.append(given)
        return build(*given, **options)

    monkeypatch.setattr(beside, "build", counted)
    theirs = GensimVectors.load_word2vec_format(str(file), binary=True)
    first = KeyedVectors.load_word2vec_format(file, binary=True)
    assert first.store.location == f"{file}.embstore"
    assert first.index_to_key == theirs.index_to_key
    assert np.array_equal(np.asarray(first.vectors), theirs.vectors)
    again = KeyedVectors.load_word2vec_format(str(file), binary=True)
    assert len(builds) == 1
    assert len(again) == len(first)
    few = KeyedVectors.load_word2vec_format(file, binary=True, limit=5)
    assert (len(few), len(builds)) == (5, 2)
    assert len(KeyedVectors.load_word2vec_format(file, binary=True)) == len(theirs)
    half = KeyedVectors.load_word2vec_format(file, binary=True, datatype=np.float16)
    assert half.vectors.dtype == np.float16
    assert len(builds) == 4
    shutil.copy(DATA / "high_precision.kv.bin", file)
    other = KeyedVectors.load_word2vec_format(file, binary=True, datatype=np.float16)
    assert len(other) != len(theirs)
    assert KeyedVectors.load(f"{file}.embstore").index_to_key == other.index_to_key


def test_an_older_file_of_another_size_is_built_again(tmp_path):
    file, older = tmp_path / "v.txt", tmp_path / "older.txt"
    older.write_text("1 2\nthe 10 20\n")
    file.write_text("1 2\nthe 1 2\n")
    assert KeyedVectors.load_word2vec_format(file)["the"].tolist() == [1, 2]
    os.utime(older, ns=(0, 0))
    older.replace(file)
    assert KeyedVectors.load_word2vec_format(file)["the"].tolist() == [10, 20]


def test_words_and_ids_that_are_equally_central(ours, theirs):
    # Two keys are equally similar to their mean, but for rounding.
    words = [str(word) for word in theirs.index_to_key[:40]]
    for first, second in zip(words, range(40, 80), strict=True):
        ranked = ours.rank_by_centrality([first, second])
        assert {key for _, key in ranked} == {first, second}
        assert ours.doesnt_match([second, first]) in (first, second)
    with pytest.raises(ValueError, match="keys_list is empty"):
        ours.most_similar_to_given(words[0], [])


def test_text_with_counts(tmp_path):
    file, counts = tmp_path / "v.txt", tmp_path / "counts.txt"
    file.write_text("3 2\nthe 1 2\nlike 3 4\nday 5 6\n")
    counts.write_text("like 7\nthe 9\n")
    for _ in range(2):
        found = KeyedVectors.load_word2vec_format(file, counts)
        assert [found.get_vecattr(word, "count") for word in ("the", "like", "day")] == [9, 7, 0]
    made_up = KeyedVectors.load_word2vec_format(file)
    theirs = GensimVectors.load_word2vec_format(str(file))
    assert list(made_up.expandos) == list(theirs.expandos) == ["count"]
    for index in (0, [2, 1], slice(1, None), np.array([0, 0])):
        assert np.array_equal(made_up.expandos["count"][index], theirs.expandos["count"][index])
    assert made_up.get_vecattr("like", "count") == theirs.get_vecattr("like", "count")
    other = tmp_path / "other.txt"
    other.write_text("day 1\n")
    os.utime(other, (0, 0))
    found = KeyedVectors.load_word2vec_format(file, other, encoding="UTF_8")
    assert [found.get_vecattr(word, "count") for word in ("the", "like", "day")] == [0, 0, 1]
    glove = tmp_path / "glove.txt"
    glove.write_text("the 1 2\nlike 3 4\n")
    assert len(KeyedVectors.load_word2vec_format(glove, no_header=True)) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"encoding": "latin1"}, "encoding must be utf8"),
        ({"binary": True, "no_header": True}, "a binary file has a header"),
        ({"limit": -1}, "limit must be 1 or more"),
        ({"limit": 0}, "limit must be 1 or more"),
        ({"unicode_errors": "other"}, 'unicode_errors must be "strict"'),
    ],
)
def test_wrong_options_of_a_file(tmp_path, options, problem):
    (tmp_path / "v.txt").write_text("1 2\nthe 1 2\n")
    with pytest.raises(ValueError, match=problem):
        KeyedVectors.load_word2vec_format(tmp_path / "v.txt", **options)
    assert not (tmp_path / "v.txt.embstore").exists()


def test_what_gensim_saved_is_built_once(tmp_path, theirs):
    path = tmp_path / "saved.kv"
    theirs.save(str(path))
    for _ in range(2):
        found = KeyedVectors.load(path, mmap="r")
        assert found.index_to_key == theirs.index_to_key
        assert np.array_equal(np.asarray(found.vectors), theirs.vectors)
        for word in ("war", "call"):
            assert found.get_vecattr(word, "count") == theirs.get_vecattr(word, "count")
    with pytest.raises(FileNotFoundError, match="expected a store or a saved file"):
        KeyedVectors.load(tmp_path / "not there.kv")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("prefix", ["", "*dt_"])
def test_word2vec_files_are_as_gensim_reads_them(ours, tmp_path, binary, header, prefix):
    path, counts = tmp_path / "out", tmp_path / "counts"
    if binary and not header:
        with pytest.raises(ValueError, match="without a header cannot be read"):
            ours.save_word2vec_format(path, binary=True, write_header=False)
        return
    ours.save_word2vec_format(path, counts, binary=binary, write_header=header, prefix=prefix)
    read = GensimVectors.load_word2vec_format(
        str(path), str(counts), binary=binary, no_header=not header
    )
    assert read.index_to_key == [prefix + word for word in ours.index_to_key]
    assert np.array_equal(read.vectors, np.asarray(ours.vectors))
    assert read.get_vecattr(prefix + "war", "count") == ours.get_vecattr("war", "count")


def test_word2vec_files_in_the_order_of_counts(tmp_path):
    rows = {"the": [1.0, 2.0], "like": [3.0, 4.0], "day": [5.0, 6.0]}
    store = embstore.build(rows, tmp_path / "t.embstore", attributes={"count": [2, 9, 2]})
    view = KeyedVectors(store)
    view.save_word2vec_format(tmp_path / "sorted.vec")
    assert (tmp_path / "sorted.vec").read_text() == "3 2\nlike 3 4\nthe 1 2\nday 5 6\n"
    view.save_word2vec_format(tmp_path / "sorted.vec", append=True, total_vec=6)
    assert (tmp_path / "sorted.vec").read_text().count("like 3 4") == 2
    assert "\n6 2\n" in (tmp_path / "sorted.vec").read_text()
    with pytest.raises(ValueError, match="no attribute 'other' to write"):
        view.save_word2vec_format(tmp_path / "x.vec", tmp_path / "c", sort_attr="other")
    assert not (tmp_path / "x.vec").exists()


def test_a_refused_word_leaves_files_as_they_were(tmp_path):
    view = KeyedVectors(embstore.build({"a b": [1.0, 2.0]}, tmp_path / "t.embstore"))
    (tmp_path / "v.vec").write_text("1 2\nx 1 2\n")
    for append in (True, False):
        with pytest.raises(embstore.ExportError, match="a space"):
            view.save_word2vec_format(tmp_path / "v.vec", tmp_path / "counts", append=append)
    assert (tmp_path / "v.vec").read_text() == "1 2\nx 1 2\n"
    assert not (tmp_path / "counts").exists()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_vector", ("x", [1.0])),
        ("add_vectors", (["x"], [[1.0]])),
        ("__setitem__", ("x", [1.0])),
        ("__setattr__", ("vectors", [[1.0]])),
        ("set_vecattr", ("war", "count", 5)),
        ("allocate_vecattrs", ()),
        ("resize_vectors", ()),
        ("unit_normalize_all", ()),
        ("sort_by_descending_frequency", ()),
        ("intersect_word2vec_format", ("x.vec",)),
        ("init_sims", (True,)),
        ("save", ("x.kv",)),
    ],
)
def test_names_that_write_say_what_to_do(ours, name, arguments):
    remedy = r"; (give|build|copy|use (?!build|attributes)).*(embstore\.|get_normed)"
    with pytest.raises(TypeError, match=remedy):
        getattr(ours, name)(*arguments)


@pytest.mark.parametrize("name", ["vectors_norm", "index2word", "index2entity", "vocab"])
def test_names_that_gensim_dropped(ours, theirs, name):
    assert not hasattr(ours, name)
    assert not hasattr(theirs, name)
    with pytest.raises(AttributeError, match="gensim 4 has no"):
        getattr(ours, name)


def test_every_public_name_of_gensim_is_in_the_table(ours, theirs):
    text = (Path(__file__).parents[1] / "docs" / "gensim.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)`", text, re.M))
    names = {name for name in [*dir(GensimVectors), *vars(theirs)] if not name.startswith("_")}
    assert names <= listed
    missing = {
        name
        for name in names - {"vectors_norm", "index2word", "index2entity", "vocab"}
        if not hasattr(ours, name)
    }
    for name in missing:
        assert re.search(rf"^\| `{name}` \| absent", text, re.M), name
    # The parameters of what both have have gensim's names and places.
    for name in names - missing:
        method = inspect.getattr_static(GensimVectors, name, None)
        own = inspect.getattr_static(KeyedVectors, name, None)
        if not inspect.isfunction(method) or not inspect.isfunction(own):
            continue
        wanted = list(inspect.signature(method).parameters)
        got = list(inspect.signature(own).parameters)
        assert got[: len(wanted)] == wanted or "_" in got or wanted[1:] == ["args", "kwargs"], name


def test_the_view_is_gensims_to_gensim(ours):
    assert isinstance(ours, KeyedVectors)
    assert isinstance(ours, GensimVectors)
    again = pickle.loads(pickle.dumps(ours))
    assert type(again) is KeyedVectors


def test_similarities_of_documents(ours, theirs):
    pytest.importorskip("ot")
    from gensim.corpora import Dictionary
    from gensim.similarities import (
        SoftCosineSimilarity,
        SparseTermSimilarityMatrix,
        WmdSimilarity,
        WordEmbeddingSimilarityIndex,
    )

    texts = [["war", "conflict"], ["call", "israel", "war"], ["administration", "terrorism"]]
    query = ["conflict", "israel"]
    dictionary = Dictionary(texts)
    bags = [dictionary.doc2bow(text) for text in texts]
    found = []
    for vectors in (ours, theirs):
        wmd = WmdSimilarity(texts, vectors)[query]
        terms = WordEmbeddingSimilarityIndex(vectors)
        matrix = SparseTermSimilarityMatrix(terms, dictionary)
        soft = SoftCosineSimilarity(bags, matrix)[dictionary.doc2bow(query)]
        found.append((wmd, soft))
    for one, other in zip(*found, strict=True):
        assert np.allclose(one, other, atol=1e-5)


class AnnoyIndex:
    """The methods of annoy's index that gensim's indexer calls, exact instead of approximate."""

    def __init__(self, size: int, metric: str) -> None:
        assert metric == "angular"
        self.items: dict[int, Any] = {}

    def add_item(self, place: int, vector: Any) -> None:
        self.items[place] = np.array(list(vector))

    def build(self, trees: int) -> None:
        self.rows = np.stack([self.items[place] for place in range(len(self.items))])

    def get_nns_by_vector(self, vector: Any, count: int, include_distances: bool) -> Any:
        assert include_distances
        distances = np.linalg.norm(self.rows - vector, axis=1)
        nearest = np.argsort(distances)[:count]
        return nearest.tolist(), distances[nearest].tolist()


def test_an_index_of_annoy(ours, theirs, monkeypatch):
    from gensim.similarities.annoy import AnnoyIndexer

    monkeypatch.setitem(sys.modules, "annoy", types.SimpleNamespace(AnnoyIndex=AnnoyIndex))
    found = [
        vectors.most_similar("war", topn=5, indexer=AnnoyIndexer(vectors, 20))
        for vectors in (ours, theirs)
    ]
    assert [word for word, _ in found[0]] == [word for word, _ in found[1]]
    assert found[0][0][0] == "war"
    assert np.allclose([score for _, score in found[0]], [score for _, score in found[1]])
