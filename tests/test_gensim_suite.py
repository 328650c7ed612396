"""gensim's own tests of `KeyedVectors`, with embstore's class in place of gensim's.

They are those of the installed package, as they are. `docs/gensim.md` lists the ones that do not
pass, each with its reason: no other may fail, and none of them may pass.
"""

from __future__ import annotations

import importlib
import re
import shutil
import tempfile
import types
import unittest
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
    suite = importlib.import_module("gensim.test.test_keyedvectors")
    DATA = Path(suite.datapath("."))

# gensim's tests leave files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def listed() -> dict[str, str]:
    """Return the tests that the docs name, each with its reason."""
    text = (Path(__file__).parents[1] / "docs" / "gensim.md").read_text()
    return dict(re.findall(r"^\| `(test_\w+)` \| (.+) \|$", text, re.M))


class ReadWhole(KeyedVectors):
    """A view whose vectors are read into RAM."""

    vectors: Any = property(lambda self: np.asarray(KeyedVectors.vectors.__get__(self)))


class Empty:
    """What gensim's constructor makes: no vectors, until all are added at once."""

    def __init__(self, view: type[KeyedVectors], vector_size: int) -> None:
        self._view, self.vector_size = view, vector_size
        self._filled: KeyedVectors | None = None

    def add_vectors(self, keys: list[str], vectors: list[Any]) -> None:
        """Build a store of them."""
        if self._filled is not None:
            self._filled.add_vectors(keys, vectors)  # Raises.
        path = f"{tempfile.mkdtemp()}/added.embstore"
        rows = np.asarray(vectors, np.float32)
        self._filled = self._view(embstore.build(rows, path, words=keys))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._filled, name)


@pytest.fixture
def datapath(tmp_path):
    """Return a function that copies a file of gensim's, beside which a store can be built."""

    def copied(name: str) -> str:
        if (DATA / name).is_file() and not (tmp_path / name).exists():
            shutil.copy(DATA / name, tmp_path)
        return str(tmp_path / name)

    return copied


@pytest.fixture
def run(tmp_path, datapath, monkeypatch):
    """Return a function that runs gensim's tests with a class, and returns which did not pass."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run_with(view: type[KeyedVectors]) -> set[str]:
        def load(cls: Any, fname: str, binary_chunk_size: int, **options: Any) -> Any:
            return cls.load_word2vec_format(fname, **options)

        class Stand:
            load = view.load
            load_word2vec_format = view.load_word2vec_format

            def __new__(cls, vector_size: int) -> Any:
                return Empty(view, vector_size)

        models = types.SimpleNamespace(KeyedVectors=Stand)
        models.keyedvectors = types.SimpleNamespace(KeyedVectors=Stand, _load_word2vec_format=load)
        name = types.SimpleNamespace(models=models, test=gensim.test, utils=gensim.utils)
        for attribute, value in (("KeyedVectors", Stand), ("datapath", datapath), ("gensim", name)):
            monkeypatch.setattr(suite, attribute, value)
        return failed(unittest.defaultTestLoader.loadTestsFromModule(suite), at_least=33)

    return run_with


def failed(tests: unittest.TestSuite, *, at_least: int) -> set[str]:
    """Run tests, of which a number must not be skipped, and return which did not pass."""
    result = unittest.TestResult()
    tests.run(result)
    assert result.testsRun - len(result.skipped) >= at_least
    return {test.id().rpartition(".")[2] for test, _ in (*result.errors, *result.failures)}


def test_only_listed_tests_fail(run):
    assert run(KeyedVectors) == set(listed())


def test_those_that_compare_all_vectors_pass_with_arrays(run):
    compared = {name for name, reason in listed().items() if "np.asarray" in reason}
    assert compared
    assert run(ReadWhole) == set(listed()) - compared


def test_similarities_and_translations_over_a_view(datapath, tmp_path, monkeypatch):
    """The tests of what takes vectors (word mover's distance, terms, translations) do as well."""
    pytest.importorskip("ot")
    from gensim.models import Word2Vec

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    similarities = importlib.import_module("gensim.test.test_similarities")
    translations = importlib.import_module("gensim.test.test_translation_matrix")
    # It inherits this from an abstract class, so gensim skips it by mistake.
    monkeypatch.setattr(similarities.TestWmdSimilarity, "__unittest_skip__", False, raising=False)
    cases = (
        similarities.TestWmdSimilarity,
        similarities.TestWordEmbeddingSimilarityIndex,
        translations.TestTranslationMatrix,
    )

    def trained(*given: Any, **options: Any) -> Any:
        vectors = Word2Vec(*given, **options).wv
        path = f"{tempfile.mkdtemp()}/trained.embstore"
        return types.SimpleNamespace(wv=KeyedVectors(embstore.build(vectors, path)))

    def failed_here() -> set[str]:
        load = unittest.defaultTestLoader.loadTestsFromTestCase
        return failed(unittest.TestSuite(map(load, cases)), at_least=20)

    theirs = failed_here()
    monkeypatch.setattr(similarities, "Word2Vec", trained)
    for module in (similarities, translations):
        monkeypatch.setattr(module, "KeyedVectors", KeyedVectors)
        monkeypatch.setattr(module, "datapath", datapath)
    assert failed_here() == theirs
    assert len(theirs) < 4
