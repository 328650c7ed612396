"""Attributes of frames, Arrow data, arrays, gensim's keys and stores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import SourceError
from embstore.sources.attribute_files import read_values
from tests.helpers.attributes import listed, read

WORDS = ["the", "like", "day", "x"]
ROWS = np.arange(8, dtype=np.float32).reshape(4, 2) / 10


def vectors() -> Any:
    pa = pytest.importorskip("pyarrow")
    return pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 2)


def table(**columns: Any) -> Any:
    pa = pytest.importorskip("pyarrow")
    return pa.table({"word": WORDS, "vector": vectors(), **columns})


def arrow(values: Any, *kind: Any) -> Any:
    return pytest.importorskip("pyarrow").array(values, *kind)


ARROW_COLUMNS = {
    "int8": (lambda pa: pa.array([1, -2, 3, 4], pa.int8()), "int8", [1, -2, 3, 4]),
    "uint64": (lambda pa: pa.array([1, 2, 3, (1 << 64) - 1], pa.uint64()), "uint64", None),
    "int64": (lambda pa: pa.array([1, 2, 3, 1 << 62]), "int64", [1, 2, 3, 1 << 62]),
    "float16": (lambda pa: pa.array(np.ones(4, np.float16)), "float16", [1, 1, 1, 1]),
    "double": (lambda pa: pa.array([0.5, 1, 2, float("inf")]), "float64", None),
    "bool": (lambda pa: pa.array([True, False, True, True]), "bool", [True, False, True, True]),
    "string": (lambda pa: pa.array(["a", "", "ü", "日本"]), "string", ["a", "", "ü", "日本"]),
    "large_string": (lambda pa: pa.array(list("abcd"), pa.large_string()), "string", None),
    "string_view": (lambda pa: pa.array(list("abcd"), pa.string_view()), "string", None),
    "dictionary": (lambda pa: pa.array(list("abab")).dictionary_encode(), "string", None),
    "numbers in a dictionary": (
        lambda pa: pa.array([7, 7, 8, 8]).dictionary_encode(),
        "int64",
        [7, 7, 8, 8],
    ),
    "runs": (
        lambda pa: pa.RunEndEncodedArray.from_arrays([3, 4], [5, 6]),
        "int64",
        [5, 5, 5, 6],
    ),
    "sliced": (lambda pa: pa.array([9, 1, 2, 3, 4])[1:], "int64", [1, 2, 3, 4]),
}


@pytest.mark.parametrize("kind", ARROW_COLUMNS)
def test_columns_of_arrow_tables(kind):
    make, dtype, values = ARROW_COLUMNS[kind]
    column = make(pytest.importorskip("pyarrow"))
    found = read(table(beside=[1, 2, 3, 4], named=column), ["named"])
    assert found.dtypes == {"named": dtype}
    assert found.attributes == {"named": column.to_pylist() if values is None else values}
    assert found.words == WORDS
    np.testing.assert_array_equal(found.rows, ROWS)


REFUSED_COLUMNS = [
    (lambda pa: pa.array([1, 2, 3, 4]).cast(pa.decimal128(25, 2)), "cast it to float64, or to in"),
    (lambda pa: pa.array([1, 2, 3, 4], pa.timestamp("s")), "is timestamp.*; cast it to int64"),
    (lambda pa: pa.array([1, 2, 3, 4], pa.date32()), "is date32.*; cast it to int64"),
    (lambda pa: pa.array([1, 2, 3, 4], pa.duration("s")), "is duration.*; cast it to int64"),
    (lambda pa: pa.array([b"a"] * 4), "is binary, but .*; cast it to string"),
    (lambda pa: pa.array([b"a"] * 4, pa.binary(1)), "; cast it to string"),
    (lambda pa: pa.array([[1]] * 4), "make a column of each value"),
    (lambda pa: pa.array([{"x": 1}] * 4), "make its fields columns"),
    (lambda pa: pa.nulls(4), "is null, but .*; fill in"),
    (lambda pa: pa.array([1, None, 3, 4]), "row 1: column 'named' is null; fix or remove the row"),
    (lambda pa: pa.array(["a", "b", None, "d"]), "row 2: column 'named' is null"),
    (lambda pa: pa.array([True, None, True, True]), "row 1: column 'named' is null"),
    (lambda pa: pa.array(["a", None] * 2).dictionary_encode(), "row 1: column 'named' is null"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED_COLUMNS)
def test_columns_that_are_no_attributes(make, says):
    column = make(pytest.importorskip("pyarrow"))
    options = {"column": "vector", "word_column": "word"}
    with pytest.raises(SourceError, match=says):
        read(table(named=column), ["named"], **options)
    assert read(table(named=column), [], **options).words == WORDS


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["word"], "column 'word' holds the words; name another"),
        (["vector"], "column 'vector' holds the rows; name another"),
        (["counts"], "has no column 'counts'; it has: word: string, .*, count: int64"),
    ],
)
def test_wrong_names_of_columns(names, says):
    with pytest.raises(SourceError, match=says):
        read(table(count=[1, 2, 3, 4]), names)


def frames() -> dict[str, tuple[Any, list[str], dict[str, list[Any]], list[str]]]:
    """Return frames with a column for each dimension, names, and what is read."""
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    wide = pd.DataFrame(ROWS, columns=["0", "1"])
    counted = wide.assign(count=[4, 3, 2, 1], word=WORDS)
    ids = [10, 21, 5, 3]
    count = {"count": [4, 3, 2, 1]}
    return {
        "pandas": (counted, ["count"], count, WORDS),
        "an id that counts nothing": (wide.assign(item_id=ids), ["item_id"], {"item_id": ids}, []),
        "the index": (
            counted.set_index(pd.Index(ids, name="item_id")),
            ["item_id", "count"],
            {"item_id": ids} | count,
            WORDS,
        ),
        "the only strings": (
            wide.assign(title=list("abcd")),
            ["title"],
            {"title": list("abcd")},
            [],
        ),
        "categories": (
            counted.assign(kind=pd.Categorical(list("abab"))),
            ["kind", "count"],
            {"kind": list("abab")} | count,
            WORDS,
        ),
        "nullable": (counted.astype({"count": "Int16"}), ["count"], count, WORDS),
        "polars": (pl.DataFrame(counted), ["count"], count, WORDS),
        "polars categories": (
            pl.DataFrame(wide).with_columns(kind=pl.Series(list("abab"), dtype=pl.Categorical)),
            ["kind"],
            {"kind": list("abab")},
            [],
        ),
        "two frames": (
            [counted[:3], counted[3:].astype({"count": "float32"})],
            ["count"],
            {"count": [4.0, 3.0, 2.0, 1.0]},
            WORDS,
        ),
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("pandas", "an id that counts nothing", "the index", "the only strings", "categories"),
        *("nullable", "polars", "polars categories", "two frames"),
    ],
)
def test_columns_of_frames_are_no_dimensions(kind):
    frame, names, attributes, words = frames()[kind]
    found = read(frame, names)
    assert found.attributes == attributes
    assert found.words == words
    np.testing.assert_array_equal(found.rows, ROWS)


def test_missing_values_of_frames_are_refused():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"word": WORDS, "vector": list(ROWS), "n": [1.0, 2.0, np.nan, 4.0]})
    with pytest.raises(SourceError, match="row 2: column 'n' is null"):
        read(frame, ["n"], column="vector")


PARTS: list[tuple[Any, Any]] = [
    ([1, 2, 3, 4], ("int64", [1, 2, 3, 4])),
    ([0.5, 1, 2, 3], ("float64", [0.5, 1, 2, 3])),
    (list("abcd"), "column 'n' is string, but int8 in .*part-0"),
    ([True, False] * 2, "column 'n' is bool, but int8 in .*part-0"),
    (None, "has no column 'n', which .*part-0.* has"),
    ([1, None, 2, 3], "part-1.parquet: row 1: column 'n' is null"),
]


@pytest.mark.parametrize(("second", "expected"), PARTS)
def test_folders_whose_files_differ(tmp_path, second, expected):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(table(n=pa.array([1, 2, 3, 4], pa.int8())), tmp_path / "part-0.parquet")
    others = {} if second is None else {"n": second}
    part = table(**others).set_column(0, "word", pa.array(["a", "b", "c", "d"]))
    parquet.write_table(part, tmp_path / "part-1.parquet")
    if isinstance(expected, str):
        with pytest.raises(SourceError, match=expected):
            read(tmp_path, ["n"])
        return
    found = read(tmp_path, ["n"])
    assert found.dtypes == {"n": expected[0]}
    assert found.attributes == {"n": [1, 2, 3, 4, *expected[1]]}


def test_an_integer_that_the_common_dtype_does_not_hold(tmp_path):
    pytest.importorskip("pyarrow")
    parts = [table(n=[1, 2, (1 << 53) + 3, 4]), table(n=[0.5, 1, 2, 3])]
    with pytest.raises(SourceError, match=r"\[0\]: row 2: .* cannot hold 9007199254740995"):
        read(parts, ["n"])


def test_attributes_of_gensims_keys():
    gensim = pytest.importorskip("gensim.models")
    keys = gensim.KeyedVectors(2)
    keys.add_vectors(WORDS, ROWS)
    for number, word in enumerate(WORDS):
        keys.set_vecattr(word, "count", 10 - number)
        keys.set_vecattr(word, "title", word.upper())
    keys.expandos["sample_int"] = np.arange(4, dtype=np.uint32)
    keys.set_vecattr("like", "unset", "for others")
    names = ["title", "count", "sample_int"]
    found = read(keys, names)
    assert found.dtypes == {"title": "string", "count": "int64", "sample_int": "uint32"}
    assert found.attributes["title"] == [word.upper() for word in WORDS]
    assert found.attributes["count"] == [10, 9, 8, 7]
    assert read(keys).attributes == {}
    with pytest.raises(SourceError, match="has no attribute 'n'; it has: count, title, sample_int"):
        read(keys, ["n"])
    with pytest.raises(SourceError, match="row 1: attribute 'unset' has values of several kinds"):
        read(keys, ["unset"])
    keys.add_vectors(["more"], ROWS[:1])
    with pytest.raises(SourceError, match=r"'count' has shape \(4,\); expected \(5,\)"):
        read(keys, ["count"])


ARRAYS = {
    "rows": ROWS,
    "count": np.array([4, 3, 2, 1], ">i2"),
    "title": np.array(["a", "bb", "ccc", ""]),
    "ok": np.array([True, False, True, True]),
    "short": np.arange(3),
    "wide": np.ones((4, 2)),
    "objects": np.array(["a", None, 1, 2], object),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_members_of_an_npz(tmp_path, monkeypatch, save):
    monkeypatch.setattr("embstore.sources.BATCH_BYTES", 16)
    path = tmp_path / "t.npz"
    save(path, **ARRAYS)
    found = read(path, ["title", "count", "ok"], member="rows")
    assert found.dtypes == {"title": "string", "count": "int16", "ok": "bool"}
    assert found.attributes == {name: ARRAYS[name].tolist() for name in found.dtypes}
    assert read(path, ["count"], member="rows", limit=3).attributes == {"count": [4, 3, 2]}
    for name, says in {
        "short": r"'short' has shape \(3,\); expected \(4,\), one value for each row",
        "wide": r"'wide' has shape \(4, 2\); expected \(4,\)",
        "objects": "holds Python objects",
        "none": "has no member 'none'; it has: rows, count",
    }.items():
        with pytest.raises(SourceError, match=says):
            read(path, [name], member="rows")


def test_the_member_that_is_no_attribute_holds_the_rows(tmp_path):
    np.savez(tmp_path / "t.npz", rows=ROWS, count=ARRAYS["count"])
    assert read(tmp_path / "t.npz", ["count"]).rows.shape == (4, 2)


def test_tensors_of_a_safetensors_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"weight": ROWS, "count": np.arange(4), "short": np.arange(3)}
    safetensors.save_file(tensors, tmp_path / "m.safetensors")
    found = read(tmp_path / "m.safetensors", ["count"], tensor="weight")
    assert found.attributes == {"count": [0, 1, 2, 3]}
    for name, says in {
        "short": r"'short' has shape \(3,\)",
        "weight": r"'weight' has shape \(4, 2\)",
        "n": "has no tensor 'n'; it has: ",
    }.items():
        with pytest.raises(SourceError, match=says):
            read(tmp_path / "m.safetensors", [name], tensor="weight")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ROWS,
        lambda: [ROWS, ROWS],
        lambda: dict(zip(WORDS, ROWS, strict=True)),
        lambda: {0: [1.0], 1: [2.0]},
        lambda: iter([(WORDS, ROWS)]),
    ],
)
def test_sources_without_columns_tell_what_to_pass(make):
    with pytest.raises(SourceError, match=r"has no columns by name; pass .*\{'n': values\}"):
        read(make(), ["n"])
    assert read(make(), []).attributes == {}


def test_files_without_columns_tell_what_to_pass(tmp_path):
    np.save(tmp_path / "t.npy", ROWS)
    with pytest.raises(
        SourceError, match=r"has no columns by name; pass .*attributes={'n': values}"
    ):
        read(tmp_path / "t.npy", ["n"])
    assert read(tmp_path / "t.npy", []).attributes == {}


FILES: dict[str, tuple[bytes, Any]] = {
    "whole numbers": (b"3\n1\n2\n", np.array([3, 1, 2])),
    "decimals, no newline": (b"3\n.5\r\n2", np.array([3, 0.5, 2])),
    "texts": ("a b\nü\nx\n".encode(), ["a b", "ü", "x"]),
    "several kinds": (b"a\n1\nb\n", r":1: 'n' is 'a', and at .*:2 '1', a text and a number; write"),
    "codes": (b"007\n001\n", "has leading zeros.*; write the values as .npy"),
    "a gap": (b"1\n\n2\n", ":2: '' of 'n' is missing"),
    "a page": (b"<!DOCTYPE html><html></html>", "HTML"),
    "a store's manifest": (
        b"PAR1\x15\x04\x15\x00",
        "is a Parquet file; for the attribute 'n', pass",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_values(tmp_path, kind):
    data, expected = FILES[kind]
    (tmp_path / "n.txt").write_bytes(data)
    if isinstance(expected, str):
        with pytest.raises(SourceError, match=expected):
            read_values(tmp_path / "n.txt", "n")
        return
    found = read_values(tmp_path / "n.txt", "n")
    assert listed(found) == list(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype


@pytest.mark.parametrize(
    "values", [np.arange(3, dtype=">u2"), np.array(["a", "b"]), np.array([True])]
)
def test_npy_files_of_values(tmp_path, values):
    np.save(tmp_path / "n.npy", values)
    found = read_values(tmp_path / "n.npy", "n")
    np.testing.assert_array_equal(found, values)
    np.save(tmp_path / "n.npy", np.ones((3, 1)))
    with pytest.raises(SourceError, match=r"has shape \(3, 1\); expected \(rows,\)"):
        read_values(tmp_path / "n.npy", "n")


def test_dropped_rows_take_their_values_along(tmp_path):
    pairs = list(zip(["a", "b", "a", "c"], ROWS, strict=True))
    values = {"n": [1, 2, 3, 4], "t": list("wxyz")}
    with embstore.build(iter(pairs), tmp_path / "s", attributes=values) as store:
        assert store.attributes["n"][:].tolist() == [1, 2, 4]
        assert store.attributes["t"]["c"] == "z"
    with pytest.raises(SourceError, match=r"attribute 'n' has 3 values, but .* at least 4 rows"):
        embstore.build(iter(pairs), tmp_path / "t", attributes={"n": [1, 2, 3]})
    assert not (tmp_path / "t").exists()


def test_values_and_files_beside_a_source_that_has_some(tmp_path):
    """A store keeps its own, and what is given replaces those of the same name."""
    np.save(tmp_path / "n.npy", np.arange(4, dtype=np.int8))
    first = embstore.build(ROWS, tmp_path / "s", attributes={"n": [4, 3, 2, 1], "t": list("abcd")})
    given = {"n": str(tmp_path / "n.npy"), "more": [0.5] * 4}
    second = embstore.build(first, tmp_path / "t", attributes=given)
    with first, second:
        found = {name: column[:].tolist() for name, column in second.attributes.items()}
        assert found == {"n": [0, 1, 2, 3], "t": list("abcd"), "more": [0.5] * 4}
        assert second.attributes["n"].dtype == np.int8
        for names, expected in ((None, ["n", "t"]), ([], []), (["t"], ["t"])):
            assert list(read(first, names).dtypes) == expected
            assert list(read(tmp_path / "s", names).dtypes) == expected
        with pytest.raises(SourceError, match="has no attribute 'u'; it has: n, t"):
            read(first, ["u"])
        assert read(first, limit=2).attributes == {"n": [4, 3], "t": ["a", "b"]}
