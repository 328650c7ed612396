"""Parts of one table in Parquet and Arrow files: dtypes, shapes and columns that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import embstore
from embstore.errors import SourceError
from embstore.sources.choose import open_source

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["a", "b", "c"]


def write_parts(folder: Path, suffix: str, *tables: Any) -> Path:
    """Write each table as a file of a new folder."""
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    for number, table in enumerate(tables):
        path = parts / f"part-{number}{suffix}"
        if suffix == ".parquet":
            parquet.write_table(table, path)
        else:
            with ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
    return parts


def vectors(rows: Any, kind: str = "fixed") -> Any:
    """Return rows as a column of lists or of tensors."""
    rows = np.asarray(rows)
    if kind == "tensor":
        return pa.FixedShapeTensorArray.from_numpy_ndarray(rows)
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    make = {"list": pa.list_, "large": pa.large_list, "view": pa.list_view}[kind]
    return pa.array(rows.tolist(), make(pa.from_numpy_dtype(rows.dtype)))


@pytest.fixture(params=[".parquet", ".arrow"])
def suffix(request):
    return request.param


@pytest.mark.parametrize(
    ("dtypes", "common"),
    [
        (("float16", "float32"), "float32"),
        (("float64", "float32", "float16"), "float64"),
        (("int8", "uint8", "int16"), "int16"),
        (("int32", "float32"), "float64"),
        (("float32", "uint8"), "float32"),
        (("int64", "float16"), "float64"),
        (("uint32", "int32"), "int64"),
    ],
)
def test_parts_of_other_dtypes(tmp_path, suffix, dtypes, common):
    parts = [
        np.arange(6).reshape(3, 2).astype(dtype) * np.array(17 if "8" in dtype else 1001, dtype)
        for dtype in dtypes
    ]
    path = write_parts(tmp_path, suffix, *(pa.table({"v": vectors(part)}) for part in parts))
    store = embstore.build(path, tmp_path / "s")
    assert store.dtype == common
    expected = np.concatenate([part.astype(common) for part in parts])
    assert store[:].tobytes() == expected.tobytes()
    assert "largest_cast_error" not in store.source


@pytest.mark.parametrize(
    ("first", "second", "changed"),
    [
        (np.array([[2**53 + 1]]), np.array([[0.5]], np.float32), 1.0),
        (np.array([[0.5]]), np.array([[-(2**62) - 1]]), 1.0),
        (np.array([[2**63 + 1025]], np.uint64), np.array([[1]], np.float16), 1023.0),
    ],
)
def test_changed_numbers_are_counted(tmp_path, suffix, first, second, changed):
    tables = [pa.table({"v": vectors(part)}) for part in (first, second)]
    store = embstore.build(write_parts(tmp_path, suffix, *tables), tmp_path / "s")
    assert store.dtype == np.float64
    assert store.source["largest_cast_error"] == changed
    assert store.source["overflow_count"] == 0
    assert "int64" in store.source["cast_from"]


def test_overflows_in_a_later_part_are_counted(tmp_path, suffix):
    tables = [pa.table({"v": vectors(np.array([[x]], d))}) for x, d in ((1, "f2"), (7e4, "f4"))]
    path = write_parts(tmp_path, suffix, *tables)
    with pytest.raises(SourceError, match=rf"part-1{suffix}: row 0: the value 70000"):
        embstore.build(path, tmp_path / "s", dtype="float16")
    store = embstore.build(path, tmp_path / "s", dtype="float16", on_overflow="inf")
    assert store.source["overflow_count"] == 1


NUMBERS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"v": pa.array([["1", "2"]])}, "'v' is list<.*string>; expected numbers"),
        ({"v": pa.array(["1 2"])}, "'v' is string"),
        ({"v": pa.array([[True, False]])}, "'v' is list<.*bool>"),
        ({"v": pa.array([1.0, 2.0])}, r"'v' is double; expected rows of shape \(2,\)"),
        ({"v": vectors(np.ones((1, 3)))}, r"expected rows of shape \(2,\)"),
        ({"v": vectors(np.ones((1, 3)), "list")}, "row 0: expected 2 values.* found 3"),
        ({"v": vectors(np.ones((1, 1, 2)), "tensor")}, r"expected rows of shape \(2,\)"),
        ({"v": pa.array([[[1.0, 2.0]]])}, r"expected rows of shape \(2,\)"),
        ({"V": vectors(np.ones((1, 2)))}, "no column 'v', which .*part-0"),
        ({"w": [1.0]}, "no column 'v'"),
        ({"v": pa.nulls(1)}, "'v' is null; expected numbers"),
        ({"v": pa.array([{"x": 1.0}])}, "'v' is struct"),
        ({"v": vectors(np.ones((1, 2), np.uint64))}, None),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, suffix, second, says):
    first = {"v": vectors(NUMBERS)}
    if says is None:
        first, says = {"v": vectors(NUMBERS.astype(int))}, "no dtype holds int64 and uint64"
    path = write_parts(tmp_path, suffix, pa.table(first), pa.table(second))
    with pytest.raises(SourceError, match=says):
        embstore.build(path, tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("kind", ["list", "large", "view", "tensor"])
def test_parts_of_other_types_and_column_order(tmp_path, suffix, kind):
    if (kind, suffix) == ("view", ".parquet"):
        kind = "large"  # Parquet holds no list views.
    first = pa.table({"word": WORDS, "v": vectors(NUMBERS), "id": [0, 1, 2]})
    other = {"v": vectors(NUMBERS * 2, kind), "word": pa.array(WORDS, pa.large_string())}
    other["word"] = pa.array(["d", "e", "f"], pa.large_string())
    path = write_parts(tmp_path, suffix, first, pa.table(other))
    store = embstore.build(path, tmp_path / "s")
    assert store.words(range(6)) == [*WORDS, "d", "e", "f"]
    np.testing.assert_array_equal(store[:], np.concatenate([NUMBERS, NUMBERS * 2]))


@pytest.mark.parametrize(
    ("second", "options", "says"),
    [
        ({"word": [1, 2, 3]}, {}, "'word' does not hold strings"),
        ({"text": ["x", "y", "z"]}, {}, "no column 'word', which"),
        ({"key": ["x", "y", "z"], "word": ["d", "e", "f"]}, {"word_column": "key"}, "no.*'key'"),
        ({"word": pa.array([["x"], ["y"], ["z"]])}, {}, "'word' does not hold strings"),
    ],
)
def test_words_that_differ_between_parts_are_refused(tmp_path, suffix, second, options, says):
    first = pa.table({"word": WORDS, "v": vectors(NUMBERS)})
    path = write_parts(tmp_path, suffix, first, pa.table({"v": vectors(NUMBERS), **second}))
    with pytest.raises(SourceError, match=says):
        embstore.build(path, tmp_path / "s", **options)


def test_words_in_later_parts_only_are_refused(tmp_path, suffix):
    first = pa.table({"v": vectors(NUMBERS)})
    for names in ("word", "token"):
        path = write_parts(tmp_path, suffix, first, pa.table({"v": vectors(NUMBERS), names: WORDS}))
        with pytest.raises(SourceError, match=rf"its words in column '{names}', but .* in no col"):
            open_source(path)
        assert open_source(path, word_column="").count_rows() == 6


def test_places_name_the_part_and_its_row(tmp_path, suffix):
    rows = [[1.0, 2.0], None, [3.0, 4.0]]
    tables = pa.table({"v": vectors(NUMBERS, "list")}), pa.table({"v": pa.array(rows)})
    path = write_parts(tmp_path, suffix, *tables)
    with pytest.raises(SourceError, match=rf"part-1{suffix}: row 1: column 'v' is null"):
        embstore.build(path, tmp_path / "s")


@pytest.mark.parametrize(
    "empty",
    [
        {"word": pa.nulls(0), "v": pa.nulls(0)},  # As pandas writes an empty frame.
        {"word": pa.nulls(0), "v": vectors(NUMBERS[:0])},
        {"word": pa.array([], pa.string()), "v": vectors(NUMBERS[:0].astype(np.float64))},
        {"word": pa.array([], pa.string())},
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_parts_without_rows_do_not_count(tmp_path, suffix, empty, position):
    numbers = NUMBERS.astype(np.float32)
    tables = [
        pa.table({"word": WORDS[i:j], "v": vectors(numbers[i:j])}) for i, j in ((0, 1), (1, 3))
    ]
    tables.insert(position, pa.table(empty))
    store = embstore.build(write_parts(tmp_path, suffix, *tables), tmp_path / "s")
    assert store.dtype == np.float32
    assert store.words(range(3)) == WORDS
    np.testing.assert_array_equal(store.to_numpy(), numbers)


def test_a_table_whose_parts_have_no_rows(tmp_path, suffix):
    tables = [pa.table({"v": vectors(NUMBERS[:0])})] * 2
    store = embstore.build(write_parts(tmp_path, suffix, *tables), tmp_path / "s")
    assert store.shape == (0, 2)
