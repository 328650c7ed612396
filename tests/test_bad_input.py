"""Bad input of a build: a clear error and nothing left behind, or a fact in the store's source."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr

import embstore
from embstore.errors import (
    DuplicateWordError,
    SourceError,
    StoreExistsError,
    StoreNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def contents(directory: Path) -> dict[Path, bytes | None]:
    """Return the contents of a directory tree, including hidden files."""
    return {
        path.relative_to(directory): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


@contextlib.contextmanager
def nothing_changes(directory: Path) -> Iterator[None]:
    before = contents(directory)
    yield
    assert contents(directory) == before


@pytest.fixture
def build(tmp_path):
    """Build from the bytes of a text file."""

    def build(data, **options):
        (tmp_path / "table.txt").write_bytes(data)
        return embstore.build(tmp_path / "table.txt", tmp_path / "table.embstore", **options)

    return build


TABLE = b"the 1 2\nlike 3 4\nday 5 6\n"

# For each defect: the file, options, the line that the message names, and parts of the message:
# what was expected, what was found, what to do.
BAD = {
    "too few": (b"the 1 2\nlike 3\nday 5 6\n", {}, 2, ["expected a word and 2 values", "found 1"]),
    "only a word": (b"the 1 2\nlike\nday 5 6\n", {}, 2, ["a word and 2 values", "found 0"]),
    "blank line": (b"the 1 2\n\nday 5 6\n", {}, 2, ["a word and 2 values", "line is empty"]),
    "blank first line": (b"\n" + TABLE, {}, 1, ["a word and 2 values", "line is empty"]),
    "spaces only": (b"the 1 2\n   \nday 5 6\n", {}, 2, ["a word and 2 values", "line is empty"]),
    "a non-number": (b"the 1 2\nlike 3 x4\n", {}, 2, ["value 2 is 'x4'", "a number that float32"]),
    "a non-number of many": (
        b"".join(b"w%d 1 2\n" % i for i in range(999)) + b"like 3 four\nday 5 5\n",
        {},
        1000,
        ["value 2 is 'four'"],
    ),
    "only non-numbers": (b"the a b\nlike c d\n", {}, 1, ["value 1 is 'a'", "expected a number"]),
    "a decimal comma": (b"the 1 2\nlike 3,5 4\n", {}, 2, ["value 1 is '3,5'"]),
    "not a number for ints": (b"a 1\nb 1.5\n", {"dtype": "int8"}, 2, ["'1.5'", "int8 can hold"]),
    "nan for ints": (b"a 1\nb nan\n", {"dtype": "int8"}, 2, ["'nan'", "int8 can hold"]),
    "two spaces": (b"the 1 2\nlike 3  4\n", {}, 2, ["value 1 is empty (two spaces in a row?)"]),
    "tabs in one line": (
        b"the 1 2\nlike\t3\t4\nday 5 6\n",
        {},
        2,
        ["expected a word and 2 values", "found 0"],
    ),
    "one more value": (TABLE + b"new 1 2 3\n", {}, 4, ["expected 2 values", "found 3", "changes"]),
    "three more values": (TABLE + b". . 1 2 3 4 5\n", {}, 4, ["expected 2 values", "found 5"]),
    "empty": (b"", {}, None, ["is empty", "expected lines of a word and its vector"]),
    "blank lines only": (b"\n\r\n\n", {}, None, ["is empty"]),
    "words only": (b"the\nlike\n", {}, 1, ["expected a word and its vector", "found 'the'"]),
    "no text": (b"\x93NUMPI\x01\x00v\x00" * 99, {}, None, ["binary file of an unknown kind"]),
    "binary word2vec": (
        b"2 4\nthe " + np.arange(4, dtype="<f4").tobytes() + b"\nlike \xff\xfe\n",
        {},
        None,
        ["table.txt: row 1: the file ends in this row", "was it cut?"],
    ),
    "no text further on": (TABLE + b"\xff\xfe\n" + TABLE, {}, 4, ["is this really the text fo"]),
    "not UTF-8": (
        TABLE + b"caf\xe9 1 2\n",
        {},
        4,
        ["not UTF-8", r"'caf\xe9'", "convert the file", 'encoding_errors="replace"'],
    ),
    "a surrogate": (TABLE + b"\xed\xa0\x80 1 2\n", {}, 4, ["not UTF-8"]),
    "fewer than promised": (b"4 2\n" + TABLE, {}, 4, ["promises 4 rows", "ends after 3", "cut?"]),
    "none of the promised": (b"4 2\n", {}, 1, ["promises 4 rows", "ends after 0"]),
    "more than promised": (b"2 2\n" + TABLE, {}, 4, ["promises 2 rows", "the file has more"]),
    "no more than promised": (
        b"0 2\n" + TABLE,
        {},
        2,
        ["promises 0 rows", "the file has more"],
    ),
    "wider than the header": (b"3 1\n" + TABLE, {}, 2, ["1 value (says the header)", "found 2"]),
    "narrower than the header": (b"3 999999999\n" + TABLE, {}, 2, ["999999999 values", "found 2"]),
    "cut in a line": (
        TABLE + b"cut 7",
        {},
        4,
        ["found 1", "the file ends in this line; was it cut?"],
    ),
    "cut in a word": (b"4 2\n" + TABLE + b"cu", {}, 5, ["found 0", "the file ends in this line"]),
    "a repeat": (
        TABLE + b"like 7 8\n",
        {"on_duplicate": "error"},
        4,
        ["'like' already has id 1", "remove one of the two", 'on_duplicate="first"'],
    ),
    "no such unk": (
        TABLE,
        {"unk": "<u>"},
        None,
        ["'<u>' is not among the 3 words", "leave it out"],
    ),
}


@pytest.mark.parametrize("options", [{}, {"strategy": "div", "partitions": 2}], ids=["mod", "div"])
@pytest.mark.parametrize(("data", "own", "line", "says"), BAD.values(), ids=BAD)
def test_bad_file_is_refused(build, tmp_path, data, own, line, says, options):
    (tmp_path / "table.txt").write_bytes(data)
    with nothing_changes(tmp_path), pytest.raises(SourceError) as error:
        build(data, **own, **options)
    message = str(error.value)
    for part in says:
        assert part in message
    if line is not None:
        assert f"{tmp_path / 'table.txt'}:{line}: " in message
    assert "\n" not in message
    assert isinstance(error.value, ValueError)


def test_bad_file_leaves_the_target_unchanged(build, tmp_path):
    build(TABLE)
    for data, own, _, _ in BAD.values():
        (tmp_path / "table.txt").write_bytes(data)
        with nothing_changes(tmp_path), pytest.raises(SourceError):
            build(data, overwrite=True, **own)


def test_error_names_the_line_across_blocks(build, tmp_path):
    lines = [b"w%d 0.5 0.25\n" % i for i in range(400_000)]  # Two blocks of 4 MiB.
    lines[399_000] = b"broken 0.5 0.25x\n"
    with pytest.raises(SourceError, match=r"table\.txt:399001: value 2 is '0.25x'"):
        build(b"".join(lines))
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


def test_nan_and_inf_are_kept_and_counted(build):
    store = build(b"the 1 nan\nlike inf nan\nday 5 6\nunder -inf 1\n", partitions=3)
    assert store.source["non_finite_row_count"] == 3
    np.testing.assert_array_equal(
        store[:], [[1, np.nan], [np.inf, np.nan], [5, 6], [-np.inf, 1]], strict=False
    )
    assert build(TABLE, overwrite=True).source["non_finite_row_count"] == 0
    assert build(TABLE, overwrite=True, dtype="int8").source["non_finite_row_count"] == 0


@pytest.mark.parametrize(
    ("encoding_errors", "words"),
    [("replace", ["the", "caf\ufffd", "\ufffd\ufffd"]), ("ignore", ["the", "caf", ""])],
)
def test_words_that_are_not_utf_8(build, encoding_errors, words):
    data = b"the 1 2\ncaf\xe9 3 4\n\xff\xfe 5 6\n"
    store = build(data, encoding_errors=encoding_errors)
    assert store.words([0, 1, 2]) == words
    assert store[words[1]].tolist() == [3, 4]


def test_encoding_errors_is_checked(build):
    with pytest.raises(ValueError, match="encoding_errors must be "):
        build(TABLE, encoding_errors="surrogateescape")


def test_missing_last_newline_is_reported(build):
    assert build(TABLE).source["unterminated"] is False
    store = build(TABLE + b"last 7 8", overwrite=True)
    assert store.source["unterminated"] is True  # The number may be truncated.
    assert store["last"].tolist() == [7, 8]


def test_first_row_of_a_repeated_word_is_kept(build):
    data = b"the 1 1\nlike 2 2\nthe 3 3\nday 4 4\nlike 5 5\nthe 6 6\nend 7 7\n"
    store = build(data, partitions=2)
    assert store.words(range(4)) == ["the", "like", "day", "end"]
    assert store[:].tolist() == [[1, 1], [2, 2], [4, 4], [7, 7]]
    assert store.source["duplicate_count"] == 3


@pytest.mark.parametrize("header", [b"", b"7 1\n"], ids=["glove", "word2vec"])
def test_repeated_words_with_div(build, header):
    """The boundaries of div follow from the number of distinct words."""
    data = header + b"a 1\nb 2\na 3\na 4\nc 5\nd 6\ne 7\n"
    store = build(data, strategy="div", partitions=2)
    assert store.source["duplicate_count"] == 2
    assert [store.partition(p)[:].ravel().tolist() for p in range(2)] == [[1, 2, 5], [6, 7]]
    assert store[["a", "b", "c", "d", "e"]].ravel().tolist() == [1, 2, 5, 6, 7]


def test_repeated_word_is_caused_by_duplicate_word_error(build):
    with pytest.raises(SourceError) as error:
        build(TABLE + b"the 7 8\n", on_duplicate="error")
    assert isinstance(error.value.__cause__, DuplicateWordError)
    with pytest.raises(ValueError, match="on_duplicate must be"):
        build(TABLE, on_duplicate="last")


@pytest.mark.parametrize(
    ("words", "asked", "unk"),
    [
        (["a", "UNK", "<UNK>", "[UNK]", "<unk>"], None, "<unk>"),
        (["UNK", "[UNK]", "a"], None, "[UNK]"),
        (["<UNK>", "UNK"], None, "<UNK>"),
        (["a", "UNK"], None, "UNK"),
        (["a", "unk", "Unk"], None, None),
        (["a", "<unk>", "b"], "b", "b"),
        (["a", "", "b"], "", ""),
    ],
)
def test_unk_word(build, words, asked, unk):
    data = "".join(f"{word} {i}\n" for i, word in enumerate(words)).encode()
    store = build(data, unk=asked, partitions=2)
    assert store.unk == unk
    if unk is not None:
        assert store.lookup_words("zyzzyva", missing="unk").tolist() == [words.index(unk)]


def test_existing_target(build, tmp_path):
    build(TABLE).close()
    with (
        nothing_changes(tmp_path),
        pytest.raises(StoreExistsError, match="overwrite=True") as error,
    ):
        build(TABLE)
    assert str(tmp_path / "table.embstore") in str(error.value)
    assert isinstance(error.value, FileExistsError)
    assert build(b"new 7 8 9\n", overwrite=True)["new"].tolist() == [7, 8, 9]
    assert {path.name for path in tmp_path.iterdir()} == {"table.txt", "table.embstore"}


def make_other(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_text("mine")
        case "empty directory":
            path.mkdir()
        case "directory":
            path.mkdir()
            (path / "thesis.tex").write_text("mine")
        case "zarr group":
            zarr.create_group(path, attributes={"title": "mine"})
        case "zarr array":
            zarr.create_array(path, shape=3, dtype="int8")[:] = 1
        case "unreadable":
            path.mkdir()
            (path / "zarr.json").write_text("{")
        case "link to a store":
            real = embstore.build(path.parent / "table.txt", path.parent / "real.embstore")
            path.symlink_to(real.path)
        case "dangling link":
            path.symlink_to("nowhere")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        *("file", "empty directory", "directory", "zarr group", "zarr array", "unreadable"),
        *("link to a store", "dangling link"),
    ],
)
def test_target_that_is_not_a_store_is_never_replaced(build, tmp_path, kind, overwrite):
    (tmp_path / "table.txt").write_bytes(TABLE)
    make_other(tmp_path / "table.embstore", kind)
    with nothing_changes(tmp_path), pytest.raises(StoreExistsError) as error:
        build(TABLE, overwrite=overwrite)
    assert "will not be replaced; choose another path" in str(error.value)
    assert "overwrite=" not in str(error.value)


def test_damaged_store_is_replaced(build, tmp_path):
    build(TABLE).close()
    (tmp_path / "table.embstore" / "partitions" / "0" / "zarr.json").unlink()
    assert build(TABLE, overwrite=True)["day"].tolist() == [5, 6]


def test_target_in_a_missing_directory(tmp_path):
    (tmp_path / "table.txt").write_bytes(TABLE)
    with nothing_changes(tmp_path), pytest.raises(StoreNotFoundError, match="make it first"):
        embstore.build(tmp_path / "table.txt", tmp_path / "no" / "table.embstore")


@pytest.mark.parametrize("name", ["missing.txt", "missing.txt.gz", "missing.zip", "."])
def test_missing_source(tmp_path, name):
    with nothing_changes(tmp_path), pytest.raises(SourceError, match=r"no such file|not a file"):
        embstore.build(tmp_path / name, tmp_path / "table.embstore")


@pytest.mark.parametrize(
    "options",
    [{"dtype": "complex64"}, {"dtype": bool}, {"partitions": 0}, {"strategy": "hash"}],
)
def test_invalid_options_are_refused(build, tmp_path, options):
    (tmp_path / "table.txt").write_bytes(TABLE)
    with nothing_changes(tmp_path), pytest.raises(ValueError, match="must be"):
        build(TABLE, **options)
