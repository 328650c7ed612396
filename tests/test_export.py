"""Export of stores to files: the words and bits in them, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyarrow import parquet

import embstore
from embstore import row_blocks
from embstore.dtypes import as_dtype
from embstore.sinks import SINKS, ExportFormat, TableFacts
from embstore.sinks.read_back import Head
from embstore.sinks.text import write_glove, write_word2vec
from embstore.vocabulary.words import pack
from tests.helpers.round_trips import AWKWARD, ROWS, SPACED, assert_same, make_store
from tests.helpers.text_files import assert_same_bits, read


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("format", "words"), [("glove", AWKWARD + SPACED), ("word2vec", AWKWARD)])
def test_text_round_trip(tmp_path, format, words):
    store = make_store(tmp_path / "s", words)
    report = embstore.export(store, tmp_path / "t.txt", format=format)
    assert report.byte_count == (tmp_path / "t.txt").stat().st_size
    assert (report.rows, report.largest_cast_error) == (len(words), 0.0)
    assert_same(embstore.build(tmp_path / "t.txt", tmp_path / "again"), store)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("binary", [False, True])
def test_gensim_reads_word2vec(tmp_path, binary):
    keyed = pytest.importorskip("gensim.models").KeyedVectors
    store = make_store(tmp_path / "s", AWKWARD)
    file = tmp_path / ("t.bin" if binary else "t.vec")
    embstore.export(tmp_path / "s", file)
    read = keyed.load_word2vec_format(str(file), binary=binary)
    assert read.index_to_key == AWKWARD
    assert read.vectors.tobytes() == store.to_numpy().tobytes()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint16"])
@pytest.mark.parametrize("row_shape", [(5,), (2, 3), ()])
def test_npy_and_parquet(tmp_path, dtype, row_shape):
    words = [*AWKWARD, *SPACED]
    rows = np.random.default_rng(0).integers(0, 100, (len(words), *row_shape)).astype(dtype)
    store = make_store(tmp_path / "s", words, rows)
    embstore.export(store, tmp_path / "t.npy", words=tmp_path / "words.txt")
    read = np.load(tmp_path / "t.npy")
    assert (read.dtype, read.tobytes()) == (rows.dtype, rows.tobytes())
    assert read.shape == rows.shape
    assert (tmp_path / "words.txt").read_bytes().decode().split("\n") == [*words, ""]
    embstore.export(store, tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table["word"].to_pylist() == words
    assert np.array(table["vector"].to_pylist(), dtype).tobytes() == rows.tobytes()


def test_parquet_holds_newlines(tmp_path):
    store = make_store(tmp_path / "s", ["a\nb", "\n"])
    embstore.export(store, tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet")["word"].to_pylist() == ["a\nb", "\n"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "uint64"])
def test_text_of_every_dtype(tmp_path, dtype):
    rng = np.random.default_rng(0)
    kind = as_dtype(dtype)
    rows = rng.integers(0, 256, (500, 4 * kind.itemsize), np.uint8).view(kind)
    if kind.kind not in "iu":
        with np.errstate(invalid="ignore"):
            rows[np.isnan(rows)] = 0  # Text does not hold the payload of a nan.
    words = [f"w{number}" for number in range(500)]
    store = make_store(tmp_path / "s", words, rows, dtype=dtype)
    embstore.export(store, tmp_path / "t.vec")
    assert_same(embstore.build(tmp_path / "t.vec", tmp_path / "again", dtype=dtype), store)
    if kind.itemsize == 2:  # Parsed as float32, the numbers are the same too.
        single = embstore.build(tmp_path / "t.vec", tmp_path / "single").to_numpy()
        np.testing.assert_array_equal(single, rows.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_digits_are_the_shortest(tmp_path, dtype):
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(dtype)
    embstore.export(
        make_store(tmp_path / "s", [str(i) for i in range(50)], rows), tmp_path / "t.vec"
    )
    lines = (tmp_path / "t.vec").read_text().splitlines()[1:]
    for line, row in zip(lines, rows, strict=True):
        for text, number in zip(line.split()[1:], row, strict=True):
            digits = str(abs(number)).split("e")[0].replace(".", "").strip("0")
            assert text.strip("-").split("e")[0].replace(".", "").strip("0") == digits


@pytest.mark.parametrize(
    ("format", "words", "rule"),
    [
        ("word2vec", ["ok", "new york"], r"'new york' \(id 1\) contains a space"),
        ("word2vec-binary", ["ok", "new york"], r"'new york' \(id 1\) contains a space"),
        ("word2vec", ["ok", "a", "a\nb"], r"'a\\nb' \(id 2\) contains a newline"),
        ("word2vec-binary", ["\nb"], r"'\\nb' \(id 0\) contains a newline"),
        ("glove", ["ok", "a\nb"], r"\(id 1\) contains a newline"),
        ("glove", ["ok", "area 51"], r"'area 51' \(id 1\) ends in a number"),
        ("glove", ["ok", "not nan"], r"'not nan' \(id 1\) ends in a number"),
        ("glove", ["\ufeffx", "ok"], r"\(id 0\) starts with a byte order mark"),
    ],
)
def test_unsupported_words_are_refused(tmp_path, format, words, rule):
    store = make_store(tmp_path / "s", words)
    with pytest.raises(embstore.ExportError, match=rule) as caught:
        embstore.export(store, tmp_path / "t", format=format)
    assert "export as" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["ok", "a\nb"], r"id 1\) contains a newline"),
        (["ok", "a\r"], r"id 1\) ends in a carriage return"),
        (["\ufeffa", "\ufeff"], r"id 0\) starts with a byte order mark"),
    ],
)
def test_words_unsupported_by_a_word_file_are_refused(tmp_path, words, rule):
    store = make_store(tmp_path / "s", words)
    with pytest.raises(embstore.ExportError, match=rule):
        embstore.export(store, tmp_path / "t.npy", words=tmp_path / "words.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_glove_line_that_looks_like_a_header_is_refused(tmp_path):
    store = make_store(tmp_path / "s", ["3", "x"], np.array([[1.0], [2.0]], np.float32))
    with pytest.raises(embstore.ExportError, match="whole numbers"):
        embstore.export(store, tmp_path / "t.txt", format="glove")


@pytest.mark.parametrize("format", ["glove", "word2vec", "word2vec-binary"])
@pytest.mark.parametrize("row_shape", [(5,), (2, 3), ()])
def test_word_vector_formats_refuse_other_tables(tmp_path, format, row_shape):
    rows = np.zeros((4, *row_shape), np.float32)
    words = None if row_shape == (5,) else ["a", "b", "c", "d"]
    store = make_store(tmp_path / "s", words, rows)
    with pytest.raises(embstore.ExportError, match="export as npy, parquet or safetensors"):
        embstore.export(store, tmp_path / "t", format=format)
    embstore.export(store, tmp_path / "t.npy")
    embstore.export(store, tmp_path / "t.parquet")
    assert np.load(tmp_path / "t.npy").shape == rows.shape
    assert parquet.read_table(tmp_path / "t.parquet").num_rows == 4


@pytest.mark.parametrize(
    ("dtype", "format"),
    [
        *(("float64", "word2vec-binary"), ("int32", "word2vec-binary")),
        *(("bfloat16", "npy"), ("bfloat16", "parquet")),
    ],
)
def test_unsupported_dtypes_are_refused(tmp_path, dtype, format):
    store = make_store(tmp_path / "s", ["a", "b"], np.ones((2, 5), np.int8), dtype=dtype)
    with pytest.raises(embstore.ExportError, match='dtype="float32"'):
        embstore.export(store, tmp_path / "t", format=format)
    embstore.export(store, tmp_path / "t", format=format, dtype="float32")
    assert (tmp_path / "t").stat().st_size


def test_cast(tmp_path):
    store = make_store(tmp_path / "s", ["a"], np.array([[0.1, 1e6]]))
    report = embstore.export(store, tmp_path / "t.npy", dtype="float32")
    assert np.load(tmp_path / "t.npy").tolist() == np.array([[0.1, 1e6]], np.float32).tolist()
    assert report.largest_cast_error == abs(float(np.float32(0.1)) - 0.1)
    with pytest.raises(embstore.RowError, match=r"1000000\.0 is out of the range"):
        embstore.export(store, tmp_path / "u.npy", dtype="float16")
    assert not (tmp_path / "u.npy").exists()


@pytest.mark.usefixtures("small_blocks")
def test_numbers_out_of_range_are_named_by_their_row(tmp_path):
    rows = np.zeros((30, 4), np.float32)
    rows[29, 3] = 1e6
    store = embstore.build(rows, tmp_path / "s")
    with pytest.raises(embstore.RowError, match="row 29 of this write") as found:
        embstore.export(store, tmp_path / "t.npy", dtype="float16")
    assert found.value.position == 29
    assert "on_overflow" not in str(found.value)


def test_tables_without_rows(tmp_path):
    make_store(tmp_path / "s", None, np.empty((0, 3), np.float32))
    embstore.export(tmp_path / "s", tmp_path / "t.npy")
    assert np.load(tmp_path / "t.npy").shape == (0, 3)
    embstore.export(tmp_path / "s", tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").num_rows == 0
    assert embstore.open(tmp_path / "s").to_numpy().shape == (0, 3)


WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=5
).filter(lambda word: not word.startswith("\ufeff"))


NOT_NUMBERS = ("nan", "inf", "infinity")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(WORDS, min_size=1, max_size=8, unique=True),
    arrays.arrays(np.float32, (8, 3), elements=st.floats(width=32, allow_nan=False)),
    st.sampled_from(["glove", "word2vec"]),
)
def test_any_words_and_numbers(tmp_path_factory, words, rows, format):
    """Every table is either read back unchanged, or refused."""
    path = tmp_path_factory.mktemp("any") / "t.txt"
    rows = rows[: len(words)]
    table = TableFacts(len(words), (3,), rows.dtype, has_words=True)
    write = write_glove if format == "glove" else write_word2vec
    head = Head()
    try:
        with path.open("w+b") as file:
            write(file, table, head.keep(iter([row_blocks.RowBlock(0, rows, pack(words))])))
            head.check(file, format, None)
    except embstore.ExportError:
        assert not all(word.isalpha() and word.lower() not in NOT_NUMBERS for word in words)
        return
    words_read, rows_read = read(path, format=format)
    assert words_read == words
    assert_same_bits(rows_read, rows)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("t.txt", {}, "does not tell the format"),
        ("t.vec.gz", {"format": "word2vec"}, "compress"),
        ("t", {"format": "csv"}, "format must be"),
        ("t.vec", {"words": "w.txt"}, "words= is for npy"),
        ("t.npy", {"words": "t.npy"}, "cannot both be written"),
    ],
)
def test_wrong_arguments(words_store, tmp_path, monkeypatch, name, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        embstore.export(words_store, name, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"tensor": "x"},
        {"scale": None},
        {"scale_block": (1, 2)},
        {"encoding": "int8"},
        {"zero_point": "x"},
    ],
)
def test_options_of_models_are_refused_for_open_stores(words_store, tmp_path, options):
    with (
        embstore.open(words_store) as store,
        pytest.raises(ValueError, match=f"{next(iter(options))}= goes with the path of a model"),
    ):
        embstore.export(store, tmp_path / "t.npy", **options)
    assert not (tmp_path / "t.npy").exists()


@pytest.mark.parametrize("name", ["store", "path", "words"])
def test_paths_have_to_be_paths(words_store, tmp_path, name):
    arguments = {"store": words_store, "path": tmp_path / "t.npy", "words": tmp_path / "w.txt"}
    with pytest.raises(TypeError, match=rf"{name} must be a str or a pathlib\.Path, not 3 \(int\)"):
        embstore.export(**arguments | {name: 3})


def test_target(words_store, tmp_path):
    file = tmp_path / "t.vec"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        embstore.export(words_store, file)
    assert file.read_text() == "mine"
    embstore.export(words_store, file, overwrite=True)
    assert file.read_text().startswith("11 8\n")
    with pytest.raises(FileExistsError, match="not a file"):
        embstore.export(words_store, words_store, format="npy", overwrite=True)
    with pytest.raises(FileNotFoundError, match="make it first"):
        embstore.export(words_store, tmp_path / "no" / "t.vec")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("format", ["glove", "word2vec-binary", "npy", "parquet"])
def test_interrupted_export_leaves_nothing(words_store, tmp_path, error, format, monkeypatch):
    monkeypatch.setattr(row_blocks, "MAX_BLOCK_ROWS", 2)
    target = tmp_path / "target"
    target.write_text("old")
    seen = []

    def progress(at):
        seen.append(at)
        if at.rows == 4:
            raise error

    before = sorted(tmp_path.iterdir())
    with pytest.raises(error):
        embstore.export(words_store, target, format=format, overwrite=True, progress=progress)
    assert sorted(tmp_path.iterdir()) == before
    assert target.read_text() == "old"
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("embstore-format") for name in names)


def test_every_format_has_a_sink():
    assert tuple(SINKS) == get_args(ExportFormat)
    assert all(callable(sink.load()) for sink in SINKS.values())


def test_progress(words_store, tmp_path):
    seen: list[embstore.Progress] = []
    embstore.export(words_store, tmp_path / "t.npy", progress=seen.append)
    assert seen[-1] == embstore.Progress(11 * 32, 11 * 32, 11)


PEAK = """
import sys
import embstore
from dataclasses import replace
from embstore.sinks import SINKS, npy, parquet
from tests.helpers.memory import peak_bytes
sys.modules["embstore.export"].RESIDENT_LIMIT = 64 << 20
SINKS["parquet"] = replace(SINKS["parquet"], block_bytes=4 << 20)
before = peak_bytes()
embstore.export(sys.argv[1], sys.argv[2])
print(peak_bytes() - before)
"""


def test_memory_stays_bounded(tmp_path):
    block = np.random.default_rng(0).standard_normal((1000, 1024)).astype(np.float32)
    with embstore.StoreWriter(tmp_path / "s", row_shape=(1024,), dtype="float32") as writer:
        for _ in range(60):
            writer.write(block)
    for name in ("t.npy", "t.parquet"):
        program = [sys.executable, "-c", PEAK, tmp_path / "s", tmp_path / name]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        # 64 MiB are mapped; Arrow keeps some blocks of 4 MiB and their columns.
        assert int(done.stdout) < 150 << 20 < (tmp_path / name).stat().st_size, name


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int16"])
def test_to_gensim(tmp_path, dtype):
    pytest.importorskip("gensim")
    rows = np.random.default_rng(0).integers(-9, 9, (4, 5))
    store = make_store(tmp_path / "s", ["a", "b c", "", "d"], rows, dtype=dtype)
    vectors = store.to_gensim()
    assert vectors.index_to_key == ["a", "b c", "", "d"]
    assert vectors.get_index("d") == 3
    assert len(vectors) == 4
    np.testing.assert_array_equal(vectors["b c"], rows[1])
    assert vectors.vectors.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert len(vectors.most_similar("a", topn=2)) == 2


def test_tables_unsupported_by_gensim(tmp_path, monkeypatch):
    pytest.importorskip("gensim")
    store = make_store(tmp_path / "s", ["a"], np.array([[2**24 + 1]]))
    with pytest.raises(embstore.ExportError, match="float32 cannot hold"):
        store.to_gensim()
    with pytest.raises(embstore.ExportError, match="no words"):
        make_store(tmp_path / "t", None, ROWS).to_gensim()
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(ImportError, match="pip install gensim"):
        store.to_gensim()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("reader", ["mapped", "chunked"])
def test_to_numpy(tmp_path, reader):
    make_store(tmp_path / "s", AWKWARD)
    found = embstore.open(tmp_path / "s", reader=reader).to_numpy()
    assert found.tobytes() == ROWS[: len(AWKWARD)].tobytes()
