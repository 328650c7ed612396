"""Files of the view for gensim: compressed ones, ones that grow, and stores beside them."""

from __future__ import annotations

import errno
import gzip
import threading
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.interop.gensim import beside
from embstore.interop.keyedvectors import KeyedVectors
from embstore.writing.disk import owner

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    gensim = pytest.importorskip("gensim")
    from gensim.models import KeyedVectors as GensimVectors

# gensim leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ROWS = {"the": [1.0, 2.0], "like": [3.0, 4.0], "day": [5.0, 6.0]}


@pytest.fixture
def view(tmp_path):
    with embstore.build(ROWS, tmp_path / "t.embstore", attributes={"count": [2, 9, 2]}) as store:
        yield KeyedVectors(store)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ""])
@pytest.mark.parametrize("binary", [True, False])
def test_files_are_compressed_by_their_names(view, tmp_path, suffix, binary):
    path, counts = tmp_path / f"v{suffix}", tmp_path / f"counts{suffix}"
    view.save_word2vec_format(path, counts, binary=binary)
    theirs = GensimVectors.load_word2vec_format(str(path), str(counts), binary=binary)
    ours = KeyedVectors.load_word2vec_format(path, counts, binary=binary)
    for found in (theirs, ours):
        assert list(found.index_to_key) == ["like", "the", "day"]
        assert found.get_vecattr("like", "count") == 9
        assert np.array_equal(found["day"], [5, 6])
    theirs.save_word2vec_format(str(path), str(counts), binary=binary)
    again = KeyedVectors.load_word2vec_format(path, counts, binary=binary)
    assert list(again.index_to_key) == ["like", "the", "day"]


def test_another_compression_is_refused(view, tmp_path):
    with pytest.raises(ValueError, match=r"expected \.gz, \.bz2, \.xz or no compression"):
        view.save_word2vec_format(tmp_path / "v.zst")
    assert not (tmp_path / "v.zst").exists()


def test_questions_may_be_compressed(view, tmp_path):
    with gzip.open(tmp_path / "q.gz", "wt") as file:
        file.write(": one\nthe like day the\n")
    score, sections = view.evaluate_word_analogies(tmp_path / "q.gz")
    assert sections[-1]["incorrect"] == [("THE", "LIKE", "DAY", "THE")]
    assert score == 0


@pytest.mark.parametrize("binary", [True, False])
def test_vectors_of_two_tables_in_one_file(view, tmp_path, binary):
    path = tmp_path / "both"
    view.save_word2vec_format(path, binary=binary, total_vec=6)
    view.save_word2vec_format(path, binary=binary, write_header=False, append=True, prefix="*")
    read = GensimVectors.load_word2vec_format(str(path), binary=binary)
    assert read.index_to_key == ["like", "the", "day", "*like", "*the", "*day"]
    assert np.array_equal(read["*day"], view["day"])


@pytest.mark.parametrize("dtype", ["float64", "int16"])
def test_binary_numbers_are_float32(tmp_path, dtype):
    table = np.arange(6).reshape(2, 3).astype(dtype)
    view = KeyedVectors(embstore.build(table, tmp_path / "t.embstore", words=["a", "b"]))
    view.save_word2vec_format(tmp_path / "v.bin", binary=True)
    read = GensimVectors.load_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    assert np.array_equal(read.vectors, table)


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "int8", "float32"])
def test_order_of_counts_of_any_dtype(tmp_path, dtype):
    counts = np.array([0, 5, 0, 9, 5], dtype)
    rows = np.ones((5, 1), np.float32)
    store = embstore.build(rows, tmp_path / "t", words=[*"abcde"], attributes={"count": counts})
    KeyedVectors(store).save_word2vec_format(tmp_path / "v.txt")
    assert [line[0] for line in (tmp_path / "v.txt").read_text().splitlines()[1:]] == [*"dbeac"]


def test_words_that_are_not_utf_8(tmp_path):
    file = tmp_path / "v.txt"
    file.write_bytes(b"2 1\nthe 1\ncaf\xe9 2\n")
    with pytest.raises(UnicodeDecodeError, match=r'v\.txt:3.*unicode_errors="replace"'):
        KeyedVectors.load_word2vec_format(file)
    found = KeyedVectors.load_word2vec_format(file, unicode_errors="ignore")
    assert list(found.index_to_key) == ["the", "caf"]
    (tmp_path / "counts").write_bytes(b"caf\xe9 2\n")
    with pytest.raises(UnicodeDecodeError):
        KeyedVectors.load_word2vec_format(file, tmp_path / "counts")


