"""Files in word2vec's binary format."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.errors import SourceError
from embstore.sources import word2vec_binary
from tests.helpers.sources import AWKWARD, any_word, assert_same, read
from tests.helpers.stores import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def encoded(words: Iterable[str], rows: NDArray[Any], newline: bytes = b"") -> bytes:
    parts = [b"%d %d\n" % rows.shape]
    for word, row in zip(words, rows, strict=True):
        parts += [word.encode(), b" ", row.astype("<f4").tobytes(), newline]
    return b"".join(parts)


def can_be_written(word: str) -> bool:
    return " " not in word and not word.startswith("\n")


WORDS = [word for word in AWKWARD if can_be_written(word)]


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(any_word.filter(can_be_written), max_size=20),
    dimension=st.integers(1, 5),
    newline=st.sampled_from([b"", b"\n"]),
    read_bytes=st.sampled_from([1, 7, 100, 2 << 20]),
    limit=st.none() | st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_written_tables_are_read_back(
    tmp_path_factory, words, dimension, newline, read_bytes, limit, seed
):
    # Random bits, so that vectors contain spaces, newlines, and nans of all kinds.
    bits = np.random.default_rng(seed).bytes(len(words) * dimension * 4)
    rows = np.frombuffer(bits, np.float32).reshape(-1, dimension)
    path = tmp_path_factory.getbasetemp() / "hypothesis.bin"
    path.write_bytes(encoded(words, rows, newline))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word2vec_binary, "READ_BYTES", read_bytes)
        try:
            found, read_rows = read(path, format="word2vec-binary", limit=limit)
        except SourceError as error:  # Random bits may look like the rest of a word, and a row.
            assert re.search("if words have spaces|of any size", str(error))  # noqa: PT017
            return
    assert (found or []) == words[:limit]
    assert_same(read_rows, rows[:limit])


def test_format_is_detected_from_the_bytes(tmp_path):
    rows = np.random.default_rng(0).standard_normal((len(WORDS), 3), np.float32)
    for name in ("t.bin", "t.model.txt", "none"):
        (tmp_path / name).write_bytes(encoded(WORDS, rows, b"\n"))
        words, found = read(tmp_path / name)
        assert words == WORDS
        assert_same(found, rows)
    (tmp_path / "t.bin").write_bytes(b"2 1\na abcdb dcba")  # Bytes that could be text.
    assert read(tmp_path / "t.bin")[0] == ["a", "b"]


def test_compressed_and_in_a_store(tmp_path):
    rows = np.random.default_rng(0).standard_normal((len(WORDS), 3), np.float32)
    (tmp_path / "t.bin.gz").write_bytes(gzip.compress(encoded(WORDS, rows)))
    store = embstore.build(tmp_path / "t.bin.gz", tmp_path / "s", partitions=2, strategy="div")
    assert store.words(range(len(WORDS))) == WORDS
    np.testing.assert_array_equal(store[:], rows)
    assert store.source["format"] == "word2vec-binary"


@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("limit", [None, 3])
def test_truncated_file_is_refused(tmp_path, newline, limit):
    rows = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    data = encoded("abcde", rows, newline)
    header = data.index(b"\n") + 1
    for size in range(header, len(data) - len(newline)):
        (tmp_path / "t.bin").write_bytes(data[:size])
        row = (size - header + len(newline)) // (14 + len(newline))
        if limit is not None and row >= limit:
            assert read(tmp_path / "t.bin", limit=limit)[0] == ["a", "b", "c"]
            continue
        with pytest.raises(SourceError, match=rf"t\.bin: row {row}: the file ends in this row"):
            read(tmp_path / "t.bin", limit=limit, format="word2vec-binary")


def test_unterminated_words_take_linear_time(tmp_path):
    # A search that starts again at each byte would take minutes.
    for word in (b"x" * (1 << 20), b"\n" * (1 << 20), b"x" * (9 << 20)):
        (tmp_path / "t.bin").write_bytes(b"2 1\n" + word + b" abcd" + word)
        with pytest.raises(SourceError, match=r"found no space within|the file ends in this row"):
            read(tmp_path / "t.bin", format="word2vec-binary")


def test_more_rows_than_the_header_promises(tmp_path):
    data = encoded("ab", np.ones((2, 2), np.float32), b"\n")
    (tmp_path / "t.bin").write_bytes(data + b"\n\n")
    assert read(tmp_path / "t.bin")[0] == ["a", "b"]
    (tmp_path / "t.bin").write_bytes(data + b"c 1234")
    with pytest.raises(SourceError, match="promises 2 rows, but more data"):
        read(tmp_path / "t.bin")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "expected the header"),
        (b"3\nabc", r"expected the header 'rows dimension' .* found '3\\nabc'"),
        (b"3 0\nabc", "vectors have 0 numbers"),
        (b"3 999999999999\nabc", "vectors have 999999999999 numbers; is this really"),
        (
            b"99999999999 300\nabc ",
            "row 0: the file ends in this row, .* 99999999999 rows",
        ),
        (
            b"3 1\n" + b"x" * (5 << 20),
            "row 0: expected a word and .*, found no space within 1 MiB",
        ),
        (b"1 1\ncaf\xe9 abcd", r"row 0: the word is not UTF-8.*'caf\\xe9'.*encoding_errors"),
    ],
)
def test_invalid_files_are_refused(tmp_path, data, says):
    (tmp_path / "t.bin").write_bytes(data)
    with pytest.raises(SourceError, match=says):
        read(tmp_path / "t.bin", format="word2vec-binary")


def test_words_that_are_not_utf_8(tmp_path):
    (tmp_path / "t.bin").write_bytes(b"2 1\ncaf\xe9 abcd\xff abcd")
    assert read(tmp_path / "t.bin", encoding_errors="replace")[0] == ["caf\ufffd", "\ufffd"]
    assert read(tmp_path / "t.bin", encoding_errors="ignore")[0] == ["caf", ""]


PHRASES = [
    "New York",
    "the",
    "San Francisco Bay",
    "of",
    "a b c",
    "S\u00e3o Paulo",
    "king",
    "in vitro",
]
LONG = [
    "Donaudampfschifffahrtsgesellschaft Kapit\u00e4n",
    "a",
    "\u6771\u4eac \u30bf\u30ef\u30fc",
    "x y",
]


@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("dimension", [4, 5, 8, 50, 300])
@pytest.mark.parametrize("words", [PHRASES, LONG, ["king", *LONG], PHRASES[1:2] * 3 + PHRASES])
@pytest.mark.parametrize("scale", [0.05, 1])
def test_words_with_spaces(tmp_path, monkeypatch, newline, dimension, words, scale):
    numbers = np.random.default_rng(dimension)
    rows = numbers.normal(0, scale, (len(words), dimension)).astype(np.float32)
    (tmp_path / "t.bin").write_bytes(encoded(words, rows, newline))
    for read_bytes in (1, 100, 8 << 20):
        monkeypatch.setattr(word2vec_binary, "READ_BYTES", read_bytes)
        found, read_rows = read(tmp_path / "t.bin")
        assert found == words
        assert_same(read_rows, rows)


@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("value", ["random", "small", "whole", "zero"])
@pytest.mark.parametrize("words", [PHRASES, LONG, ["b", *LONG]])
def test_words_with_spaces_are_never_cut(tmp_path, newline, dimension, value, words):
    numbers = np.random.default_rng(dimension)
    rows = {
        "random": numbers.normal(0, 1, (len(words), dimension)),
        "small": numbers.normal(0, 1e-9, (len(words), dimension)),
        "whole": numbers.integers(-3, 4, (len(words), dimension)),
        "zero": np.zeros((len(words), dimension)),
    }[value].astype(np.float32)
    (tmp_path / "t.bin").write_bytes(encoded(words, rows, newline))
    try:
        found, read_rows = read(tmp_path / "t.bin", format="word2vec-binary")
    except SourceError:
        return
    assert found == words
    assert_same(read_rows, rows)


@pytest.mark.parametrize("dtype", ["<f8", "<f2"])
@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("dimension", [2, 4, 50])
@pytest.mark.parametrize("whole", [False, True])
def test_other_numbers_are_refused(tmp_path, dtype, newline, dimension, whole):
    numbers = np.random.default_rng(0)
    rows = np.round(numbers.normal(0, 2, (8, dimension)), 0 if whole else 9)
    data = b"%d %d\n" % rows.shape
    for word, row in zip("abcdefgh", rows, strict=True):
        data += word.encode() + b" " + row.astype(dtype).tobytes() + newline
    (tmp_path / "t.bin").write_bytes(data)
    with pytest.raises(SourceError):
        read(tmp_path / "t.bin", format="word2vec-binary")


@pytest.mark.parametrize("dtype", ["<i4", "<u4"])
@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_other_numbers_of_32_bits_are_refused(tmp_path, dtype, newline):
    rows = np.random.default_rng(0).normal(0, 99, (30, 50))
    data = b"%d %d\n" % rows.shape
    for number, row in enumerate(rows):
        data += b"w%d " % number + abs(row).astype(dtype).tobytes() + newline
    (tmp_path / "t.bin").write_bytes(data)
    with pytest.raises(SourceError):
        read(tmp_path / "t.bin", format="word2vec-binary")


@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("header", [(8, 5), (6, 5), (7, 4), (7, 6), (7, 10), (14, 5), (1, 40)])
@pytest.mark.parametrize("words", ["abcdefg", PHRASES[:7]])
def test_wrong_header_is_refused(tmp_path, newline, header, words):
    rows = np.random.default_rng(1).standard_normal((7, 5), np.float32)
    data = encoded(words, rows, newline).partition(b"\n")[2]
    (tmp_path / "t.bin").write_bytes(b"%d %d\n" % header + data)
    with pytest.raises(SourceError):
        read(tmp_path / "t.bin", format="word2vec-binary")


@pytest.mark.parametrize("words", ["abcdefg", PHRASES[:7]])
def test_carriage_returns(tmp_path, words):
    rows = np.random.default_rng(1).standard_normal((7, 5), np.float32)
    data = encoded(words, rows, b"\n")
    (tmp_path / "t.bin").write_bytes(data.replace(b"7 5\n", b"7 5\r\n", 1))
    assert read(tmp_path / "t.bin")[0] == list(words)
    (tmp_path / "t.bin").write_bytes(encoded(words, rows, b"\r\n"))
    with pytest.raises(SourceError):
        read(tmp_path / "t.bin")
    (tmp_path / "t.bin").write_bytes(data.replace(b"\n", b"\r\n"))
    with pytest.raises(SourceError):
        read(tmp_path / "t.bin")


@pytest.mark.parametrize("damage", [slice(0, -30), slice(0, -1), slice(0, 40)])
def test_damaged_file_with_spaces_is_refused(tmp_path, damage):
    rows = np.random.default_rng(1).standard_normal((8, 5), np.float32)
    (tmp_path / "t.bin").write_bytes(encoded(PHRASES, rows)[damage])
    with pytest.raises(SourceError):
        read(tmp_path / "t.bin")
    (tmp_path / "t.bin").write_bytes(encoded(PHRASES, rows) + b"x")
    with pytest.raises(SourceError):
        read(tmp_path / "t.bin")


@pytest.mark.parametrize("row", [0, 3, 8])
@pytest.mark.parametrize("change", ["lost", "added", "no newline"])
def test_bytes_lost_or_added_between_newlines(tmp_path, row, change):
    rows = np.random.default_rng(0).standard_normal((10, 6)).astype("<f4")
    records = [b"w%d " % number + some.tobytes() + b"\n" for number, some in enumerate(rows)]
    if change == "lost":
        records[row] = records[row][:10] + records[row][11:]
    elif change == "added":
        records[row] = records[row][:10] + b"\0" + records[row][10:]
    else:
        records[row] = records[row][:-1]
    path = tmp_path / "m.bin"
    path.write_bytes(b"10 6\n" + b"".join(records))
    with pytest.raises(SourceError):
        embstore.build(path, tmp_path / "m.embstore")
    assert names(tmp_path) == ["m.bin"]
