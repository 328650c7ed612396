"""Text files of vectors: format detection, lines, words and numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import embstore
from embstore.errors import SourceError
from embstore.sources.text.blocks import TEXT_BLOCK_BYTES
from embstore.sources.text.source import TextSource
from tests.helpers.text_files import (
    GLOVE,
    ROWS,
    WORD2VEC,
    WORDS,
    assert_same_bits,
    blocks_of,
    read,
    read_bytes,
)

ODD_WORDS = {
    "spaces": ". . .",
    "address": "at name@domain.com",
    "nbsp": "a\u00a0b",
    "only nbsp": "\u00a0",
    "next line": "a\u0085b",
    "line separator": "\u2028",
    "emoji": "\U0001f468\u200d\U0001f469",
    "empty": "",
    "nan": "nan",
    "number": "3.5",
    "quoted": '"quoted"',
    "one quote": '"',
    "backslash": "\\",
    "comment": "#x",
    "tab": "a\tb",
    "carriage return": "a\rb",
    "form feed": "\x0c",
    "nul": "\x00",
    "byte order mark": "\ufeffx",
    "comma": "1,5",
}


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (GLOVE, "glove"),
        (WORD2VEC, "word2vec"),
        (WORD2VEC.replace(b"\n", b" \n"), "word2vec"),  # As word2vec.c writes it.
        (GLOVE.replace(b"\n", b"\r\n"), "glove"),
        (WORD2VEC.replace(b"\n", b"\r\n"), "word2vec"),
        (WORD2VEC.replace(b"\n", b" \r\n"), "word2vec"),
        (b"\xef\xbb\xbf" + GLOVE, "glove"),
        (b"\xef\xbb\xbf" + WORD2VEC, "word2vec"),
        (GLOVE.removesuffix(b"\n"), "glove"),
        (WORD2VEC.removesuffix(b"\n"), "word2vec"),
        (GLOVE + b"\n\r\n\n", "glove"),
        (WORD2VEC + b"\n\n", "word2vec"),
        (WORD2VEC.replace(b"3 3\n", b"3\t3 \n"), "word2vec"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 7, 64, TEXT_BLOCK_BYTES])
def test_format_is_detected_from_the_first_lines(tmp_path, monkeypatch, data, format, block_bytes):
    if block_bytes > 3 or not data.startswith(b"\xef\xbb\xbf"):
        blocks_of(monkeypatch, block_bytes)
    path = tmp_path / "table.txt"
    path.write_bytes(data)
    source = TextSource(path)
    assert source.format == format
    assert source.row_count == (3 if format == "word2vec" else None)
    assert source.row_shape == (3,)
    assert source.count_rows() == 3
    words, rows = read(path)
    assert words == WORDS
    assert_same_bits(rows, ROWS)


@pytest.mark.parametrize(
    ("data", "format", "words"),
    [
        (b"5 6\n7 8\n", "glove", ["5", "7"]),
        (b"5 6\n7 8\n", "auto", ["5", "7"]),  # One-dimensional vectors of the words 5 and 7.
        (b"1 1\n7 8\n", "auto", ["7"]),
        (b"1 1\n7 8\n", "glove", ["1", "7"]),
        (b"1 2\n7 8 9\n", "word2vec", ["7"]),
        (b" 2\n7 8\n", "auto", ["", "7"]),
        (b" 3 4\n7 8 9\n", "auto", ["", "7"]),  # An empty word, no header.
    ],
)
def test_format_can_be_given(tmp_path, data, format, words):
    assert read_bytes(tmp_path, data, format=format)[0] == words


def test_wrong_format_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r":1: expected the header 'rows dimension', found 'the"):
        read_bytes(tmp_path, GLOVE, format="word2vec")
    with pytest.raises(SourceError, match=r":1: expected a word and 3 values.*format word2vec"):
        read_bytes(tmp_path, WORD2VEC, format="glove")
    with pytest.raises(ValueError, match="format must be"):
        embstore.build(tmp_path / "table.txt", tmp_path / "s", format="csv")  # type: ignore[arg-type]


@pytest.mark.parametrize("header", [b"", b"23 2\n"], ids=["glove", "word2vec"])
@pytest.mark.parametrize("end", [b"\n", b" \n", b"\r\n"])
@pytest.mark.parametrize("block_bytes", [1, 50, TEXT_BLOCK_BYTES])
def test_odd_words(tmp_path, monkeypatch, header, end, block_bytes):
    blocks_of(monkeypatch, block_bytes)
    words = ["first", *ODD_WORDS.values(), "last", "the end"]
    lines = [f"{word} {i} {i}.5".encode() + end for i, word in enumerate(words)]
    found, rows = read_bytes(tmp_path, header + b"".join(lines))
    assert found == words
    assert rows.tolist() == [[i, i + 0.5] for i in range(len(words))]


@pytest.mark.parametrize("word", ODD_WORDS.values(), ids=ODD_WORDS)
@pytest.mark.parametrize("place", ["first", "alone", "last"])
def test_odd_word_first_alone_and_last(tmp_path, word, place):
    words = {"first": [word, "b", "c"], "alone": [word], "last": ["a", "b", word]}[place]
    data = "".join(f"{word} 4 5 6\n" for word in words).encode()
    found, rows = read_bytes(tmp_path, data)
    words[0] = words[0].removeprefix("\ufeff")  # Read as the byte order mark of the file.
    assert found == words
    assert rows.tolist() == [[4, 5, 6]] * len(words)


def test_odd_words_are_found_in_the_store(tmp_path):
    words = list(ODD_WORDS.values())
    data = "".join(f"{word} {i} 0\n" for i, word in enumerate(["first", *words])).encode()
    (tmp_path / "t.txt").write_bytes(data)
    store = embstore.build(tmp_path / "t.txt", tmp_path / "t.embstore", partitions=3)
    assert store.ids(words).tolist() == list(range(1, len(words) + 1))
    assert store.words(range(1, len(words) + 1)) == words


def test_trailing_blank_lines_of_many_blocks_are_trimmed(tmp_path, monkeypatch):
    blocks_of(monkeypatch, 4)
    words, _ = read_bytes(tmp_path, GLOVE + b"\n\r\n" * 50)
    assert words == WORDS
    with pytest.raises(SourceError, match=r":4: expected a word and 3 values .*line is empty"):
        read_bytes(tmp_path, GLOVE + b"\n" * 50 + b"more 1 2 3\n")


def test_most_common_dimension_wins_over_words_with_spaces(tmp_path):
    assert read_bytes(tmp_path, b". . . 1 2\nat x 1 2\nb 1 nan\n")[0] == [". . .", "at x", "b"]


NUMBERS = ["3", "-3", "+3", "003", "3.", ".5", "1e5", "1E+5", "1e-5", "-0", "-0.0", "0.1", "1e-46"]
NUMBERS += ["nan", "NaN", "-nan", "inf", "-Inf", "Infinity", "3.4028235e38", "1.17549435e-38"]
NUMBERS += ["0.30000000000000004", "16777217", "1e-400", "-1.4e-45"]


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", ["w", "w w"], ids=["regular", "irregular"])
def test_numbers_are_parsed_like_numpy(tmp_path, text, dtype, word):
    _, rows = read_bytes(tmp_path, f"{word} {text} 1\nv 2 {text}\n".encode(), dtype=dtype)
    expected = np.dtype(dtype).type(text)
    np.testing.assert_array_equal(rows, np.array([[expected, 1], [2, expected]], dtype))
    assert np.signbit(rows[0, 0]) == np.signbit(expected) or np.isnan(expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_integers(tmp_path, dtype):
    limits = np.iinfo(dtype)
    (tmp_path / "t.txt").write_text(f"low {limits.min} 0\nhigh {limits.max} 1\n")
    store = embstore.build(tmp_path / "t.txt", tmp_path / "s", dtype=dtype)
    assert store.dtype == dtype
    assert store[:].tolist() == [[limits.min, 0], [limits.max, 1]]
    (tmp_path / "t.txt").write_text(f"low {limits.min} 0\nhigh {limits.max + 1} 1\n")
    with pytest.raises(SourceError, match=rf"t\.txt:2: value 1 is '{limits.max + 1}', .* {dtype}"):
        embstore.build(tmp_path / "t.txt", tmp_path / "s2", dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "fits", "overflows"),
    [("float16", "65504", "65520"), ("float16", "65504", "1e39"), ("float32", "3.4e38", "1e39")],
)
def test_overflow_is_an_error(tmp_path, dtype, fits, overflows):
    (tmp_path / "t.txt").write_text(f"a 0.1 {fits}\nb inf -inf\n")
    store = embstore.build(tmp_path / "t.txt", tmp_path / "s", dtype=dtype)
    expected = np.array([[0.1, fits], ["inf", "-inf"]], np.float32).astype(dtype)
    assert_same_bits(store[:], expected)
    (tmp_path / "t.txt").write_text(f"a 0.1 {fits}\nb inf -inf\nc inf -{overflows}\n")
    with pytest.raises(SourceError, match=r"t\.txt:3: .*out of the range of float.*wider dtype"):
        embstore.build(tmp_path / "t.txt", tmp_path / "s2", dtype=dtype)


def ends_in_a_number(word: str) -> bool:
    """Return whether a word may be a shorter word and one more value, in whatever notation."""
    last = word.replace("\t", " ").rpartition(" ")[2]
    return word != last and not any(map(str.isalpha, last))


any_word = st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=8)
any_words = st.lists(
    any_word.filter(lambda word: word == word.strip(" ") and not ends_in_a_number(word)),
    min_size=1,
    max_size=12,
).filter(
    # A byte order mark, or a header of a data frame.
    lambda words: words[0] and not words[0].startswith("\ufeff")
)
any_value = st.floats(width=32).map(np.float32)
write_value = st.sampled_from([str, lambda value: f"{value:.9g}", lambda value: repr(float(value))])


@settings(max_examples=150, deadline=None)
@given(
    words=any_words,
    dimension=st.integers(1, 5),
    format=st.sampled_from(["glove", "word2vec"]),
    end=st.sampled_from(["\n", " \n", "\r\n"]),
    block_bytes=st.sampled_from([1, 16, TEXT_BLOCK_BYTES]),
    data=st.data(),
)
def test_written_tables_are_read_back(
    tmp_path_factory, words, dimension, format, end, block_bytes, data
):
    # Other words are doubtful.
    assume(len({*words}) == len(words))
    assume(dimension > 1 or not any(" " in word for word in words))
    rows, lines = [], []
    for word in words:
        row = data.draw(st.lists(any_value, min_size=dimension, max_size=dimension))
        texts = [data.draw(write_value)(value) for value in row]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # The largest float32, in nine digits.
            rows.append([np.float32(text) for text in texts])
        lines.append(" ".join([word, *texts]) + end)
    if format == "word2vec":
        lines.insert(0, f"{len(words)} {dimension}{end}")
    path = tmp_path_factory.getbasetemp() / "hypothesis.txt"
    path.write_bytes("".join(lines).encode())
    with pytest.MonkeyPatch.context() as patch:
        blocks_of(patch, block_bytes)
        found, read_rows = read(path, format=format)
    assert found == words
    np.testing.assert_array_equal(read_rows, np.array(rows, np.float32), strict=True)
    assert (np.signbit(read_rows) == np.signbit(rows))[~np.isnan(rows)].all()