def test_encodings_that_utf_8_covers(tmp_path):
    file = tmp_path / "v.txt"
    file.write_bytes(b"\xef\xbb\xbf1 1\nthe 1\n")
    for encoding in ("utf-8-sig", "UTF8", "ascii"):
        found = KeyedVectors.load_word2vec_format(file, encoding=encoding)
        assert list(found.index_to_key) == ["the"]


@pytest.mark.parametrize(
    ("written", "given", "problem"),
    [
        ({"binary": True}, {}, "binary format, not text with a header; pass binary=True"),
        ({"binary": True}, {"no_header": True}, "not text without a header; pass binary=True"),
        ({}, {"binary": True}, "text with a header, not in word2vec's binary format; leave out"),
        ({}, {"no_header": True}, "text with a header, not text without .* out .* no_header"),
        ({"write_header": False}, {}, "text without a header, .*; pass no_header=True"),
        ({"write_header": False}, {"binary": True}, "without a header, .*; pass no_header=True"),
    ],
)
def test_a_file_of_another_kind_says_how_to_load_it(view, tmp_path, written, given, problem):
    path = tmp_path / "v"
    view.save_word2vec_format(path, **written)
    with pytest.raises(embstore.SourceError, match=problem):
        KeyedVectors.load_word2vec_format(path, **given)
    assert not path.with_name("v.embstore").exists()


def test_a_wrong_line_is_not_another_kind(view, tmp_path):
    with pytest.raises(embstore.SourceError, match="is not a file; KeyedVectors"):
        KeyedVectors.load_word2vec_format(view.store.path)
    path = tmp_path / "v"
    for header in (True, False):
        view.save_word2vec_format(path, write_header=header)
        path.write_text(path.read_text() + "word 1 x\n")
        with pytest.raises(embstore.SourceError, match=rf"^{path}:\d+: "):
            KeyedVectors.load_word2vec_format(path, no_header=not header)


def test_a_missing_file(tmp_path):
    for load in (KeyedVectors.load, KeyedVectors.load_word2vec_format):
        with pytest.raises(FileNotFoundError, match="does not exist; expected a"):
            load(tmp_path / "missing.bin")


def test_a_saved_model_with_lists_for_each_word(tmp_path):
    model = gensim.models.Word2Vec(
        [["a", "b", "a"], ["c", "b"]] * 9, vector_size=4, min_count=1, hs=1
    )
    assert "code" in model.wv.expandos
    model.save(str(tmp_path / "m.w2v"))
    found = KeyedVectors.load(tmp_path / "m.w2v")
    assert np.array_equal(found["a"], model.wv["a"])
    assert sorted(found.expandos) == ["count", "sample_int"]
    assert found.get_vecattr("a", "count") == model.wv.get_vecattr("a", "count") == 18


def test_a_wrong_line_of_counts_is_named(tmp_path):
    (tmp_path / "v.txt").write_text("1 1\nthe 1\n")
    (tmp_path / "counts").write_text("the 1\nlike many\n")
    with pytest.raises(embstore.SourceError, match=r"counts:2: expected a word and its count"):
        KeyedVectors.load_word2vec_format(tmp_path / "v.txt", tmp_path / "counts")


def test_of_those_who_come_at_once_one_builds(tmp_path, monkeypatch):
    file = tmp_path / "v.txt"
    file.write_text("2 1\nthe 1\nlike 2\n")
    begun, waited = threading.Event(), threading.Event()
    build: Any = vars(beside)["build"]
    builds: list[Any] = []

    def slow(*given: Any, **options: Any) -> Any:
        def progress(_: Any) -> None:
            begun.set()
            assert waited.wait(60)

        found = build(*given, **options, progress=progress)
        builds.append(given)
        return found

    def sleep(_: float) -> None:
        waited.set()
        first.join(60)

    monkeypatch.setattr(beside, "build", slow)
    monkeypatch.setattr(beside, "time", types.SimpleNamespace(sleep=sleep))
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.append(KeyedVectors.load_word2vec_format(file)))
    first.start()
    assert begun.wait(60)
    assert KeyedVectors.load_word2vec_format(file)["like"].tolist() == [2]
    assert found[0]["the"].tolist() == [1]
    assert len(builds) == 1


def test_a_directory_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "v.txt").write_text("1 1\nthe 1\n")

    def refuse(path: Path) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(owner, "lock", refuse)
    with pytest.raises(PermissionError, match=r"no store can be made beside .*v\.txt: make it"):
        KeyedVectors.load_word2vec_format(tmp_path / "v.txt")
