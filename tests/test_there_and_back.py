"""Stores exported to every format and built again: the same words and bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import DTYPES, as_dtype
from embstore.sinks import SINKS
from tests.helpers.round_trips import AWKWARD, ROWS, SPACED, assert_same, make_store

pytestmark = pytest.mark.usefixtures("small_blocks")
NAMES = {
    "glove": "t.txt",
    "word2vec": "t.vec",
    "word2vec-binary": "t.bin",
    "npy": "t.npy",
    "parquet": "t.parquet",
    "safetensors": "t.safetensors",
}
WITHOUT_WORDS = [name for name, sink in SINKS.items() if not sink.has_words]


@pytest.mark.parametrize("format", NAMES)
def test_awkward_words(tmp_path, format):
    words = list(AWKWARD)
    if format not in ("word2vec", "word2vec-binary"):
        words += SPACED
    if format == "parquet":
        words += ["a\nb", "\n", "\r"]
    store = make_store(tmp_path / "s", words)
    file = tmp_path / NAMES[format]
    beside: dict[str, Any] = {"words": tmp_path / "words.txt"} if format in WITHOUT_WORDS else {}
    embstore.export(store, file, format=format, **beside)
    assert_same(embstore.build(file, tmp_path / "again", **beside), store)


@pytest.mark.parametrize("format", ["word2vec", "word2vec-binary", "npy", "parquet", "safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int16"])
def test_dtypes(tmp_path, format, dtype):
    rows = np.clip(ROWS[3:20], -3, 3).astype(as_dtype(dtype))
    store = make_store(tmp_path / "s", AWKWARD[:17], rows)
    file = tmp_path / NAMES[format]
    # Formats without a dtype get float32, which holds the same numbers.
    unknown = (format, dtype) in (("npy", "bfloat16"), ("parquet", "bfloat16"))
    single: dict[str, Any] = {"dtype": "float32"} if unknown else {}
    beside: dict[str, Any] = {"words": tmp_path / "words.txt"} if format in WITHOUT_WORDS else {}
    if format == "word2vec-binary" and dtype in ("float64", "int16"):
        with pytest.raises(embstore.ExportError):
            embstore.export(store, file)
        return
    embstore.export(store, file, **single, **beside)
    assert_same(embstore.build(file, tmp_path / "again", dtype=dtype, **beside), store)


SHAPES: list[tuple[int, ...]] = [(5,), (), (1,), (2, 1, 3)]


@pytest.mark.parametrize("format", SINKS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_words", [True, False])
def test_every_shape_and_dtype(tmp_path, format, dtype, has_words):
    """An exported file gives the same table, or the export says why not and leaves nothing."""
    shapes = SHAPES if dtype in ("float32", "int64") else SHAPES[::3]
    for number, row_shape in enumerate(shapes):
        limit = 3 if "16" in dtype else 120
        rows = np.random.default_rng(number).integers(0, limit, (6, *row_shape))
        rows += not DTYPES[dtype].has_zero
        words = list("abcdef") if has_words else None
        store = make_store(tmp_path / f"s{number}", words, rows.astype(as_dtype(dtype)))
        file = tmp_path / f"{number}-{NAMES[format]}"
        beside: dict[str, Any] = {}
        if format in WITHOUT_WORDS and has_words:
            beside = {"words": tmp_path / f"{number}.txt"}
        is_table = format in ("npy", "parquet", "safetensors")
        is_extension = DTYPES[dtype].is_extension
        holds = not is_extension if is_table else has_words and len(row_shape) == 1
        if format == "word2vec-binary":
            holds = holds and (is_extension or dtype in ("float16", "float32"))
        holds = holds or format == "safetensors"
        if not holds:
            with pytest.raises(embstore.ExportError):
                embstore.export(store, file, format=format, **beside)
            assert not file.exists()
            continue
        embstore.export(store, file, format=format, **beside)
        options: dict[str, Any] = beside if is_table else {"dtype": dtype}
        again = embstore.build(file, tmp_path / f"again{number}", **options)
        assert again.dtype == store.dtype
        assert again.row_shape == row_shape
        assert again.has_words == has_words
        assert again.to_numpy().tobytes() == store.to_numpy().tobytes()
        if has_words:
            assert again.words(range(6)) == words


ODD_WORDS = {
    "tabs": [f"a\t{i}x" for i in range(6)],
    "commas": [f"a,{i}" for i in range(6)],
    "separators": ["|", ";", ",", "\t", ":", "="],
    "numbers": ["1", "2", "3.5", "-1", "nan", "inf"],
    "almost numbers": ["1e5", "+1", "1_0", "0x1f", "\u0661", "\u00bd"],
    "line ends": ["\r", "a\r", "\rb", "\u2028", "\x85", "\x0b"],
    "newlines": ["a\nb", "\n", "c", "d", "e", "f"],
    "controls": ["\0", "\x1f\x8b", "\x0c", "\x1c", "\x7f", "\x1b[2J"],
    "blanks": [" ", "  ", " a", "a ", "a  b", ""],
    "blanks that are not": ["\u00a0", "a\u00a0b", "\u3000", "\u200b", "\u2003", "f"],
    "ends in numbers": ["route 66", "a 1.5", "b -1", "c nan", "d 1e5", "e"],
    "a mark first": ["\ufeff", "b", "\ufeffc", "d", "e", "f"],
    "quotes": ['"', "'", '"a"', "''", 'a"b', "\\"],
    "comments": ["#", "# a", "//", "%", "--", ";"],
    "brackets": ["[", "]", "[a", "a]", "(", "}"],
    "colons": ["a:", ":", "::", "http://x", "e", "f"],
    "a header": ["6", "b", "c", "d", "e", "f"],
    "markup": ["<html>", "<!DOCTYPE html>", "<?xml", "</s>", "<unk>", "<s>"],
    "json": ["{", "}", "[1,2]", '{"a":', "null", "true"],
    "Parquet": ["PAR1", "b", "c", "d", "e", "f"],
    "Arrow": ["ARROW1", "b", "c", "d", "e", "f"],
    "archives": ["PK\x03\x04", "BZh91AY&SY", "7z\u00bc", "Rar!", "%PDF-1.4", "GGUF"],
    "a pointer": ["version", "oid", "size", "d", "e", "f"],
    "a long word": ["x" * 100_000, "b", "c", "d", "e", "f"],
    "the last code points": ["\uffff", "\U0010ffff", "\ue000", "\ud7ff", "e\u0301", "f"],
}


@pytest.mark.parametrize("format", SINKS)
@pytest.mark.parametrize("kind", ODD_WORDS)
def test_odd_words(tmp_path, format, kind):
    rows = np.random.default_rng(0).standard_normal((6, 1 + len(kind) % 4)).astype(np.float32)
    store = make_store(tmp_path / "s", ODD_WORDS[kind], rows)
    file = tmp_path / NAMES[format]
    beside: dict[str, Any] = {"words": tmp_path / "words.txt"} if format in WITHOUT_WORDS else {}
    try:
        embstore.export(store, file, format=format, **beside)
    except embstore.ExportError:
        assert format != "parquet"
        assert [path.name for path in tmp_path.iterdir()] == ["s"]
    else:
        assert_same(embstore.build(file, tmp_path / "again", **beside), store)


@pytest.mark.parametrize("format", SINKS)
def test_tables_without_rows(tmp_path, format):
    store = make_store(tmp_path / "s", None, np.zeros((0, 3), np.float32))
    file = tmp_path / NAMES[format]
    if format not in ("npy", "parquet", "safetensors"):
        with pytest.raises(embstore.ExportError):
            embstore.export(store, file, format=format)
        return
    embstore.export(store, file)
    again = embstore.build(file, tmp_path / "again")
    assert again.to_numpy().shape == (0, 3)
    assert again.dtype == np.float32


def test_gensim(tmp_path):
    pytest.importorskip("gensim")
    store = make_store(tmp_path / "s", AWKWARD + SPACED)
    assert_same(embstore.build(store.to_gensim(), tmp_path / "again"), store)


def test_limit_of_a_store(tmp_path):
    store = make_store(tmp_path / "s", AWKWARD)
    few = embstore.build(store, tmp_path / "few", limit=7)
    assert few.words(np.arange(7)) == AWKWARD[:7]
    assert few.to_numpy().tobytes() == ROWS[:7].tobytes()
