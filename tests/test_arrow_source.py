"""Rows in columns of lists, in Parquet and Arrow files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import embstore
from embstore import sources
from embstore.errors import SourceError
from embstore.sources.choose import open_source
from tests.helpers.sources import AWKWARD, assert_same, read

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int64", "uint64"]


def write(path: Path, table: Any, rows_in_batch: int = 7) -> Path:
    match path.suffix:
        case ".parquet":
            parquet.write_table(table, path, row_group_size=rows_in_batch)
        case ".arrows":
            with ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table, rows_in_batch)
        case ".feather":
            options = ipc.IpcWriteOptions(compression="zstd")
            with ipc.new_file(path, table.schema, options=options) as writer:
                writer.write_table(table, rows_in_batch)
        case _:
            with ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, rows_in_batch)
    return path


def lists(rows: NDArray[Any], kind: str = "fixed") -> Any:
    values = pa.array(rows.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    offsets = np.arange(len(rows) + 1) * rows.shape[1]
    if kind == "large":
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


@pytest.fixture(params=[".parquet", ".arrow", ".arrows", ".feather"])
def suffix(request):
    return request.param


@pytest.mark.parametrize("kind", ["fixed", "list", "large"])
@pytest.mark.parametrize("batch_bytes", [1, 100, 4 << 20])
def test_lists(tmp_path, monkeypatch, suffix, kind, batch_bytes):
    monkeypatch.setattr(sources, "BATCH_BYTES", batch_bytes)
    words = [*AWKWARD, "last"]
    rows = np.random.default_rng(0).standard_normal((len(words), 3), np.float32)
    table = pa.table({"word": words, "id": range(len(words)), "vector": lists(rows, kind)})
    path = write(tmp_path / f"t{suffix}", table)
    found, read_rows = read(path)
    assert found == words
    assert_same(read_rows, rows)
    assert read(path, word_column="")[0] is None
    assert_same(read(path, limit=5)[1], rows[:5])
    opened = open_source(path)
    assert opened.count_rows() == len(words)
    size = max(1, batch_bytes // 12)
    assert max(len(batch.rows) for batch in opened.batches()) <= size


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path, suffix, dtype):
    rows = np.arange(40).astype(dtype).reshape(20, 2)
    path = write(tmp_path / f"t{suffix}", pa.table({"v": lists(rows)}))
    assert_same(read(path)[1], rows)
    store = embstore.build(path, tmp_path / "s", strategy="div", partitions=3)
    assert store.dtype == dtype
    np.testing.assert_array_equal(store[:], rows)


def test_tensors(tmp_path, suffix):
    rows = np.random.default_rng(0).random((20, 2, 3))
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(rows)
    path = write(tmp_path / f"t{suffix}", pa.table({"v": column}))
    assert_same(read(path)[1], rows)


def test_directory(tmp_path, suffix):
    rows = np.random.default_rng(0).random((60, 2))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "_SUCCESS").touch()
    for number in range(12):
        part = slice(number * 5, number * 5 + 5)
        kind = "list" if number % 2 else "large"
        table = pa.table({"v": lists(rows[part], kind), "key": [f"w{i}" for i in range(60)][part]})
        write(tmp_path / "t" / f"part-{number}{suffix}", table)
    words, found = read(tmp_path / "t", word_column="key")
    assert words == [f"w{i}" for i in range(60)]
    assert_same(found, rows)
    keys = [f"v{i}" for i in range(60)]
    write(tmp_path / "t" / f"part-12{suffix}", pa.table({"other": lists(rows), "key": keys}))
    with pytest.raises(SourceError, match=rf"part-12{suffix} has no column 'v', which .*part-0"):
        read(tmp_path / "t")
    table = pa.table({"v": lists(rows[:, :1]), "key": keys})
    write(tmp_path / "t" / f"part-12{suffix}", table)
    with pytest.raises(SourceError, match=r"part-12.* 'v' is .*; expected rows of shape \(2,\)"):
        read(tmp_path / "t")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([[1, 2], [3, 4], [5]], "row 2: expected 2 values, as in the first row, found 1"),
        ([[1, 2], [3, 4, 5]], "row 1: expected 2 values, as in the first row, found 3"),
        ([[1, 2], []], "row 1: expected 2 values, as in the first row, found 0"),
        ([[1, 2], None], "row 1: column 'v' is null"),
        ([None, [1, 2]], "row 0: column 'v' is null"),
        ([[1, 2], [3, None]], "row 1: value 2 is null"),
    ],
)
@pytest.mark.parametrize("before", [0, 20])
def test_invalid_rows_are_refused(tmp_path, suffix, values, says, before):
    number = int(says[4])
    values = [[0.5, 0.5]] * before + values
    says = says.replace(f"row {number}", f"row {number + before}", 1)
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64())):
        path = write(tmp_path / f"t{suffix}", pa.table({"v": pa.array(values, kind)}))
        with pytest.raises(SourceError, match=rf"t{suffix}: {says}"):
            read(path)


def test_nulls_in_fixed_size_lists(tmp_path, suffix):
    kind = pa.list_(pa.float32(), 2)
    for values, says in (
        ([[1, 2], None], "column 'v' is null"),
        ([[1, 2], [3, None]], "value 2 is"),
    ):
        path = write(tmp_path / f"t{suffix}", pa.table({"v": pa.array(values, kind)}))
        with pytest.raises(SourceError, match=f"row 1: {says}"):
            read(path)


def test_invalid_words_are_refused(tmp_path, suffix):
    rows = np.ones((2, 2))
    path = write(tmp_path / f"t{suffix}", pa.table({"v": lists(rows), "word": ["a", None]}))
    with pytest.raises(SourceError, match="row 1: column 'word' is null"):
        read(path)
    # Arrow does not check that strings are UTF-8.
    bad = pa.array([b"a", b"caf\xe9"]).view(pa.string())
    path = write(tmp_path / f"t{suffix}", pa.table({"v": lists(rows), "word": bad}))
    with pytest.raises(SourceError, match=r"UTF-8|UTF8"):
        read(path)


def test_dictionary_and_large_string_words(tmp_path, suffix):
    rows = np.ones((3, 2))
    for column in (
        pa.array(["b", "a", "b"]).dictionary_encode(),
        pa.array(["b", "a", "b"], pa.large_string()),
    ):
        path = write(tmp_path / f"t{suffix}", pa.table({"v": lists(rows), "word": column}))
        assert read(path)[0] == ["b", "a", "b"]


def test_column_is_required_if_several_fit(tmp_path, suffix):
    rows = np.ones((3, 2))
    table = pa.table({"a": lists(rows), "b": lists(2 * rows), "title": ["x", "y", "z"]})
    path = write(tmp_path / f"t{suffix}", table)
    with pytest.raises(SourceError, match=r"has 2 columns of lists of numbers; .*column="):
        read(path)
    words, found = read(path, column="b")
    assert words == ["x", "y", "z"]
    assert_same(found, 2 * rows)
    assert read(path, column="b", word_column="title")[0] == ["x", "y", "z"]
    assert read(path, column="b", word_column="")[0] is None
    for options, says in (
        ({"column": "c"}, "no column 'c' of lists"),
        ({"column": "title"}, "no column 'title' of lists"),
        ({"column": "a", "word_column": "b"}, "no column 'b' of strings, as word_column=.*a: "),
    ):
        with pytest.raises(SourceError, match=says):
            read(path, **options)


def test_tables_without_rows_or_lists(tmp_path, suffix):
    path = write(tmp_path / f"t{suffix}", pa.table({"v": pa.array([], pa.list_(pa.float32()))}))
    with pytest.raises(SourceError, match="has no rows, so the row length is unknown"):
        read(path)
    path = write(tmp_path / f"t{suffix}", pa.table({"v": pa.array([], pa.list_(pa.float32(), 4))}))
    assert read(path)[1].shape == (0, 4)
    path = write(tmp_path / f"t{suffix}", pa.table({"v": [1.0, 2.0]}))
    with pytest.raises(SourceError, match=r"has 0 columns of lists of numbers.*v: double"):
        read(path)


@pytest.mark.parametrize("part", [0.99, 0.5, 0.001])
def test_truncated_files_are_refused(tmp_path, suffix, part):
    rows = np.random.default_rng(0).random((2000, 2))
    path = write(tmp_path / f"t{suffix}", pa.table({"v": lists(rows)}), 500)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(SourceError, match="is the download complete"):
        read(path, format="arrow")
