"""Stores exported to every format and built again: the same words and bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import as_dtype
from tests.helpers.round_trips import AWKWARD, ROWS, SPACED, assert_same, make_store

pytestmark = pytest.mark.usefixtures("small_blocks")
NAMES = {
    "glove": "t.txt",
    "word2vec": "t.vec",
    "word2vec-binary": "t.bin",
    "npy": "t.npy",
    "parquet": "t.parquet",
}


@pytest.mark.parametrize("format", NAMES)
def test_awkward_words(tmp_path, format):
    words = list(AWKWARD)
    if format not in ("word2vec", "word2vec-binary"):
        words += SPACED
    if format == "parquet":
        words += ["a\nb", "\n", "\r"]
    store = make_store(tmp_path / "s", words)
    file = tmp_path / NAMES[format]
    beside: dict[str, Any] = {"words": tmp_path / "words.txt"} if format == "npy" else {}
    embstore.export(store, file, format=format, **beside)
    assert_same(embstore.build(file, tmp_path / "again", **beside), store)


@pytest.mark.parametrize("format", ["word2vec", "word2vec-binary", "npy", "parquet"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int16"])
def test_dtypes(tmp_path, format, dtype):
    rows = np.clip(ROWS[3:20], -3, 3).astype(as_dtype(dtype))
    store = make_store(tmp_path / "s", AWKWARD[:17], rows)
    file = tmp_path / NAMES[format]
    # Formats without a dtype get float32, which holds the same numbers.
    unknown = (format, dtype) in (("npy", "bfloat16"), ("parquet", "bfloat16"))
    single: dict[str, Any] = {"dtype": "float32"} if unknown else {}
    beside: dict[str, Any] = {"words": tmp_path / "words.txt"} if format == "npy" else {}
    if (format, dtype) == ("word2vec-binary", "float64"):
        with pytest.raises(embstore.ExportError):
            embstore.export(store, file)
        return
    embstore.export(store, file, **single, **beside)
    if dtype == "int16" and format == "word2vec-binary":
        return  # Read back as float32, which is not cast to integers.
    assert_same(embstore.build(file, tmp_path / "again", dtype=dtype, **beside), store)


@pytest.mark.parametrize("row_shape", [(5,), (2, 3)])
def test_tables_without_words(tmp_path, row_shape):
    rows = np.random.default_rng(0).standard_normal((50, *row_shape)).astype(np.float32)
    store = make_store(tmp_path / "s", None, rows)
    embstore.export(store, tmp_path / "t.npy")
    again = embstore.build(tmp_path / "t.npy", tmp_path / "again", partitions=4)
    assert again.to_numpy().tobytes() == rows.tobytes()
    assert not again.has_words
    if len(row_shape) == 1:
        embstore.export(store, tmp_path / "t.parquet")
        again = embstore.build(tmp_path / "t.parquet", tmp_path / "third")
        assert again.to_numpy().tobytes() == rows.tobytes()


def test_gensim(tmp_path):
    pytest.importorskip("gensim")
    store = make_store(tmp_path / "s", AWKWARD + SPACED)
    assert_same(embstore.build(store.to_gensim(), tmp_path / "again"), store)


def test_limit_of_a_store(tmp_path):
    store = make_store(tmp_path / "s", AWKWARD)
    few = embstore.build(store, tmp_path / "few", limit=7)
    assert few.words(np.arange(7)) == AWKWARD[:7]
    assert few.to_numpy().tobytes() == ROWS[:7].tobytes()
