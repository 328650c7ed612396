"""Attributes of text files: the fields between each word and its vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embstore.errors import SourceError
from embstore.sources.text.columns import ColumnScan
from tests.helpers.attributes import read
from tests.helpers.text_files import blocks_of

WORDS = ["the", "of", "naïve", "x"]
ROWS = np.array([[0.1, 0.25, -3.5], [0.5, 1e-3, 0.75], [0.9, 1.5, 2.5], [-0.5, 0.3, 0.2]])
COUNTS = ["120", "45", "7", "1"]
IDS = ["B01", "A, b", "C d", "X9"]
WEIGHTS = ["0.5", "2", "1e-3", "nan"]


def lines(*columns: list[str], outer: str = " ", between: str = " ", end: str = "") -> str:
    """Return a table of words, columns, and vectors."""
    return "".join(
        outer.join([word, *fields, between.join(map(repr, row))]) + end + "\n"
        for word, row, *fields in zip(WORDS, ROWS.tolist(), *columns, strict=True)
    )


def numbered(first: int, separator: str) -> str:
    table = lines(COUNTS, outer=separator, between=separator)
    return "".join(f"{first + i}{separator}{line}\n" for i, line in enumerate(table.splitlines()))


def quoted(text: list[str]) -> list[str]:
    return [f'"{one}"' for one in text]


def aligned() -> str:
    return "".join(
        word.ljust(8) + count.rjust(6) + "".join(f"{value:9.4f}" for value in row) + "\n"
        for word, count, row in zip(WORDS, COUNTS, ROWS, strict=True)
    )


def bracketed() -> str:
    rows = zip(WORDS, COUNTS, ROWS.tolist(), strict=True)
    return "".join(f"{word}\t{count}\t{row}\n" for word, count, row in rows)


COUNT: dict[str, tuple[str, list[Any]]] = {"count": ("int64", [120, 45, 7, 1])}
ITEM: dict[str, tuple[str, list[Any]]] = {"item_id": ("string", IDS)}
WEIGHT: dict[str, tuple[str, list[Any]]] = {"weight": ("float64", [0.5, 2.0, 1e-3, float("nan")])}
# For each kind: the text, the attributes, and further options.
READ: dict[str, tuple[str, dict[str, tuple[str, list[Any]]], dict[str, Any]]] = {
    "spaces": (lines(COUNTS), COUNT, {}),
    "spaces at the end": (lines(COUNTS, end=" "), COUNT, {}),
    "returns at the end": (lines(COUNTS, end="\r"), COUNT, {}),
    "two spaces": (lines(COUNTS, outer="  ", between="  "), COUNT, {}),
    "aligned": (aligned(), COUNT, {}),
    "a header of counts": ("4 3\n" + lines(COUNTS), COUNT, {}),
    "a header and format": ("4 3\n" + lines(COUNTS), COUNT, {"format": "word2vec"}),
    "glove": (lines(COUNTS), COUNT, {"format": "glove"}),
    "comments": ("# made today\n" + lines(COUNTS), COUNT, {}),
    "tabs": (lines(COUNTS, outer="\t", between="\t"), COUNT, {}),
    "tabs around the count": (lines(COUNTS, outer="\t"), COUNT, {}),
    "commas": (lines(COUNTS, outer=",", between=","), COUNT, {}),
    "semicolons": (lines(COUNTS, outer=";", between=";"), COUNT, {}),
    "decimal commas": (
        lines(COUNTS, outer=";", between=";").replace(".", ","),
        COUNT,
        {},
    ),
    "brackets": (bracketed(), COUNT, {}),
    "a header of names": (
        "word,count,0,1,2\n" + lines(COUNTS, outer=",", between=","),
        COUNT,
        {},
    ),
    "other names of dimensions": (
        "word\tcount\tx\ty\tz\n" + lines(COUNTS, outer="\t", between="\t"),
        COUNT,
        {},
    ),
    "row numbers": (numbered(0, " "), COUNT, {}),
    "row numbers, tabs": (numbered(1, "\t"), COUNT, {}),
    "strings, tabs": (lines(IDS, outer="\t", between="\t"), ITEM, {}),
    "strings, tab after": (lines(IDS, outer="\t"), ITEM, {}),
    "strings, quoted": (lines(quoted(IDS), outer=",", between=","), ITEM, {}),
    "strings, then counts": (lines(IDS, COUNTS, outer="\t", between="\t"), ITEM | COUNT, {}),
    "counts, then strings": (lines(COUNTS, IDS, outer="\t", between="\t"), COUNT | ITEM, {}),
    "decimals, given dimension": (lines(WEIGHTS), WEIGHT, {"dimension": 3}),
    "decimals, a header": ("4 3\n" + lines(WEIGHTS), WEIGHT, {}),
    "decimals, names": (
        "word,weight,0,1,2\n" + lines(WEIGHTS, outer=",", between=","),
        WEIGHT,
        {},
    ),
    "two columns": (lines(COUNTS, WEIGHTS), COUNT | WEIGHT, {"dimension": 3}),
}


@pytest.mark.parametrize("size", [8, 4 << 20])
@pytest.mark.parametrize("kind", READ)
def test_columns_are_read(tmp_path, monkeypatch, kind, size):
    text, expected, options = READ[kind]
    blocks_of(monkeypatch, size)
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode())
    found = read(path, expected, dtype=np.float64, **options)
    assert found.dtypes == {name: dtype for name, (dtype, _) in expected.items()}
    for name, (_, values) in expected.items():
        assert str(found.attributes[name]) == str(values)
    assert found.words == WORDS
    np.testing.assert_array_equal(found.rows, ROWS)


def test_numbers_alone_and_words_beside(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("".join(line.partition(" ")[2] + "\n" for line in lines(COUNTS).splitlines()))
    found = read(path, ["count"], words=WORDS)
    assert found.attributes == {"count": [120, 45, 7, 1]}
    assert found.words == WORDS
    assert found.rows.shape == (4, 3)


def test_words_with_spaces_and_numbers(tmp_path):
    text = lines(COUNTS) + "New York 12 0.5 1 2\nroute 66 3 0.5 1 2\n"
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(SourceError, match=r":6: expected 1 attribute and 3 values .*, found 4"):
        read(tmp_path / "t.txt", ["count"])
    found = read(tmp_path / "t.txt", ["count"], dimension=3)
    assert found.words[-2:] == ["New York", "route 66"]
    assert found.attributes["count"][-2:] == [12, 3]


def test_limit_reads_the_first_lines_only(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(lines(COUNTS) + "more one 0.1 0.2 0.3\n")
    assert read(path, ["count"], limit=3).attributes == {"count": [120, 45, 7]}
    with pytest.raises(SourceError, match=r"t\.txt:5: "):
        read(path, ["count"])


def test_many_lines_have_one_dtype(tmp_path, monkeypatch):
    """The last value of all decides."""
    blocks_of(monkeypatch, 1 << 12)
    path = tmp_path / "t.txt"
    body = "".join(f"w{i} {i} 0.5 0.25\n" for i in range(2000))
    path.write_text(body)
    assert read(path, ["n"]).attributes == {"n": list(range(2000))}
    path.write_text(body + "last 0.5 0.5 0.25\n")
    found = read(path, ["n"])
    assert found.dtypes == {"n": "float64"}
    assert found.attributes["n"] == [*map(float, range(2000)), 0.5]


def with_count(value: str) -> str:
    return lines(["120", "45", value, "1"], outer="\t", between="\t")


REFUSED = [
    # Values that no dtype holds, or that may mean something else.
    (with_count("x"), ["n"], "t.txt:3: 'n' is 'x', and at .*t.txt:1 '120', a text and a number"),
    (with_count("NULL"), ["n"], "t.txt:3: 'NULL' of 'n' is missing"),
    (with_count(""), ["n"], "t.txt:3: '' of 'n' is missing"),
    (with_count("1,000"), ["n"], "t.txt:3: '1,000' of 'n' is missing, or a number in a notation"),
    (with_count("0x1F"), ["n"], "t.txt:3: '0x1F' of 'n' is missing, or a number in a notation"),
    (with_count("nan"), ["n"], "t.txt:3: 'nan' of 'n' is not a whole number, as others are"),
    (with_count("007"), ["n"], "t.txt:3: '007' of 'n' has leading zeros, so it may be a number or"),
    (with_count(str(1 << 63)), ["n"], "'9223372036854775808' of 'n' is out of the range of int64"),
    (
        "4 3\n" + lines([str((1 << 53) + 1), "0.5", "1", "2"]),
        ["n"],
        "t.txt:2: 'n' is '9007199254740993', and at .*t.txt:3 '0.5', both of which no dtype holds",
    ),
    # Columns that may belong to the vector.
    (
        lines(),
        ["n"],
        "the numbers of n look like those of the vector, here '0.1'; pass dim",
    ),
    (lines(WEIGHTS), ["n"], "the numbers of n look like those of the vector, here '0.5'"),
    ("a 1 2 3\nb 4 5 6\nc 7 8 9\n", ["n"], "look like those of the vector, here '1'"),
    (lines(IDS), ["n"], "of n look like .* \\(a text needs a tab, or marks around it\\)|in a line"),
    # Texts that may be pieces of words, or quoted or not.
    (
        "4 3\n" + lines(["B", "b c", "d", "e"]),
        ["n"],
        "t.txt:2: 'B' of 'n' is not a number, and may",
    ),
    (lines(['"q""1"', "b", "c", "d"], outer="\t", between="\t"), ["n"], "may be quoted or not"),
    # Other columns than those that are named.
    (
        lines(COUNTS, IDS, outer="\t", between="\t"),
        ["n"],
        "found 2 fields between the word and its numbers, but attributes= names n; name all",
    ),
    (lines(COUNTS), ["a", "b", "c", "d"], "found 4 numbers in a line, but attributes= names a, b"),
    ("4 4\n" + lines(COUNTS), ["n"], "expected a word and 4 values .* found 3, beside n; correct"),
    (
        "word,freq,0,1,2\n" + lines(COUNTS, outer=",", between=","),
        ["count"],
        "the header names 'freq' between the word and its vector, but attributes= names count",
    ),
    (
        "word,a,b,0,1,2\n" + lines(IDS, COUNTS, outer="\t", between="\t").replace("\t", ","),
        ["b", "a"],
        "t.txt:",
    ),
]


@pytest.mark.parametrize(("text", "names", "says"), REFUSED)
def test_doubtful_columns_are_refused(tmp_path, text, names, says):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(SourceError, match=says):
        read(tmp_path / "t.txt", names)


def test_errors_of_unnamed_columns_tell_the_option(tmp_path):
    (tmp_path / "t.txt").write_text("a 5 0.1 0.2 0.3\nb 6 0.1 0.2 0.3\nc 7 0.1 0.2 0.3\n")
    with pytest.raises(SourceError, match=r'Pass attributes=\["count"\]'):
        read(tmp_path / "t.txt")
    (tmp_path / "t.txt").write_text("word,count,0,1\na,5,0.1,0.2\nb,6,0.1,0.2\n")
    with pytest.raises(SourceError, match="what attributes= "):
        read(tmp_path / "t.txt")


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1", "-0", "+5"], "int64"),
        ([str(-(1 << 63)), str((1 << 63) - 1)], "int64"),
        (["1", "2.0"], "float64"),
        ([".5", "inf"], "float64"),
        ([str(1 << 53), "0.5"], "float64"),
        (["a", "b c"], "string"),
        ([], "int64"),
    ],
)
def test_a_scan_tells_the_dtype(texts, dtype):
    pyarrow = pytest.importorskip("pyarrow")
    scan = ColumnScan("n", "remedy")
    for text in texts:
        scan.add(pyarrow.array([text.encode()], pyarrow.binary()), "file", 1)
    assert scan.dtype() == dtype
