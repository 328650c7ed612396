"""Tables with a column for each dimension, in files and in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import embstore
from embstore.errors import SourceError
from tests.helpers.sources import assert_same, read

ROWS = np.random.default_rng(0).standard_normal((7, 12)).astype(np.float32)
WORDS = [f"w{i}" for i in range(7)]


def wide(names: list[str], rows: Any = ROWS, **columns: Any) -> Any:
    """Return a table with a column for each name."""
    numbers = {name: rows[:, i] for i, name in enumerate(names)}
    return pa.table({**numbers, **columns})


@pytest.mark.parametrize(
    "names",
    [
        [str(i) for i in range(12)],
        [f"dim_{i}" for i in range(12)],
        [f"v{i}" for i in range(1, 13)],
        [f"{i:03d}" for i in range(12)],
        [f"bert2_{i}" for i in range(12)],
        [f"emb[{i}]" for i in range(12)],
        ["x", "y"],
        list("abcdefgh"),
        ["0"],
    ],
)
@pytest.mark.parametrize("words", [None, "word", "token"])
def test_columns_of_dimensions(tmp_path, names, words):
    table = wide(names, **({} if words is None else {words: WORDS}))
    parquet.write_table(table, tmp_path / "t.parquet")
    with ipc.new_file(tmp_path / "t.arrow", table.schema) as writer:
        writer.write_table(table, 3)
    for source in (table, tmp_path / "t.parquet", tmp_path / "t.arrow"):
        found, rows = read(source)
        assert_same(rows, ROWS[:, : len(names)])
        assert found == (None if words is None else WORDS)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (wide(["id", "a", "b"], np.arange(21).reshape(7, 3)), "column 'a' may not be a dim"),
        (wide(["a", "b"], ROWS, count=np.arange(7)), "column 'count' may not be a dimension"),
        (wide(["a", "b"], ROWS, age=np.arange(7)), "column 'age' may not be a dimension"),
        (wide(["a", "score"]), "column 'score' may not be a dimension"),
        (wide(["d0", "d1", "freq"]), "do not count up one by one"),
        (wide(["index", "d0", "d1"]), "do not count up one by one"),
        (wide(["d0", "d1", "d3"]), "do not count up one by one"),
        (wide(["0", "1", "10", "2"]), "do not count up one by one"),
        (wide(["d1", "d0"]), "do not count up one by one"),
        (wide(["x0", "x1", "y0", "y1"]), "do not count up one by one"),
        (wide(["d5", "d6", "d7"]), "count from 5; expected 0 or 1"),
        (wide(["v"]), "'v' may hold numbers or vectors of one number"),
        (wide(["d0", "d1"], ROWS, d2=[True] * 7), "'d2' is not a dimension: it does not hold"),
        (wide(["d0", "d1"], ROWS, day=pa.array(range(7), pa.date32())), "'day' is not a dimension"),
        (pa.table({"word": WORDS}), "nor columns of numbers"),
        (wide(["a", "b"], np.arange(14).reshape(7, 2)), "column 'a' may not be a dimension"),
        (pa.table([ROWS[:, 0]] * 2, names=["a", "a"]), "2 columns 'a'"),
    ],
)
def test_doubtful_columns_are_refused(table, says):
    with pytest.raises(SourceError, match=says):
        read(table)


def test_a_named_column_holds_single_numbers():
    table = wide(["a", "score"], word=WORDS)
    words, rows = read(table, column="score")
    assert words == WORDS
    assert_same(rows, ROWS[:, 1])
    with pytest.raises(SourceError, match="no column 'word' of lists of numbers"):
        read(table, column="word")


@pytest.mark.parametrize(
    ("dtypes", "common"),
    [
        (("float16", "float32"), "float32"),
        (("int8", "float32"), "float32"),
        (("int32", "float32"), "float64"),
        (("int64", "float64"), "float64"),
        (("int8", "uint8"), "int16"),
        (("uint64", "uint8"), "uint64"),
    ],
)
def test_dimensions_of_other_dtypes(dtypes, common):
    columns = {str(i): np.array([0, 1, 100]).astype(dtype) for i, dtype in enumerate(dtypes)}
    expected = np.array([[0, 0], [1, 1], [100, 100]]).astype(common)
    assert_same(read(pa.table(columns))[1], expected)


def test_integers_that_the_common_dtype_does_not_hold_are_refused(tmp_path):
    columns = {"0": np.array([0, 2**53 + 1]), "1": np.array([0.5, 1])}
    with pytest.raises(SourceError, match="row 1: float64 does not hold 9007199254740993, an int6"):
        embstore.build(pa.table(columns), tmp_path / "s")
    columns["1"] = np.array([1, 2], np.uint64)
    with pytest.raises(SourceError, match="no dtype holds int64 and uint64"):
        embstore.build(pa.table(columns), tmp_path / "s")


@pytest.mark.parametrize("null", [0, 6])
def test_nulls_are_refused(null):
    values = ROWS[:, 1].tolist()
    values[null] = None
    with pytest.raises(SourceError, match=f"row {null}: column '1' is null"):
        read(pa.table({"0": ROWS[:, 0], "1": pa.array(values, pa.float32())}))


def test_parts(tmp_path):
    names = [f"d{i}" for i in range(12)]
    table = wide(names, word=WORDS)
    parquet.write_table(table, tmp_path / "0.parquet")
    parquet.write_table(table.select(table.schema.names[::-1]), tmp_path / "1.parquet")
    words, rows = read(tmp_path)
    assert words == WORDS * 2
    assert_same(rows, np.concatenate([ROWS, ROWS]))
    for other, says in (
        (table.append_column("d12", [ROWS[:, 0]]), "has a column 'd12', which .*0.parquet lacks"),
        (table.drop_columns(["d3"]), "no column 'd3', which .*0.parquet has"),
        (table.append_column("count", [np.arange(7)]), "has a column 'count'"),
    ):
        parquet.write_table(other, tmp_path / "1.parquet")
        with pytest.raises(SourceError, match=says):
            read(tmp_path)
