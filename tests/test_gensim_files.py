"""The files in gensim's wheel: embstore reads the same words and bits as gensim."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import SourceError
from tests.helpers.sources import assert_same, read

gensim = pytest.importorskip("gensim")
# gensim leaves a file open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

DATA = Path(gensim.__file__).parent / "test" / "test_data"
TEXT = ["lee_fasttext.vec", "crime-and-punishment.vec", "toy-model.vec", "high_precision.kv.txt"]
TEXT += ["word2vec_pre_kv_c"]
TEXT += ["EN.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt"]
TEXT += ["IT.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt"]
BINARY = ["euclidean_vectors.bin", "high_precision.kv.bin", "poincare_vectors.bin"]


def load(path: Path, **options: Any) -> Any:
    from gensim.models import KeyedVectors

    return KeyedVectors.load_word2vec_format(path, **options)


@pytest.mark.parametrize("name", TEXT)
def test_text(name):
    vectors = load(DATA / name)
    words, rows = read(DATA / name)
    assert words == vectors.index_to_key
    assert_same(rows, vectors.vectors)


def test_words_that_are_not_utf_8():
    path = DATA / "pang_lee_polarity_fasttext.vec"
    for errors in ("replace", "ignore"):
        vectors = load(path, unicode_errors=errors)
        words, rows = read(path, encoding_errors=errors)
        # gensim drops the rows of repeated words, as embstore's build does.
        assert words is not None
        firsts = sorted({word: row for row, word in reversed([*enumerate(words)])}.values())
        assert [words[row] for row in firsts] == vectors.index_to_key
        assert_same(rows[firsts], vectors.vectors)
    for function in (load, read):
        with pytest.raises(ValueError, match=r"UTF-8|utf-8"):
            function(path)


def test_glove():
    vectors = load(DATA / "test_glove.txt", no_header=True)
    words, rows = read(DATA / "test_glove.txt")
    assert words == vectors.index_to_key
    assert_same(rows, vectors.vectors)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    vectors = load(DATA / name, binary=True)
    words, rows = read(DATA / name)
    assert words == vectors.index_to_key
    assert_same(rows, vectors.vectors)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("binary", [False, True])
def test_files_saved_by_gensim(tmp_path, binary, suffix):
    vectors = load(DATA / "euclidean_vectors.bin", binary=True)
    path = tmp_path / f"saved{suffix}"
    vectors.save_word2vec_format(str(path), binary=binary)
    words, rows = read(path)
    assert words == vectors.index_to_key
    assert_same(rows, vectors.vectors)
    assert (path.read_bytes()[:2] == gzip.compress(b"")[:2]) == bool(suffix)


def test_keyed_vectors_and_models(tmp_path):
    from gensim.models import Word2Vec

    vectors = load(DATA / "lee_fasttext.vec")
    store = embstore.build(vectors, tmp_path / "vectors", limit=50)
    assert store.words(range(50)) == vectors.index_to_key[:50]
    np.testing.assert_array_equal(store[:], vectors.vectors[:50])
    model = Word2Vec([["a", "b", "a"]] * 9, vector_size=4, min_count=1)
    assert read(model)[0] == model.wv.index_to_key
    with pytest.raises(SourceError, match="has its own words"):
        read(vectors, words=["a"])


@pytest.mark.parametrize("name", ["lee_fasttext_new.bin", "crime-and-punishment.bin"])
@pytest.mark.parametrize("format", ["auto", "word2vec-binary", "glove"])
def test_fasttext_models_are_refused(name, format):
    with pytest.raises(SourceError, match=r"a fastText model; use the \.vec file"):
        read(DATA / name, format=format)


def test_pickles_are_refused():
    with pytest.raises(SourceError, match=r"a pickle, which could run any code.*pass the object"):
        read(DATA / "ensemblelda")


def test_documents_with_numbers_have_no_words(tmp_path):
    gensim = pytest.importorskip("gensim.models.keyedvectors")
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    for names, words in ((range(4), None), (["a", "b", "c", "d"], ["a", "b", "c", "d"])):
        vectors = gensim.KeyedVectors(3)
        vectors.add_vectors(list(names), rows)
        with embstore.build(vectors, tmp_path / "s", overwrite=True) as store:
            np.testing.assert_array_equal(store[:], rows)
            assert (store.words(range(4)) if store.has_words else None) == words
