"""Frames of pandas and polars, and Arrow tables, arrays and readers in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import dataset, parquet

import embstore
from embstore.errors import SourceError
from embstore.sources.arrow import pandas_frames
from tests.helpers.sources import assert_same, read

WORDS = [f"w{i}" for i in range(8)]
ROWS = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
LISTS = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 5)
TABLE = pa.table({"word": WORDS, "v": LISTS})


class Query:
    """An object of another library that hands out its rows as Arrow."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Column:
    """An array of another library."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return LISTS.__arrow_c_array__(requested_schema)


ARROW = {
    "table": lambda: TABLE,
    "record batch": lambda: TABLE.to_batches()[0],
    "reader": lambda: TABLE.to_reader(3),
    "struct array": lambda: pa.StructArray.from_arrays([WORDS, LISTS], names=["word", "v"]),
    "data set": lambda: dataset.dataset(TABLE),
    "scanner": lambda: dataset.dataset(TABLE).scanner(),
    "stream": lambda: Query(TABLE),
    "stream of lists": lambda: Query(pa.table({"word": WORDS, "v": ROWS.tolist()})),
    "array": lambda: LISTS,
    "chunked array": lambda: TABLE.slice(0, 8)["v"],
    "array of another library": Column,
}


@pytest.mark.parametrize("kind", ARROW)
def test_arrow_objects(tmp_path, kind):
    store = embstore.build(ARROW[kind](), tmp_path / "s", partitions=2)
    np.testing.assert_array_equal(store[:].astype(np.float32), ROWS)
    assert store.has_words == ("array" not in kind or kind == "struct array")
    if store.has_words:
        assert store.words(range(8)) == WORDS
    assert read(ARROW[kind](), limit=3)[1].shape == (3, 5)


def test_streams_are_read_once(tmp_path):
    for source in (TABLE.to_reader(), Query(TABLE)):
        with pytest.raises(SourceError, match="can be read only once; pass a table"):
            embstore.build(source, tmp_path / "s", strategy="div")
    reader = TABLE.to_reader()
    assert embstore.build(reader, tmp_path / "s").rows == 8
    with pytest.raises(SourceError, match="no rows; was it read before"):
        embstore.build(reader, tmp_path / "again")
    again = embstore.build(dataset.dataset(TABLE), tmp_path / "again", strategy="div", partitions=3)
    assert again.words(range(8)) == WORDS


def test_data_set_whose_files_differ_is_refused(tmp_path):
    parquet.write_table(pa.table({"v": ROWS.astype(np.float16).tolist()}), tmp_path / "0.parquet")
    column = pa.array(ROWS.astype(int).tolist())
    parquet.write_table(pa.table({"v": column}), tmp_path / "1.parquet")
    with pytest.raises(SourceError, match="which pyarrow would cast; pass the directory"):
        read(dataset.dataset(tmp_path))


def make_frames(pandas: Any) -> dict[str, Any]:
    frame = pandas.DataFrame
    return {
        "arrays": frame({"word": WORDS, "v": list(ROWS)}),
        "lists": frame({"word": WORDS, "v": ROWS.tolist()}),
        "tuples": frame({"key": WORDS, "v": [tuple(row) for row in ROWS.tolist()]}),
        "wide": frame(ROWS, index=WORDS),
        "wide with names": frame(ROWS, columns=[f"d{i}" for i in range(5)]).assign(token=WORDS),
        "nullable": frame(ROWS, index=WORDS).astype("Float32"),
        "categories": frame(ROWS, index=pandas.CategoricalIndex(WORDS)),
        "object strings": frame({"v": list(ROWS)}, index=pandas.Index(WORDS, dtype=object)),
        "Arrow strings": frame({"w": pandas.array(WORDS, "string[pyarrow]"), "v": list(ROWS)}),
        "series": pandas.Series(list(ROWS), index=WORDS, name="v"),
        "permuted": frame({"word": WORDS[::-1], "v": list(ROWS[::-1])}).iloc[::-1],
    }


PANDAS = [
    *("arrays", "lists", "tuples", "wide", "wide with names", "nullable", "categories"),
    *("object strings", "Arrow strings", "series", "permuted"),
]


@pytest.mark.parametrize("kind", PANDAS)
def test_pandas(tmp_path, kind, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr(pandas_frames, "_OBJECT_ROWS", 3)
    frame = make_frames(pandas)[kind]
    store = embstore.build(frame, tmp_path / "s", strategy="div", partitions=3)
    assert store.words(range(8)) == WORDS
    np.testing.assert_array_equal(store[:].astype(np.float32), ROWS)
    assert store.dtype == ("float64" if kind in ("lists", "tuples") else "float32")
    if kind not in ("series", "permuted"):
        frame.rename(columns=str).to_parquet(tmp_path / "t.parquet")
        words, rows = read(tmp_path / "t.parquet")
        assert words == WORDS
        assert_same(rows, store[:])


def test_pandas_cells_of_other_dtypes(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(pandas_frames, "_OBJECT_ROWS", 2)
    cells = [np.array([1, 2], np.int16), np.array([0.5, 1]), [3, 4], torch.tensor([5.0, 6.0])]
    rows = read(pandas.DataFrame({"v": cells}))[1]
    assert_same(rows, np.array([[1, 2], [0.5, 1], [3, 4], [5, 6]]))
    matrices = pandas.Series([np.arange(6).reshape(2, 3)] * 3)
    assert_same(read(matrices)[1], np.array([np.arange(6).reshape(2, 3)] * 3))
    assert_same(read(pandas.Series([1.5, 2.5]))[1], np.array([1.5, 2.5]))
    store = embstore.build(
        pandas.DataFrame({"v": [np.array([2**53 + 1])] * 2 + [[0.5]]}), tmp_path / "s"
    )
    assert store.source["largest_cast_error"] == 1


V = list(ROWS[:2])
REFUSED = {
    "missing word": ({"token": ["a", None], "v": V}, "row 1: column 'token' is null"),
    "number among words": ({"token": ["a", 1984], "v": V}, "row 1: column 'token' is 1984 \\(int"),
    "number first": ({"token": [1984, "a"], "v": V}, "row 0: column 'token' is 1984 \\(int"),
    "missing vector": ({"v": [V[0], None]}, "row 1: expected a vector, found a cell that is miss"),
    "nan for a vector": ({"v": [V[0], float("nan")]}, "row 1: expected a vector, found .* missing"),
    "number for a vector": ({"v": [V[0], 7]}, "row 1: expected a vector, found .* int"),
    "longer vector": (
        {"v": [V[0], ROWS[0, :4]]},
        "row 1: expected a vector of shape \\(5,\\), .* \\(4",
    ),
    "ragged lists": ({"v": [V[0], [[1], [2, 3]]]}, "row 1: expected a vector of numbers"),
    "booleans": ({"v": [V[0], V[1] > 0]}, "row 1 has dtype bool"),
    "complex": ({"v": [V[0], V[1] + 1j]}, "row 1 has dtype complex64"),
    "strings": ({"v": [V[0], list("12345")]}, "row 1 has dtype <U1"),
    "inexact": ({"v": [np.array([2**53 + 1]), [0.5]]}, "row 0: float64 does not hold all int64"),
    "nan in a dimension": (
        {"0": [1.0, 2.0], "1": [3.0, float("nan")]},
        "row 1: column '1' is null",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_pandas_frames(tmp_path, kind):
    pandas = pytest.importorskip("pandas")
    columns, says = REFUSED[kind]
    with pytest.raises(SourceError, match=says) as caught:
        embstore.build(pandas.DataFrame(columns), tmp_path / "s")
    assert "download" not in str(caught.value)
    assert not (tmp_path / "s").exists()


def make_polars(polars: Any) -> dict[str, Any]:
    frame = polars.DataFrame
    return {
        "array": frame({"word": WORDS, "v": ROWS}),
        "lists": frame(
            {"word": WORDS, "v": polars.Series(ROWS.tolist(), dtype=polars.List(polars.Float32))}
        ),
        "categories": frame({"w": polars.Series(WORDS).cast(polars.Categorical), "v": ROWS}),
        "enum": frame({"w": polars.Series(WORDS).cast(polars.Enum(WORDS)), "v": ROWS}),
        "wide": frame(ROWS).with_columns(polars.Series("token", WORDS)),
        "bytes": frame({"word": [word.encode() for word in WORDS], "v": ROWS}),
        "chunks": polars.concat(
            [frame({"word": WORDS[i : i + 4], "v": ROWS[i : i + 4]}) for i in (0, 4)]
        ),
    }


@pytest.mark.parametrize(
    "kind", ["array", "lists", "categories", "enum", "wide", "bytes", "chunks"]
)
def test_polars(tmp_path, kind):
    polars = pytest.importorskip("polars")
    frame = make_polars(polars)[kind]
    store = embstore.build(frame, tmp_path / "s", strategy="div", partitions=3)
    assert store.words(range(8)) == WORDS
    assert_same(store[:], ROWS)
    for name in ("t.arrow", "t.arrows", "t.parquet"):
        write = {"t.arrow": frame.write_ipc, "t.arrows": frame.write_ipc_stream}
        write.get(name, frame.write_parquet)(tmp_path / name)
        words, rows = read(tmp_path / name)
        assert words == WORDS
        assert_same(rows, ROWS)


def test_polars_series_and_tensors():
    polars = pytest.importorskip("polars")
    assert_same(read(polars.Series("v", ROWS))[1], ROWS)
    cubes = np.arange(24.0).reshape(2, 3, 4)
    assert_same(read(polars.DataFrame({"v": cubes}))[1], cubes)
    with pytest.raises(SourceError, match="'o' of bytes, which may be words or not"):
        read(polars.DataFrame({"o": [object(), object()], "v": ROWS[:2]}))


def test_frames_that_are_not_computed(tmp_path):
    polars = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"a polars LazyFrame; call collect\(\) first"):
        embstore.build(polars.DataFrame(ROWS).lazy(), tmp_path / "s")
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="pandas Index; expected a DataFrame"):
        embstore.build(pandas.Index([1.5, 2]), tmp_path / "s")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"words": WORDS}, "takes neither words= nor"),
        ({"partition_strategy": "mod"}, "takes neither words= nor partition_strategy="),
        ({"column": "word"}, "no column 'word' of lists of numbers"),
        ({"word_column": "v"}, "no column 'v' of strings"),
    ],
)
def test_options(tmp_path, options, says):
    with pytest.raises(SourceError, match=says):
        embstore.build(TABLE, tmp_path / "s", **options)
    with pytest.raises(SourceError, match="takes neither column= nor word_column="):
        embstore.build(ROWS, tmp_path / "s", column="v")


@pytest.mark.parametrize("kind", ["batches", "tables", "pandas", "polars"])
@pytest.mark.parametrize("sequence", [list, tuple])
def test_lists_of_tables_are_parts(tmp_path, kind, sequence):
    first, second = TABLE.slice(0, 3), TABLE.slice(3)
    if kind == "batches":
        first, second = first.to_batches()[0], second.to_batches()[0]
    elif kind != "tables":
        library = pytest.importorskip(kind)
        make = library.DataFrame if kind == "pandas" else library.from_arrow
        first, second = (
            make({"word": some["word"].to_pylist(), "v": list(ROWS[start : start + len(some)])})
            if kind == "pandas"
            else make(some)
            for start, some in ((0, first), (3, second))
        )
    store = embstore.build(sequence([first, second]), tmp_path / "s")
    assert store.words(range(8)) == WORDS
    np.testing.assert_array_equal(store[:], ROWS)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (TABLE.select(["v"]), r"list\[1\] has no column 'word'"),
        (pa.table({"word": ["a"], "v": [[1.0]]}), r"list\[1\]: row 0: expected 5 values"),
        (pa.table({"word": ["a"], "v": ["1 2"]}), r"list\[1\]: column 'v' is string"),
        (ROWS, "Table"),
    ],
)
def test_lists_of_tables_that_differ_are_refused(tmp_path, second, says):
    with pytest.raises(SourceError, match=says):
        embstore.build([TABLE, second], tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
