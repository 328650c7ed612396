"""The words of Parquet and Arrow files: string types, the choice of the column, pandas indexes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import embstore
from embstore.errors import SourceError
from embstore.sources.choose import open_source
from tests.helpers.sources import read

WORDS = ["the", "", "na\u00efve", "\u65e5\u672c", "a b", "-"]
ROWS = np.arange(18, dtype=np.float32).reshape(6, 3)
VECTORS = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 3)


def write(folder: Any, table: Any) -> Any:
    """Write an Arrow file."""
    path = folder / "t.arrow"
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, 4)
    return path


def encoded(kind: Any) -> Any:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_text = is_text or pa.types.is_string_view(kind)
    return pa.array(WORDS if is_text else [word.encode() for word in WORDS], kind)


PLAIN = [
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view()),
]


@pytest.mark.parametrize("kind", PLAIN, ids=str)
@pytest.mark.parametrize("encoding", ["plain", "dictionary", "runs", "runs of dictionary"])
@pytest.mark.parametrize("name", ["word", "token", "key"])
def test_string_types(tmp_path, kind, encoding, name):
    words = encoded(kind)
    order = pa.array([0, 1, 2, 3, 4, 5], pa.int8())
    ends = pa.array([1, 2, 3, 4, 5, 6], pa.int32())
    if "dictionary" in encoding:
        words = pa.DictionaryArray.from_arrays(order, words)
    if "runs" in encoding:
        words = pa.RunEndEncodedArray.from_arrays(ends, words)
    table = pa.table({name: words, "id": range(6), "v": VECTORS})
    found, rows = read(table)
    assert found == WORDS
    assert rows.tobytes() == ROWS.tobytes()
    assert read(table.slice(2, 3))[0] == WORDS[2:5]
    if encoding == "runs of dictionary":
        return  # Arrow does not write these.
    assert read(write(tmp_path, table))[0] == WORDS


def test_words_of_a_fixed_size(tmp_path):
    words = pa.array([b"aa", b"bb", b"\xc3\xa9", b"cc", b"dd", b"ee"], pa.binary(2))
    expected = ["aa", "bb", "\u00e9", "cc", "dd", "ee"]
    assert read(pa.table({"word": words, "v": VECTORS}))[0] == expected
    table = pa.table({"hash": words, "v": VECTORS})
    with pytest.raises(
        SourceError, match=r"'hash' of bytes, which may be words or not; .*word_col"
    ):
        read(table)
    assert read(table, word_column="hash")[0] == expected
    assert read(table, word_column="")[0] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a", "b", "c", None, "d", "e"], "row 3: column 'word' is null"),
        (
            pa.DictionaryArray.from_arrays(
                pa.array([0, 1, 2, 3, 4, 5]), ["a", "b", "c", "d", None, "e"]
            ),
            "row 4: column 'word' is null",
        ),
        (
            pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 3, 4, 5]), pa.array(WORDS)),
            "row 2: column 'word' is null",
        ),
        (
            pa.RunEndEncodedArray.from_arrays([2, 5, 6], pa.array(["a", None, "b"])),
            "row 2: column 'word' is null",
        ),
        ([b"a", b"caf\xe9", b"c", b"d", b"e", b"f"], r"row 1: 'caf\\xe9' .* is not UTF-8"),
        (pa.array([b"a", b"b", b"\xed\xa0\x80", b"", b"", b""]).view(pa.string()), "row 2: .*UTF"),
        (pa.array([*WORDS[:5], None], pa.string_view()), "row 5: column 'word' is null"),
    ],
)
def test_invalid_words_are_refused(tmp_path, words, says):
    table = pa.table({"word": words, "v": VECTORS})
    with pytest.raises(SourceError, match=says):
        embstore.build(table, tmp_path / "s")
    with pytest.raises(SourceError, match=r"null|UTF-?8"):
        embstore.build(write(tmp_path, table), tmp_path / "s")


OTHERS = {
    "integers": pa.array(range(6)),
    "dates": pa.array(range(6), pa.date32()),
    "categories of integers": pa.array(range(6)).dictionary_encode(),
    "structs": pa.array([{"word": word} for word in WORDS]),
    "lists": pa.array([[word] for word in WORDS]),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1"] * 6)),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * 6, pa.binary(16))),
    "nulls": pa.nulls(6),
    "booleans": pa.array([True] * 6),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_types_are_not_words(kind):
    with pytest.raises(SourceError, match=r"'word' does not hold strings; .*word_column="):
        open_source(pa.table({"word": OTHERS[kind], "v": VECTORS}))
    table = pa.table({"key": OTHERS[kind], "v": VECTORS})
    with pytest.raises(SourceError, match=r"no column 'key' of strings, as word_column="):
        open_source(table, word_column="key")
    assert read(table)[0] is None
    for name in ("key.word", "none", "v"):
        with pytest.raises(SourceError, match=rf"no column '{name}' of strings"):
            open_source(table, word_column=name)


@pytest.mark.parametrize(
    ("names", "word_column", "chosen"),
    [
        (["token"], None, "token"),
        (["text", "word"], None, "word"),
        (["text", "key"], "key", "key"),
        (["text", "key"], None, "2 columns of strings; .*word_column="),
        (["Word", "WORD"], None, "2 columns of strings"),
        (["word", "word"], None, "2 columns 'word'"),
        (["key", "key"], "key", "2 columns 'key'"),
        (["text"], "", None),
        (["word", "word"], "", None),
    ],
)
def test_choice_of_the_column(tmp_path, names, word_column, chosen):
    arrays = [pa.array([f"{name}{place}{i}" for i in range(6)]) for place, name in enumerate(names)]
    table = pa.Table.from_arrays([*arrays, VECTORS], names=[*names, "v"])
    options = {} if word_column is None else {"word_column": word_column}
    for source in (table, write(tmp_path, table)):
        if chosen is not None and chosen not in names:
            with pytest.raises(SourceError, match=chosen):
                read(source, **options)
        else:
            words = read(source, **options)[0]
            assert words == (None if chosen is None else arrays[names.index(chosen)].to_pylist())


def test_column_of_rows_twice():
    table = pa.Table.from_arrays([VECTORS, VECTORS], names=["v", "v"])
    for options in ({}, {"column": "v"}):
        with pytest.raises(SourceError, match="2 columns"):
            read(table, **options)


def test_text_beside_bytes_is_the_words():
    image = pa.array([b"\x89PNG"] * 6)
    assert read(pa.table({"image": image, "title": WORDS, "v": VECTORS}))[0] == WORDS
    with pytest.raises(SourceError, match=r"row 0: .*PNG.* is not UTF-8.*word_column=\"\""):
        read(pa.table({"image": image, "v": VECTORS}))


def test_repeated_words_that_were_not_named_matter():
    table = pa.table({"language": ["en"] * 6, "v": VECTORS})
    assert open_source(table).ids_matter
    assert not open_source(table, word_column="language").ids_matter
    assert not open_source(table.rename_columns(["word", "v"])).ids_matter


INDEXES: dict[str, tuple[Any, Any]] = {
    "strings": (WORDS, WORDS),
    "the default": (None, None),
    "positions": ([0, 1, 2, 3, 4, 5], None),
    "permuted": ([1, 0, 2, 3, 4, 5], "row 0: the index of the pandas frame is 1;"),
    "repeated": ([0, 1, 1, 3, 4, 5], "row 2: the index of the pandas frame is 1;"),
    "floats": ([0.5, 1, 2, 3, 4, 5], "row 0: the index of the pandas frame is 0.5"),
    "a later range": (range(10, 16), "a range from 10 in steps of 1"),
    "a reversed range": (range(5, -1, -1), "a range from 5 in steps of -1"),
    "two levels": ([WORDS, range(6)], "an index of 2 levels"),
}


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.parametrize("name", [None, "token"])
@pytest.mark.parametrize("is_wide", [False, True])
def test_pandas_indexes(tmp_path, kind, name, is_wide):
    pandas = pytest.importorskip("pandas")
    values, expected = INDEXES[kind]
    index = pandas.RangeIndex(6) if values is None else pandas.Index(values)
    if kind == "a later range":
        index = pandas.RangeIndex(10, 16)
    elif kind == "a reversed range":
        index = pandas.RangeIndex(5, -1, -1)
    elif kind == "two levels":
        index = pandas.MultiIndex.from_arrays(values)
    elif name is not None:
        index.name = name
    frame = pandas.DataFrame(ROWS) if is_wide else pandas.DataFrame({"v": list(ROWS)})
    frame.index = index
    frame.columns = frame.columns.astype(str)
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    for source in (frame, path):
        if isinstance(expected, str):
            with pytest.raises(SourceError, match=expected):
                read(source)
            assert read(source, word_column="")[1].tobytes() == ROWS.tobytes()
            # Words make the ids unimportant.
            with_words = frame.assign(word=WORDS)
            assert read(with_words)[0] == WORDS
        else:
            words, rows = read(source)
            assert words == expected
            assert rows.tobytes() == ROWS.tobytes()


def test_indexes_of_parts_continue_or_start_again(tmp_path):
    pandas = pytest.importorskip("pandas")
    for start in (0, 6):
        for index in (
            pandas.RangeIndex(start, start + 6),
            pandas.Index([*range(start, start + 6)]),
        ):
            folder = tmp_path / f"{start}-{type(index).__name__}"
            folder.mkdir()
            pandas.DataFrame({"v": list(ROWS)}).to_parquet(folder / "0.parquet")
            frame = pandas.DataFrame({"v": list(ROWS)}, index=index)
            frame.to_parquet(folder / "1.parquet")
            assert len(read(folder)[1]) == 12
    frame.index = pandas.Index([*range(7, 13)])
    frame.to_parquet(folder / "1.parquet")
    with pytest.raises(SourceError, match=r"1\.parquet: row 0: the index of the pandas frame is 7"):
        read(folder)


def test_broken_pandas_metadata_is_ignored(tmp_path):
    for metadata in (b"{", b"[]", b'{"index_columns": 7}', b'{"index_columns": [["v"], 1, null]}'):
        table = pa.table({"v": VECTORS}).replace_schema_metadata({b"pandas": metadata})
        parquet.write_table(table, tmp_path / "t.parquet")
        assert read(tmp_path / "t.parquet")[1].tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("name", ["id", "item_id", "itemId", "ID", "token id", "idx", "index"])
def test_a_column_of_ids_numbers_the_rows(tmp_path, name):
    in_order = pa.table({name: range(6), "v": VECTORS})
    parquet.write_table(in_order, tmp_path / "t.parquet")
    for source in (in_order, [in_order.slice(0, 2), in_order.slice(2)], tmp_path / "t.parquet"):
        assert read(source)[1].tobytes() == ROWS.tobytes()
    for ids, row, found in (
        ([1, 2, 3, 4, 5, 6], 0, "1"),
        ([0, 1, 2, 3, 5, 4], 4, "5"),
        ([0, 1, 1, 3, 4, 5], 2, "1"),
        ([0, None, 2, 3, 4, 5], 1, "None"),
    ):
        table = pa.table({name: pa.array(ids), "v": VECTORS})
        says = f"row {row}: the column '{name}' has {found}; expected {row}, because rows get ids"
        with pytest.raises(SourceError, match=says):
            read(table)
        assert read(table, word_column="")[1].tobytes() == ROWS.tobytes()


def test_ids_of_parts_continue():
    part = pa.table({"id": range(6), "v": VECTORS})
    with pytest.raises(SourceError, match=r"list\[1\]: row 0: the column 'id' has 0; expected 6"):
        read([part, part])


@pytest.mark.parametrize(
    "others",
    [
        {"word": list("abcdef"), "id": [5, 4, 3, 2, 1, 0]},  # Rows are found by their words.
        {"user_id": [1] * 6, "item_id": [2] * 6},
        {"paid": [2] * 6},
        {"id": [0.5] * 6},
        {"id": pa.array([[7]] * 6, pa.list_(pa.date32()))},
    ],
)
def test_other_columns_are_not_ids(others):
    assert read(pa.table({"v": VECTORS, **others}))[1].tobytes() == ROWS.tobytes()


def test_a_wide_table_with_ids():
    table = pa.table({"item_id": range(6), "d0": ROWS[:, 0], "d1": ROWS[:, 1]})
    assert read(table)[1].tobytes() == np.ascontiguousarray(ROWS[:, :2]).tobytes()
    table = table.set_column(0, "item_id", pa.array([1, 2, 3, 4, 5, 6]))
    with pytest.raises(SourceError, match="'item_id' has 1; expected 0"):
        read(table)
    assert read(table, word_column="")[1].shape == (6, 2)
