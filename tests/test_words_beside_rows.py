"""``words=``: the words of rows, from objects and from files, with and without ids."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.errors import DuplicateWordError, SourceError
from embstore.sources.words import word_files
from embstore.sources.words.word_objects import list_words
from tests.helpers.sources import read

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = ["the", "of", "New York", "naïve", "日本", "7"]
ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)
IDS = {"naïve": 3, "7": 5, "the": 0, "New York": 2, "of": 1, "日本": 4}
SHUFFLED = list(IDS)


class Vocabulary:
    """What torchtext, tokenizers and Keras have: a method that returns the words."""

    def __init__(self, method: str, found: Any) -> None:
        setattr(self, method, lambda: found)


OBJECTS: dict[str, Callable[[], Any]] = {
    "tuple": lambda: tuple(WORDS),
    "generator": lambda: (word for word in WORDS),
    "map": lambda: map(str, WORDS),
    "keys of a dict": lambda: dict.fromkeys(WORDS, 0).keys(),
    "values of a dict": lambda: dict(enumerate(WORDS)).values(),
    "endless iterator cut by rows": lambda: itertools.islice(itertools.cycle(WORDS), 6),
    "ids": lambda: IDS,
    "NumPy ids": lambda: {word: np.uint8(number) for word, number in IDS.items()},
    "words by id": lambda: {number: word for word, number in IDS.items()},
    "texts": lambda: np.array(WORDS),
    "objects": lambda: np.array(WORDS, object),
    "variable texts": lambda: np.array(WORDS, np.dtypes.StringDType()),
    "bytes": lambda: np.array([word.encode() for word in WORDS]),
    "list of bytes": lambda: [word.encode() for word in WORDS],
    "Arrow": lambda: pa.array(WORDS),
    "Arrow view": lambda: pa.array(WORDS, pa.string_view()),
    "Arrow dictionary": lambda: pa.array(WORDS).dictionary_encode(),
    "Arrow chunks": lambda: pa.chunked_array([WORDS[:2], [], WORDS[2:]]),
    "Arrow binary": lambda: pa.array([word.encode() for word in WORDS]),
    "torchtext": lambda: Vocabulary("get_itos", WORDS),
    "tokenizers": lambda: Vocabulary("get_vocab", IDS),
    "Keras": lambda: Vocabulary("get_vocabulary", WORDS),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_of_words(kind):
    words, rows = read(ROWS, words=OBJECTS[kind]())
    assert words == WORDS
    np.testing.assert_array_equal(rows, ROWS)


def test_words_may_have_nulls_inside():
    words = ["a\0b", "\0", "a"]
    assert read(ROWS[:3], words=words)[0] == words
    assert read(ROWS[:3], words=pa.array(words))[0] == words


def test_series_of_words():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    for words in (
        pandas.Series(WORDS),
        pandas.Series(WORDS, index=list("uvwxyz")),
        pandas.Series(WORDS, dtype="category"),
        pandas.Series(WORDS, index=range(10, 16), dtype="string"),
        pandas.Index(WORDS),
        pandas.DataFrame({"word": WORDS})["word"],
        polars.Series(WORDS),
        polars.Series(WORDS, dtype=polars.Categorical),
    ):
        assert read(ROWS, words=words)[0] == WORDS
    shuffled = pandas.Series(IDS).reset_index().set_index(0)["index"]
    with pytest.raises(TypeError, match=r"pass words.sort_index\(\) or words.to_list\(\)"):
        read(ROWS, words=shuffled)
    assert read(ROWS, words=shuffled.sort_index())[0] == WORDS
    for bad in (
        pandas.DataFrame({"the": WORDS, "of": WORDS}),
        polars.DataFrame({"word": WORDS}),
        pa.table({"word": WORDS}),
        pandas.Series(IDS),
        pandas.Series([*WORDS[:5], None]),
        polars.Series([*WORDS[:5], None]),
        pa.array([*WORDS[:5], None]),
        pandas.MultiIndex.from_tuples([(word, 1) for word in WORDS]),
    ):
        with pytest.raises(TypeError, match=r"pass its column of words|words must be str, not"):
            read(ROWS, words=bad)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (set(WORDS), "is a set, which has no order; pass a list"),
        (frozenset(WORDS), "is a frozenset, which has no order"),
        (set(WORDS) & IDS.keys(), "is a set, which has no order"),
        (b"the of", "must be the path of a file of words, a list of str, .* not bytes"),
        (bytearray(b"the"), "not bytearray"),
        (7, "not int"),
        (True, "not bool"),
        (3.5, "not float"),
        ([*WORDS[:5], None], "words must be str, not NoneType; found one at position 5"),
        ([*WORDS[:5], 7], "words must be str, not int; found one at position 5"),
        ([b"the", *WORDS[1:]], "words must be str, not bytes; found one at position 0"),
        ([("the", 1), ("of", 2)], "words must be str, not tuple"),
        (IDS.items(), "words must be str, not tuple"),
        (np.array("the"), r"of shape \(\); expected one dimension"),
        (np.array([WORDS, WORDS]), r"of shape \(2, 6\); expected one dimension"),
        (np.arange(6), "words must be str, not int64"),
        (np.ma.masked_array(np.array(WORDS), np.arange(6) == 2), "has masked items"),
        (io.StringIO("the\nof\n"), "opened as text; .* pass its path"),
        (IDS | {"the": 0.0}, r"the id of 'the' must be an integer, not 0\.0 \(float\)"),
        (IDS | {"of": True}, r"the id of 'of' must be an integer, not True \(bool\)"),
        (IDS | {"of": "1"}, "the id of 'of' must be an integer, not '1'"),
        ({"the": ["a"]}, "the id of 'the' must be an integer"),
        ({1.5: "the"}, "the id of 'the' must be an integer"),
        ({1: 2}, "must be {word: id}, not {int: int}"),
    ],
)
def test_objects_of_something_else_are_type_errors(tmp_path, words, says):
    with pytest.raises(TypeError, match=says):
        embstore.build(ROWS, tmp_path / "s", words=words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (IDS | {"of": 3}, "'naïve' and 'of' both have id 3; give each id once"),
        (IDS | {"of": 6}, "expected ids 0 to 5, each once; no word has id 1, and 'of' has id 6"),
        (IDS | {"of": -1}, "the id of 'of' must be 0 or more, not -1"),
        ({word: number + 1 for word, number in IDS.items()}, "no word has id 0, and '7' has id 6"),
        (
            {"the": 0, "of": 1},
            "words has 2 words, but ndarray has 6 rows.*array of the first 2",
        ),
        ({f"w{i}": i for i in range(9)}, "words has more than 6 words"),
        (WORDS[:5], "words has 5 words"),
        ([], "words has 0 words"),
        ({}, "words has 0 words"),
        ([*WORDS, "more"], "words has more than 6 words"),
        (map(str, itertools.count()), "words has more than 6 words"),
        ([b"caf\xe9"] * 6, "the word at position 0 is not UTF-8"),
        (["\ud800", *WORDS[1:]], "cannot be encoded as UTF-8"),
        ("the", "no such file: the; words= takes the path of a file of words, a list of str"),
        ("https://example.org/vocab.txt", "is a URL; download the file"),
    ],
)
def test_words_that_do_not_fit_are_refused(tmp_path, words, says):
    with pytest.raises((SourceError, ValueError), match=says):
        embstore.build(ROWS, tmp_path / "s", words=words)
    assert list(tmp_path.iterdir()) == []


def test_words_of_an_empty_table_are_none():
    assert list_words({}) == list_words(()) == []


def tokenizer(vocabulary: Any, added: Any = ()) -> str:
    return json.dumps({"version": "1.0", "added_tokens": added, "model": {"vocab": vocabulary}})


def with_ids(separator: str, *, first: bool = False) -> str:
    lines = ((str(number), word) if first else (word, str(number)) for word, number in IDS.items())
    return "".join(separator.join(line) + "\n" for line in lines)


FOUR = {word: number for word, number in IDS.items() if number < 4}
ADDED = [{"id": 5, "content": "7"}, {"id": 4, "content": "日本"}, {"id": 0, "content": "the"}]
SCORES = [
    *(f"{word}\t0\n" for word in WORDS[:2]),
    *(f"{word}\t-{i}.5\n" for i, word in enumerate(WORDS[2:])),
]
FILES = {
    "lines.txt": "".join(f"{word}\n" for word in WORDS),
    "windows.txt": "\r\n".join(WORDS),
    "empty-lines.txt": "\n".join(WORDS) + "\n\n\r\n\n",
    "mark.txt": "\ufeff" + "\n".join(WORDS),
    "vocab.json": json.dumps(IDS),
    "spaces.json": json.dumps(IDS, indent=2, ensure_ascii=False),
    "mark.json": "\ufeff" + json.dumps(IDS),
    "json.txt": json.dumps(IDS),
    "list.json": json.dumps(WORDS, indent=1),
    "by-id.json": json.dumps({str(number): word for word, number in IDS.items()}),
    "pairs.json": json.dumps(list(IDS.items())),
    "wordpiece/tokenizer.json": tokenizer(IDS),
    "unigram/tokenizer.json": tokenizer([[word, -float(i)] for i, word in enumerate(WORDS)]),
    "added/tokenizer.json": tokenizer(FOUR, ADDED),
    "entity2id.txt": "6\n" + with_ids("\t"),
    "blanks2id.txt": "6\n" + with_ids(" "),
    "no-count.txt": with_ids("\t"),
    "no-count-blanks.txt": with_ids("   "),
    "id-first.tsv": with_ids("\t", first=True),
    "id-first-blank.txt": with_ids(" ", first=True),
    "id-last.csv": with_ids(","),
    "header.tsv": "entity\tid\n" + with_ids("\t"),
    "header.csv": "id,word\n" + with_ids(",", first=True),
    "windows-ids.txt": ("6\n" + with_ids("\t")).replace("\n", "\r\n"),
    "pieces.vocab": "".join(SCORES),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_words(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(FILES[name].encode())
    np.save(tmp_path / "rows.npy", ROWS)
    for source in (ROWS, tmp_path / "rows.npy"):
        words, rows = read(source, words=path)
        assert words == WORDS
        np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize("name", ["vocab.json", "entity2id.txt", "lines.txt"])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, "zip"])
def test_compressed_files_of_words(tmp_path, name, compress):
    data = FILES[name].encode()
    if compress == "zip":
        path = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, data)
    else:
        suffix = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[compress]
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(compress(data))
    assert read(ROWS, words=str(path))[0] == WORDS


@pytest.mark.parametrize("first", ["[PAD]", "{", '"', "[", "[UNK", "# x", "10 km", "a\tb", "a 1"])
def test_first_words_that_look_like_another_format(tmp_path, first):
    words = [first, *WORDS[1:]]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert read(ROWS, words=tmp_path / "vocab.txt")[0] == words


def test_words_that_are_numbers_are_words(tmp_path):
    words = ["3", "0", "2", "1", "1.5", "-7"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert read(ROWS, words=tmp_path / "vocab.txt")[0] == words


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("counts.txt", "the 900\nof 80\na 80\nto 7\nin 6\nis 5\n", "'the 900' is not one word"),
        ("counts.tsv", "the\t900\nof\t80\na\t80\nto\t7\nin\t6\nis\t5\n", "in a table, expected"),
        ("metadata.tsv", "Word\tCount\n" + "a\t3\n" * 6, "Pass the words as a list"),
        ("tags.tsv", "the\tDET\nof\tADP\na\tDET\nto\tADP\nin\tADP\nis\tV\n", "is not one word"),
        ("three.tsv", "the\t0\tx\n" * 6, "is not one word"),
        ("vectors.txt", "the 0.5 1.5\n" * 6, "is not one word"),
        ("from-one.txt", "a\t1\nb\t2\nc\t3\nd\t4\ne\t5\nf\t6\n", "each id from 0 to 5 once"),
        ("both.txt", "1\t0\n0\t1\n3\t2\n2\t3\n5\t4\n4\t5\n", "both fields could be the ids"),
        ("cut.txt", "9\n" + with_ids("\t"), r"cut\.txt:1: expected 6, the number of lines"),
        ("a.tiktoken", "IQ== 0\nIg== 1\nIw== 2\nJA== 3\nJQ== 4\nJg== 5\n", "tokens in Base64"),
        ("twice.txt", "a\t0\nb\t0\nc\t1\nd\t2\ne\t3\nf\t4\n", "each id from 0 to 5 once"),
        ("gap.json", json.dumps(IDS | {"of": 9}), r"gap\.json: expected ids 0 to 5"),
        ("same.json", json.dumps(IDS | {"of": 0}), r"'the' and 'of' both have id 0"),
        ("twice.json", '{"the": 0, "of": 1, "the": 1}', "the name 'the' is there 2 times"),
        ("true.json", json.dumps(IDS | {"of": True}), "must be an integer, not True"),
        ("float.json", json.dumps(IDS | {"of": 1.0}), "must be an integer"),
        ("nested.json", json.dumps({"vocab": IDS}), "the id of 'vocab' must be an integer"),
        ("cut.json", json.dumps(IDS)[:-9], "cannot be read as JSON"),
        ("lines.json", "\n".join(WORDS), "cannot be read as JSON.*pass them as a list"),
        ("rows.json", '{"w": "the"}\n{"w": "of"}\n', "cannot be read as JSON"),
        ("number.json", "7", "expected words with their ids, a tokenizer.json or a list"),
        ("null.json", "null", "expected words with their ids, a tokenizer.json or a list"),
        ("records.json", '[{"word": "the", "id": 0}]', "expected words with their ids"),
        ("mixed.json", '["the", 1]', "expected words with their ids"),
        ("scores.json", '[["the", -1.5], ["of", -2.5]]', "must be an integer"),
        ("texts.json", '{"the": "0", "of": "1"}', "expected words with their ids"),
        ("deep.json", "[" * 100_000, "cannot be read as JSON"),
        ("digits.json", '{"a": ' + "9" * 9000 + "}", "cannot be read as JSON"),
        ("surrogate.json", '["\\ud800"' + ', "a"' * 5 + "]", "cannot be encoded as UTF-8"),
        ("model.json", '{"model": {"vocab": 3}}', "expected words with their ids"),
        ("model2.json", '{"model": {}}', "expected words with their ids"),
        ("agree.json", tokenizer(IDS, [{"id": 9, "content": "of"}]), "'of' has id 1 in model"),
        ("agree2.json", tokenizer(IDS, [{"id": 1, "content": "x"}]), "both have id 1"),
        ("added.json", tokenizer(IDS, [{"id": 9}]), "expected words with their ids"),
        ("added2.json", tokenizer(IDS, [3]), "expected words with their ids"),
        ("piece.json", tokenizer([["a", 0], ["a", -1]]), "is there twice"),
        ("padded.json", json.dumps({"the": 0, "of": 1}), "has 2 words, but ndarray has 6 rows"),
        ("empty.txt", "", "has 0 words"),
        ("more-empty.txt", "a\nb\nc" + "\n" * 9, "has more than 6 words"),
    ],
)
def test_files_that_are_unclear_are_refused(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=says) as error:
        embstore.build(ROWS, tmp_path / "s", words=tmp_path / name)
    assert "surrogate" in name or name in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bytes_in_a_file_with_ids_that_are_no_text(tmp_path):
    (tmp_path / "w.txt").write_bytes(b"2\nthe\t1\ncaf\xe9\t0\n")
    with pytest.raises(SourceError, match=r"w\.txt:3: the word is not UTF-8"):
        read(ROWS[:2], words=tmp_path / "w.txt")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["lines.txt", "entity2id.txt", "no-count.txt", "vocab.json"])
def test_files_of_words_in_other_encodings(tmp_path, name, encoding):
    text = FILES[name]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / name).write_bytes((mark + text).encode(encoding))
    assert read(ROWS, words=tmp_path / name)[0] == WORDS


def test_words_that_end_in_carriage_returns(tmp_path):
    (tmp_path / "w.txt").write_bytes("\r".join(WORDS).encode())
    assert read(ROWS, words=tmp_path / "w.txt")[0] == WORDS


@pytest.mark.parametrize("name", ["w.npy", "w.parquet", "w.pkl", "w.html", "w.txt", "w.bin"])
def test_files_of_other_kinds_are_no_words(tmp_path, name):
    path = tmp_path / name
    if name == "w.npy":
        np.save(path, np.array(WORDS))
    elif name == "w.parquet":
        from pyarrow import parquet

        parquet.write_table(pa.table({"word": WORDS}), path)
    elif name == "w.pkl":
        path.write_bytes(pickle.dumps(WORDS))
    elif name == "w.html":
        path.write_bytes(b"<!DOCTYPE html>\n<html>\n<head>\n</head>\n<body>\n</html>\n")
    elif name == "w.txt":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    else:
        path.write_bytes(bytes(6))
    with pytest.raises(SourceError, match=rf"{name} is "):
        embstore.build(ROWS[:3], tmp_path / "s", words=path)
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_lines_beyond_the_first_bytes_must_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(word_files, "_LOOKED_AT_BYTES", 16)
    (tmp_path / "w.txt").write_text(with_ids("\t"))
    assert read(ROWS, words=tmp_path / "w.txt")[0] == WORDS
    (tmp_path / "w.txt").write_text(with_ids("\t").replace("of\t1", "of"))
    with pytest.raises(SourceError, match=r"w\.txt:1: 'naïve.*' is not one word alone"):
        read(ROWS, words=tmp_path / "w.txt")


def test_a_file_that_is_too_large_for_a_vocabulary(tmp_path, monkeypatch):
    monkeypatch.setattr(word_files, "MAX_BYTES", 16)
    (tmp_path / "w.json").write_text(json.dumps(IDS))
    with pytest.raises(SourceError, match="too much for a vocabulary"):
        read(ROWS, words=tmp_path / "w.json")


def test_a_repeated_word_beside_lines_of_numbers_is_an_error(tmp_path):
    (tmp_path / "m.txt").write_text("".join(f"{a} {b}\n" for a, b in ROWS))
    assert read(tmp_path / "m.txt", words=WORDS)[0] == WORDS
    with pytest.raises(SourceError, match="the word 'the' already has id 0"):
        embstore.build(tmp_path / "m.txt", tmp_path / "s", words=REPEATED)


REPEATED = ["the", "of", "the", "naïve", "日本", "7"]


@pytest.mark.parametrize("kind", ["array", "tensor", "npy", "npz", "partitions", "directory"])
def test_a_repeated_word_beside_ids_is_an_error(tmp_path, kind):
    if kind == "tensor":
        torch = pytest.importorskip("torch")
    folder = tmp_path / "folder"
    folder.mkdir()
    options: dict[str, Any] = {"words": REPEATED}
    if kind == "array":
        source: Any = ROWS
    elif kind == "tensor":
        source = torch.from_numpy(ROWS)
    elif kind == "npy":
        source = tmp_path / "r.npy"
        np.save(source, ROWS)
    elif kind == "npz":
        source = tmp_path / "r.npz"
        np.savez(source, ROWS)
    elif kind == "partitions":
        source = [ROWS[::2], ROWS[1::2]]
        options["partition_strategy"] = "mod"
    else:
        source = folder
        np.save(folder / "0.npy", ROWS[:4])
        np.save(folder / "1.npy", ROWS[4:])
    with pytest.raises(SourceError, match="row 2: the word 'the' already has id 0") as error:
        embstore.build(source, tmp_path / "s", **options)
    assert "lowers later ids" in str(error.value)
    assert isinstance(error.value.__cause__, DuplicateWordError)
    assert not (tmp_path / "s").exists()
    # Asked for, later rows move up.
    with embstore.build(source, tmp_path / "s", on_duplicate="first", **options) as store:
        np.testing.assert_array_equal(store[:], np.delete(ROWS, 2, axis=0))
        assert store.source["duplicate_count"] == 1


def test_a_repeated_word_of_gensim_vectors_is_an_error(tmp_path):
    class KeyedVectors:
        index_to_key = REPEATED
        vectors = ROWS

    with pytest.raises(SourceError, match="the word 'the' already has id 0"):
        embstore.build(KeyedVectors(), tmp_path / "s")
    with pytest.raises(SourceError, match="the word 'the' already has id 0"):
        embstore.build(KeyedVectors(), tmp_path / "s", limit=4)


@pytest.mark.parametrize("kind", ["text", "pairs", "blocks"])
def test_where_rows_are_only_words_the_first_wins(tmp_path, kind):
    rows = np.delete(ROWS, 2, axis=0)
    lines = "".join(f"{word} {a} {b}\n" for word, (a, b) in zip(REPEATED, ROWS, strict=True))
    (tmp_path / "t.txt").write_text(lines)
    source: Any = {
        "text": tmp_path / "t.txt",
        "pairs": list(zip(REPEATED, ROWS, strict=True)),
        "blocks": [(REPEATED, ROWS)],
    }[kind]
    with embstore.build(source, tmp_path / "s") as store:
        np.testing.assert_array_equal(store[:], rows)
    with pytest.raises(SourceError, match="already has id 0"):
        embstore.build(source, tmp_path / "t", on_duplicate="error")


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t")), min_size=1),
    data=st.data(),
)
def test_any_words_with_ids(words, data):
    words = [f"{word}x" for word in words]
    ids = data.draw(st.permutations(range(len(words))))
    expected = [word for _, word in sorted(zip(ids, words, strict=True))]
    by_id = dict(zip(ids, words, strict=True))
    assert list_words(by_id) == expected
    lines = [f"{word}\t{number}\n" for number, word in by_id.items()]
    count = data.draw(st.sampled_from([f"{len(words)}\n", ""]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w"
        for text in (count + "".join(lines), json.dumps(by_id)):
            path.write_bytes(text.encode())
            assert read(np.zeros((len(words), 1)), words=path)[0] == expected
