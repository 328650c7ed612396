"""Attributes: columns of numbers and strings beside the rows, against arrays and lists."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import embstore
from embstore.dtypes import DTYPES, as_dtype
from embstore.errors import (
    DuplicateWordError,
    EmbstoreError,
    FormatError,
    IdRangeError,
    IdTypeError,
    MissingWordError,
    SourceError,
    StoreClosedError,
    StoreCorruptError,
)
from embstore.formats.own.attribute_manifest import check_name
from tests.campaigns.stores import edit, reseal
from tests.helpers.fingerprints import fingerprint as model
from tests.helpers.stores import flip, names

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.store import EmbeddingStore

ROWS = 37
TABLE = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
WORDS = [f"w{number}" for number in range(ROWS)]
STRINGS = ["", "a", "naïve", "語", "🙂\0x", "long " * 40]
LAYOUTS: list[dict[str, Any]] = [
    {"partitions": 1},
    {"partitions": 3, "strategy": "div"},
    {"partitions": 2, "compression": "zstd"},
    {"partitions": 2, "encoding": "int8"},
]


def numbers_of(dtype: str) -> Any:
    """Return a value of a dtype for each row, its extremes among them."""
    kind = as_dtype(dtype)
    if dtype == "bool":
        return np.arange(ROWS) % 3 == 0
    bits = np.dtype(f"u{kind.itemsize}")
    step = int(np.iinfo(bits).max) // (ROWS - 1)
    return np.array([number * step for number in range(ROWS)], bits).view(kind)


def columns() -> dict[str, Any]:
    """Return attributes of several kinds."""
    return {
        "count": np.arange(ROWS) ** 3 - 9,
        "tag": [STRINGS[number % len(STRINGS)] for number in range(ROWS)],
        "seen": np.arange(ROWS) % 3 == 0,
    }


def build(path: Path, attributes: Any = None, **options: Any) -> EmbeddingStore:
    attributes = columns() if attributes is None else attributes
    return embstore.build(TABLE, path, words=WORDS, attributes=attributes, **options)


def same_bits(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype) and bool(one.tobytes() == other.tobytes())


def check(store: EmbeddingStore, expected: dict[str, Any]) -> None:
    """Compare all attributes of a store."""
    assert list(store.attributes) == list(expected)
    for name, values in expected.items():
        found = store.attributes[name]
        assert len(found) == store.rows
        assert found[:].tolist() == list(values if isinstance(values, list) else values.tolist())


# --- building and looking up ---


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_values_are_those_that_were_given(tmp_path, layout):
    given = columns()
    store = build(tmp_path / "t", given, **layout)
    check(store, given)
    assert repr(store.attributes) == "<Attributes count: int64, tag: string, seen: bool>"
    assert embstore.verify(tmp_path / "t").ok
    assert store.fingerprint(full=True) == store.fingerprint()
    for reader in ("mapped", "chunked"):
        with embstore.open(tmp_path / "t", reader=reader) as again:
            check(again, given)


@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_every_dtype(tmp_path, dtype, order):
    values = numbers_of(dtype)
    given = values
    if order == ">":
        given = values.astype(values.dtype.newbyteorder(">"))
        given = given[::1] if dtype != "bool" else np.repeat(values, 2)[::2]
    store = build(tmp_path / "t", {"a": given})
    column = store.attributes["a"]
    assert column.dtype_name == dtype
    assert same_bits(column[:], values)
    assert same_bits(column[[5, 0]], values[[5, 0]])
    assert embstore.verify(tmp_path / "t").ok
    manifest = json.loads((tmp_path / "t/zarr.json").read_text())["attributes"]["embstore"]
    assert manifest["requires"] == []
    stored: Any = zarr.open_array(tmp_path / "t/attributes/a", mode="r")[:]
    assert stored.tobytes() == values.tobytes()
    assert store.fingerprint() == model(TABLE, WORDS, attributes={"a": values})


def test_strings_are_two_arrays_of_zarr(tmp_path):
    given = columns()["tag"]
    build(tmp_path / "t")
    group: Any = zarr.open_group(tmp_path / "t", mode="r")
    data = group["attributes/tag/bytes"][:].tobytes()
    offsets = group["attributes/tag/offsets"][:].tolist()
    assert [data[a:b].decode() for a, b in pairwise(offsets)] == given


def test_indices_are_those_of_lookups(tmp_path):
    store = build(tmp_path / "t")
    count, tag = columns()["count"], np.array(columns()["tag"], object)
    for name, expected in (("count", count), ("tag", tag)):
        column = store.attributes[name]
        for ids in ([], [3], [[5, 0], [5, 36]], np.arange(0, ROWS, 5, dtype=np.uint8), range(3)):
            found = column[ids]
            index = np.asarray(ids, np.int64)
            assert found.shape == index.shape
            assert found.tolist() == expected[index].tolist()
        assert column[2:9:3].tolist() == expected[2:9:3].tolist()
        assert column[::-1].tolist() == expected[::-1].tolist()
        assert column[...].tolist() == column[...,].tolist() == column[:].tolist()
        assert column[[[2, 3]],].tolist() == [expected[[2, 3]].tolist()]
        assert column["w7"] == column[7] == column[np.int64(7)] == expected[7]
        assert column[["w7", "w0"]].tolist() == expected[[7, 0]].tolist()
        assert list(column) == expected.tolist()
        assert np.asarray(column).tolist() == expected.tolist()
        assert (column.shape, column.ndim, column.size, len(column)) == ((ROWS,), 1, ROWS, ROWS)
        assert column.name == name
    assert isinstance(store.attributes["count"][3], np.int64)
    assert isinstance(store.attributes["tag"][1], str)
    assert store.attributes["tag"].dtype == object
    assert np.asarray(store.attributes["count"], np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy=False"):
        np.asarray(store.attributes["count"], copy=False)


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (-1, IdRangeError),
        (ROWS, IdRangeError),
        ([0, 2**63], IdRangeError),
        (1.5, IdTypeError),
        ([True, False], IdTypeError),
        ("missing", MissingWordError),
        (["w1", "missing"], MissingWordError),
        ((1, 2), IndexError),
        (None, IdTypeError),
    ],
)
@pytest.mark.parametrize("name", ["count", "tag"])
def test_wrong_indices_are_refused(tmp_path, name, index, error):
    store = build(tmp_path / "t")
    with pytest.raises(error):
        store.attributes[name][index]


def test_the_mapping(tmp_path):
    store = build(tmp_path / "t")
    found: Any = store.attributes
    assert "count" in found
    assert "other" not in found
    assert found.get("other") is None
    with pytest.raises(KeyError, match="no attribute 'other'; it has 'count', 'tag', 'seen'"):
        found["other"]
    with pytest.raises(TypeError):
        found["count"] = [1]
    np.save(tmp_path / "foreign.npy", TABLE)
    plain = embstore.build(TABLE, tmp_path / "plain")
    for without in (plain, embstore.open(tmp_path / "foreign.npy")):
        assert dict(without.attributes) == {}
        assert repr(without.attributes) == "<Attributes none>"
    manifest = json.loads((tmp_path / "plain/zarr.json").read_text())["attributes"]["embstore"]
    assert not {"attributes", "full_fingerprint"} & set(manifest)
    assert not (tmp_path / "plain/attributes").exists()


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("values", [["x"], [""], np.array([7], np.int16), np.array([], np.int16)])
def test_tables_of_few_rows(tmp_path, rows, values):
    some = list(values[:rows]) if isinstance(values, list) else values[:rows]
    rows = len(some)
    given: Any = some if len(some) else np.array(some, "U" if isinstance(values, list) else "i2")
    store = embstore.build(TABLE[:rows], tmp_path / "t", attributes={"a": given})
    assert store.attributes["a"][:].tolist() == list(some)
    assert embstore.verify(tmp_path / "t").ok
    assert store.fingerprint(full=True) == store.fingerprint()


def test_columns_of_several_chunks(tmp_path):
    rows = 70_000
    count = np.arange(rows) * 7
    tag = [str(number) * (number % 4) for number in range(rows)]
    table = np.zeros((rows, 1), np.int8)
    store = embstore.build(
        table, tmp_path / "t", attributes={"count": count, "tag": tag}, memory_limit="1MiB"
    )
    assert len(names(tmp_path / "t/attributes/count/c")) > 1
    ids = np.random.default_rng(0).integers(0, rows, 5000)
    assert np.array_equal(store.attributes["count"][ids], count[ids])
    assert store.attributes["tag"][ids].tolist() == [tag[number] for number in ids]
    assert list(store.attributes["tag"]) == tag
    assert embstore.verify(tmp_path / "t").ok


# --- what can be given ---


def _generator(values: Any) -> Any:
    yield from values


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (list(range(ROWS)), "int64"),
        (tuple(range(ROWS)), "int64"),
        (range(ROWS), "int64"),
        (_generator(range(ROWS)), "int64"),
        ([0.5, *range(ROWS - 1)], "float64"),
        ([2**64 - 1, *range(ROWS - 1)], "uint64"),
        ([np.int8(3)] * ROWS, "int8"),
        ([True, False, *[True] * (ROWS - 2)], "bool"),
        (np.arange(ROWS, dtype=np.int32).data, "int32"),
        (np.array(range(ROWS), object), "int64"),
        (np.array(list("abc") * 12 + ["d"]), "string"),
        (np.array(list("abc") * 12 + ["d"], object), "string"),
        (np.array(list("abc") * 12 + ["d"], np.dtypes.StringDType()), "string"),
        (_generator(WORDS), "string"),
        (map(str, range(ROWS)), "string"),
        (np.ma.masked_array(np.arange(ROWS), mask=False), "int64"),
        ([float("nan")] * ROWS, "float64"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_array_likes_are_taken(tmp_path, given, dtype):
    expected = given.tolist() if hasattr(given, "tolist") else given
    expected = None if hasattr(given, "__next__") else list(expected)
    store = build(tmp_path / "t", {"a": given})
    column = store.attributes["a"]
    assert column.dtype_name == dtype
    if expected is not None:
        assert str(column[:].tolist()) == str(np.array(expected, column.dtype).tolist())
    assert embstore.verify(tmp_path / "t").ok


def test_columns_of_other_libraries_are_taken(tmp_path):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    tags = columns()["tag"]
    given = {
        "pandas": pandas.Series(range(ROWS)),
        "nullable": pandas.Series(range(ROWS), dtype="Int16"),
        "categories": pandas.Series(tags, dtype="category"),
        "arrow": pyarrow.array(range(ROWS), pyarrow.int8()),
        "chunked": pyarrow.chunked_array([tags[:5], tags[5:]]),
        "dictionary": pyarrow.array(tags).dictionary_encode(),
        "bools": pyarrow.array([True] * ROWS),
        "polars": polars.Series(tags),
        "numbers": polars.Series(range(ROWS), dtype=polars.UInt8),
    }
    store = build(tmp_path / "t", given)
    assert [column.dtype_name for column in store.attributes.values()] == [
        *("int64", "int16", "string", "int8", "string", "string", "bool", "string", "uint8")
    ]
    for name in ("categories", "chunked", "dictionary", "polars"):
        assert list(store.attributes[name]) == tags


def test_tensors_are_taken(tmp_path):
    torch = pytest.importorskip("torch")
    given = {"a": torch.arange(ROWS), "b": torch.ones(ROWS, dtype=torch.bfloat16)}
    store = build(tmp_path / "t", given)
    assert [one.dtype_name for one in store.attributes.values()] == ["int64", "bfloat16"]


MASKED = np.ma.masked_array(np.arange(ROWS), mask=np.arange(ROWS) == 3)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([None, *range(ROWS - 1)], SourceError, "no value here"),
        ([*WORDS[:-1], None], SourceError, "row 36.*no value here"),
        ([*WORDS[:-1], float("nan")], SourceError, "nan among strings"),
        ([*WORDS[:-1], 3], SourceError, "several kinds"),
        ([True, *range(ROWS - 1)], SourceError, "several kinds"),
        ([b"x"] * ROWS, SourceError, "decode"),
        ([{}] * ROWS, SourceError, "must have numbers or str"),
        (["\ud800"] * ROWS, SourceError, "UTF-8"),
        ([2**64] * ROWS, SourceError, "not an int64"),
        ([2**63, -1, *range(ROWS - 2)], SourceError, "not an int64"),
        ([2**53 + 1, 0.5, *range(ROWS - 2)], SourceError, "float"),
        (MASKED, TypeError, "masked"),
        (np.array([b"x"] * ROWS), TypeError, "decode"),
        (np.zeros((ROWS, 2)), TypeError, "one value for each row"),
        ([[1, 2]] * ROWS, SourceError, "must have numbers or str"),
        (np.zeros(ROWS, "M8[s]"), TypeError, "astype"),
        (np.zeros(ROWS, "m8[s]"), TypeError, "astype"),
        (np.zeros(ROWS, complex), TypeError, "two attributes"),
        (np.zeros(ROWS, "i4,i4"), TypeError, "each field"),
        (np.float64(3), TypeError, "one value for each row"),
        (3, TypeError, "one value for each row"),
        (b"bytes", TypeError, "one value for each row"),
        ({"the": 3}, TypeError, "one value for each row"),
        ({3}, TypeError, "one value for each row"),
        (None, TypeError, "one value for each row"),
        ([], SourceError, "dtype"),
        (list(range(ROWS - 1)), SourceError, "36 values.*37 rows"),
        ([*WORDS, "x"], SourceError, "38 values.*37 rows"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_that_cannot_be_stored_are_refused(tmp_path, given, error, message):
    with pytest.raises(error, match=message) as caught:
        build(tmp_path / "t", {"count": given})
    assert "'count'" in str(caught.value)
    assert names(tmp_path) == []


def test_missing_values_of_other_libraries_are_refused(tmp_path):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    holes = [None, *range(ROWS - 1)]
    for given in (
        pyarrow.array(holes),
        pyarrow.array([None, *WORDS[1:]]),
        pandas.Series(holes, dtype="Int64"),
        pandas.Series([None, *WORDS[1:]]),
        pandas.Series(pandas.to_datetime(["2026-01-01"] * ROWS)),
        polars.Series(holes),
        polars.Series([None, *WORDS[1:]]),
    ):
        with pytest.raises((TypeError, SourceError), match="'count'"):
            build(tmp_path / "t", {"count": given})


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "__x", "zarr.json", "a\nb", "\ud800", "x" * 101, "語" * 90],
)
def test_wrong_names_are_refused(tmp_path, name):
    for check_it in (
        lambda: check_name(name),
        lambda: build(tmp_path / "t", {name: np.arange(ROWS)}),
        lambda: embstore.StoreWriter(
            tmp_path / "t", row_shape=(3,), dtype="f4", attributes={name: "int8"}
        ),
    ):
        with pytest.raises(ValueError, match="cannot name an attribute"):
            check_it()
    with pytest.raises(TypeError, match="must be a str"):
        build(tmp_path / "t", {3: np.arange(ROWS)})


@pytest.mark.parametrize("name", ["c", ".hidden", "a b", "語", "a.b", "%41?#&", "bytes", "x" * 100])
def test_other_names_are_taken(tmp_path, name):
    given = {name: np.arange(ROWS), f"{name[:50]}2": WORDS}
    store = build(tmp_path / "t", given)
    check(store, given)
    assert embstore.verify(tmp_path / "t").ok
    embstore.publish(tmp_path / "t", (tmp_path / "published").as_uri())
    with embstore.open((tmp_path / "published").as_uri()) as there:
        check(there, given)


@pytest.mark.parametrize("value", ["count", 3, {"count"}, b"count"])
def test_wrong_kinds_of_attributes_are_refused(tmp_path, value):
    with pytest.raises(TypeError, match="attributes must be"):
        build(tmp_path / "t", value)


def test_a_limit_takes_the_first_values(tmp_path):
    store = build(tmp_path / "t", limit=5)
    check(store, {name: values[:5] for name, values in columns().items()})
    given = {"count": np.arange(5)}
    check(build(tmp_path / "u", given, limit=5), given)


# --- the writer ---


def writer(path: Path, **options: Any) -> embstore.StoreWriter:
    return embstore.StoreWriter(path, row_shape=(3,), dtype="float32", **options)


@pytest.mark.parametrize("partitions", [1, 3])
def test_batches_of_rows_have_their_attributes(tmp_path, partitions):
    given = columns()
    with writer(tmp_path / "t", partitions=partitions) as some:
        for start in range(0, ROWS, 10):
            part = {name: values[start : start + 10] for name, values in given.items()}
            some.write(TABLE[start : start + 10], WORDS[start : start + 10], attributes=part)
    store = embstore.open(tmp_path / "t")
    check(store, given)
    assert store.fingerprint() == build(tmp_path / "again").fingerprint()


def test_repeated_words_drop_their_attributes(tmp_path):
    with writer(tmp_path / "t", on_duplicate="first") as some:
        some.write(TABLE[:3], ["a", "b", "a"], attributes={"n": [1, 2, 3], "s": list("xyz")})
        some.write(TABLE[:2], ["b", "c"], attributes={"n": [4, 5], "s": ["v", "w"]})
    check(embstore.open(tmp_path / "t"), {"n": np.array([1, 2, 5]), "s": ["x", "y", "w"]})
    with pytest.raises(DuplicateWordError), writer(tmp_path / "u") as some:
        some.write(TABLE[:2], ["a", "a"], attributes={"n": [1, 2]})


def test_iterators_of_rows_and_values(tmp_path):
    given = columns()
    with writer(tmp_path / "t") as some:
        some.write(
            iter(TABLE),
            iter(WORDS),
            attributes={"count": iter(given["count"]), "tag": given["tag"], "seen": given["seen"]},
        )
    check(embstore.open(tmp_path / "t"), given)
    for values in (range(ROWS - 1), range(ROWS + 1)):
        for kind in (iter, list):
            with pytest.raises(ValueError, match="values"), writer(tmp_path / "u") as some:
                some.write(iter(TABLE), attributes={"count": kind(values)})


@pytest.mark.parametrize(
    ("first", "second", "error", "message"),
    [
        ({"n": [1]}, None, ValueError, "no attributes, and the table has 'n'"),
        ({"n": [1]}, {}, ValueError, "no attributes, and the table has 'n'"),
        (None, {"n": [1]}, ValueError, "the table has none"),
        ({"n": [1]}, {"m": [1]}, ValueError, "lack the attributes 'n' and have 'm'"),
        ({"n": [1]}, {"n": [1], "m": [1]}, ValueError, "have 'm'"),
        ({"n": [1]}, {"n": ["x"]}, TypeError, "has the dtype int64, not string"),
        ({"n": ["x"]}, {"n": [1]}, TypeError, "has the dtype string, not int64"),
        ({"n": [1]}, {"n": [1.0]}, TypeError, "has the dtype int64, not float64"),
        ({"n": [1]}, {"n": [True]}, TypeError, "has the dtype int64, not bool"),
        ({"n": np.array([1], "i1")}, {"n": [128]}, SourceError, "int8, which cannot hold 128"),
        ({"n": np.array([1], "u8")}, {"n": [-1]}, SourceError, "uint64, which cannot hold -1"),
        ({"n": [0.5]}, {"n": [2**53 + 1]}, SourceError, "float64, which cannot hold"),
        ({"n": np.array([1], "f4")}, {"n": [0.1]}, SourceError, "float32, which cannot hold 0.1"),
        ({"n": [1]}, {"n": [1, 2]}, ValueError, "2 values for 1 rows"),
    ],
)
def test_rows_with_other_attributes_are_refused(tmp_path, first, second, error, message):
    some = writer(tmp_path / "t")
    some.write(TABLE[:1], attributes=first)
    with pytest.raises(error, match=message):
        some.write(TABLE[1:2], attributes=second)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("int8", [127, -128]),
        ("uint64", np.array([5, 6], np.int8)),
        ("float32", [0.5, float("inf")]),
        ("float32", [float("nan"), 16777216]),
        ("float64", [2**53, -(2**53)]),
        ("bfloat16", [0.5, -2.0]),
        ("bool", [True, False]),
    ],
)
def test_numbers_that_fit_exactly_are_taken(tmp_path, dtype, given):
    with writer(tmp_path / "t", attributes={"n": dtype}) as some:
        some.write(TABLE[:2], attributes={"n": given})
    found = embstore.open(tmp_path / "t").attributes["n"]
    assert found.dtype_name == dtype
    assert repr(found[:].astype(np.float64).tolist()) == repr([float(one) for one in given])


def test_declared_attributes(tmp_path):
    declared = {"n": np.int16, "s": str, "b": "bool"}
    with writer(tmp_path / "t", attributes=declared):
        pass
    store = embstore.open(tmp_path / "t")
    assert repr(store.attributes) == "<Attributes n: int16, s: string, b: bool>"
    assert store.rows == 0
    for wrong in ({"n": "complex64"}, {"n": "nothing"}, ["n"], {"n": "M8[s]"}):
        with pytest.raises(TypeError, match="attributes"):
            writer(tmp_path / "u", attributes=wrong)


# --- the fingerprint ---


def test_fingerprint_is_that_of_the_specification(tmp_path):
    given: dict[str, Any] = {"count": np.array([5, 6]), "tag": ["a", "b"]}
    rows = np.array([[1, 2], [3, 4]], np.float32)
    found = embstore.build(rows, tmp_path / "t", attributes=given).fingerprint()
    assert found == "162b689963b4da3cb3574eb33d8daade" == model(rows, attributes=given)


def test_fingerprint_changes_exactly_with_the_table(tmp_path):
    given = columns()
    expected = model(TABLE, WORDS, attributes=given)
    assert expected == build(tmp_path / "t").fingerprint()
    for number, layout in enumerate(LAYOUTS[:3]):
        turned = dict(reversed(given.items()))
        assert build(tmp_path / f"l{number}", turned, **layout).fingerprint() == expected
    others = [
        {},
        {"count": given["count"]},
        given | {"count": given["count"] + 1},
        given | {"count": given["count"].astype(np.int32)},
        given | {"tag": given["tag"][::-1]},
        {"other" if name == "tag" else name: values for name, values in given.items()},
    ]
    found = {expected}
    for number, other in enumerate(others):
        found.add(
            build(tmp_path / f"o{number}", other or None, overwrite=False).fingerprint()
            if other
            else embstore.build(TABLE, tmp_path / f"o{number}", words=WORDS).fingerprint()
        )
    assert len(found) == len(others) + 1


# --- damage ---


def attribute_files(store: Path) -> list[str]:
    return sorted(
        str(path.relative_to(store)) for path in (store / "attributes").rglob("*") if path.is_file()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "t"
    build(path)
    return path


def test_damage_of_every_attribute_file_is_noticed(whole, tmp_path):
    found = attribute_files(whole)
    assert len(found) == 10
    for name in found:
        path = shutil.copytree(whole, tmp_path / "t")
        size = (path / name).stat().st_size
        for place in (0, size - 1):
            flip(path / name, place)
            report = embstore.verify(path)
            assert any(name in problem for problem in report.problems), name
            if "zarr.json" in name or place:
                with pytest.raises(StoreCorruptError, match=name):
                    embstore.open(path)
            flip(path / name, place)
        (path / name).unlink()
        with pytest.raises(StoreCorruptError):
            embstore.open(path)
        assert not embstore.verify(path).ok
        shutil.rmtree(path)


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("offsets", lambda some: some.__setitem__(3, -1), "outside"),
        ("offsets", lambda some: some.__setitem__(3, 2**62), "outside"),
        ("offsets", lambda some: some.__setitem__(slice(1, -1), 0), None),
        ("offsets", lambda some: some.__setitem__(-1, some[-1] - 1), None),
        ("offsets", lambda some: some.__setitem__(0, 1), None),
        ("bytes", lambda some: some.__setitem__(slice(None), 255), "UTF-8"),
    ],
)
def test_hostile_strings_are_refused(whole, tmp_path, part, changed, message):
    path = shutil.copytree(whole, tmp_path / "t")
    array = zarr.open_array(path / f"attributes/tag/{part}", mode="r+")
    values = array[:]
    changed(values)
    _write_array(path, f"attributes/tag/{part}", values)
    assert not embstore.verify(path).ok
    with embstore.open(path) as store:
        if message is not None:
            with pytest.raises(StoreCorruptError, match=f"'tag' is damaged.*{message}"):
                store.attributes["tag"][:]


def _write_array(store: Path, name: str, values: Any) -> None:
    """Write the only chunk of an array, with right checksums."""
    import google_crc32c

    (chunk,) = (store / name / "c").iterdir()
    data = values.tobytes().ljust(chunk.stat().st_size - 4, b"\0")
    checksum = google_crc32c.value(data)
    chunk.write_bytes(data + checksum.to_bytes(4, "little"))
    edit(store / name / "zarr.json", lambda own: own.update(chunk_crc32c=[checksum]))
    reseal(store)


HOSTILE: list[Any] = [
    None,
    [],
    {},
    {"count": None},
    {"count": {}},
    {"count": {"dtype": "complex64", "length": ROWS, "chunk_rows": 64}},
    {"count": {"dtype": "int64", "length": ROWS - 1, "chunk_rows": 64}},
    {"count": {"dtype": "int64", "length": -1, "chunk_rows": 64}},
    {"count": {"dtype": "int64", "length": ROWS, "chunk_rows": 0}},
    {"count": {"dtype": "int64", "length": ROWS, "chunk_rows": 2**60}},
    {"count": {"dtype": "int64", "length": ROWS, "chunk_rows": 8}},
    {"count": {"dtype": "string", "length": ROWS, "chunk_rows": 64}},
    {"../../etc": {"dtype": "int64", "length": ROWS, "chunk_rows": 64}},
    {"..": {"dtype": "int64", "length": ROWS, "chunk_rows": 64}},
    {"": {"dtype": "int64", "length": ROWS, "chunk_rows": 64}},
    {"a\0": {"dtype": "int64", "length": ROWS, "chunk_rows": 64}},
    {"tag": {"dtype": "string", "bytes": {"length": 1, "chunk_rows": 1}, "offsets": {}}},
    {"missing": {"dtype": "int64", "length": ROWS, "chunk_rows": 64}},
]


@pytest.mark.parametrize("attributes", HOSTILE, ids=lambda value: repr(value)[:50])
def test_hostile_manifests_are_refused(whole, tmp_path, attributes):
    path = shutil.copytree(whole, tmp_path / "t")
    edit(path / "zarr.json", lambda own: own.update(attributes=attributes))
    reseal(path)
    with pytest.raises(StoreCorruptError):
        embstore.open(path)
    assert not embstore.verify(path).ok


def test_another_fingerprint_is_noticed(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "t")
    edit(path / "zarr.json", lambda own: own.update(full_fingerprint=32 * "a"))
    reseal(path)
    (problem,) = embstore.verify(path).problems
    assert "the rows, words and attributes have the fingerprint" in problem


def test_fingerprint_that_is_missing_is_computed(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "t")
    edit(path / "zarr.json", lambda own: own.pop("full_fingerprint"))
    reseal(path)
    expected = model(TABLE, WORDS, attributes=columns())
    assert embstore.open(path).fingerprint() == expected
    report = embstore.publish(path, (tmp_path / "there").as_uri())
    assert report.version.startswith(expected)


# --- the life of a store ---


def test_closed_stores_refuse(tmp_path):
    store = build(tmp_path / "t")
    column, values = store.attributes["count"], store.attributes["tag"][:]
    store.close()
    with pytest.raises(StoreClosedError):
        column[0]
    with pytest.raises(StoreClosedError):
        _ = store.attributes
    assert values.tolist() == columns()["tag"]
    assert repr(column) == "<Column count: 37 values, int64>"


def test_replaced_stores_still_answer(tmp_path):
    store = build(tmp_path / "t")
    build(tmp_path / "t", {"count": np.zeros(ROWS)}, overwrite=True)
    check(store, columns())
    shutil.rmtree(tmp_path / "t")
    check(store, columns())


def test_copies_and_pickles(tmp_path):
    store = build(tmp_path / "t")
    for column in (
        pickle.loads(pickle.dumps(store.attributes["tag"])),
        pickle.loads(pickle.dumps(store.attributes))["tag"],
        copy.deepcopy(store.attributes["tag"]),
        copy.copy(store).attributes["tag"],
    ):
        assert list(column) == columns()["tag"]


def test_threads_and_forked_children(tmp_path):
    store = build(tmp_path / "t")
    expected = columns()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: store.attributes["tag"][:].tolist(), range(20)):
            assert found == expected["tag"]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(store.attributes["tag"][:].tolist()))
    child.start()
    assert queue.get() == expected["tag"]
    child.join()


def test_linked_files_are_compared(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "t")
    chunk = path / "attributes/count/c/0"
    chunk.rename(tmp_path / "target")
    chunk.symlink_to(tmp_path / "target")
    check(embstore.open(path), columns())
    flip(tmp_path / "target", 0)
    with pytest.raises(StoreCorruptError, match="attributes/count/c/0 is a symbolic link"):
        embstore.open(path)


def test_some_partitions(tmp_path):
    build(tmp_path / "t", partitions=3).close()
    with embstore.open(tmp_path / "t", partitions=[1]) as part:
        check(part, columns())
    shutil.rmtree(tmp_path / "t/attributes")
    with embstore.open(tmp_path / "t", partitions=[1]) as part:
        assert dict(part.attributes) == {}
    assert embstore.verify(tmp_path / "t", partitions=[0, 1, 2]).ok
    with pytest.raises(StoreCorruptError):
        embstore.open(tmp_path / "t")


def test_stores_at_urls(tmp_path):
    rows = 40_000
    count = np.arange(rows) * 3
    tag = [str(number) for number in range(rows)]
    given: dict[str, Any] = {"count": count, "tag": tag}
    words = [f"w{number}" for number in range(rows)]
    table = np.zeros((rows, 1), np.int8)
    embstore.build(table, tmp_path / "t", words=words, attributes=given)
    url = (tmp_path / "there").as_uri()
    report = embstore.publish(tmp_path / "t", url)
    for options in ({}, {"cache_dir": tmp_path / "cache"}):
        with embstore.open(url, **options) as store:
            before = store.stats().request_count
            assert store.attributes["count"][[5, 39_999]].tolist() == [15, 119_997]
            assert store.attributes["tag"]["w777"] == "777"
            assert store.stats().request_count - before < 20
            check(store, given)
            assert store.fingerprint(full=True) == store.fingerprint()
            assert report.version.startswith(store.fingerprint())
    again = embstore.publish(tmp_path / "t", url)
    assert again.uploaded_bytes == 0


def test_served_tables_have_no_attributes(tmp_path):
    pytest.importorskip("pyarrow.flight")
    build(tmp_path / "t").close()
    with embstore.serve(tmp_path / "t") as server, embstore.connect(server.address) as store:
        assert np.array_equal(store[5], TABLE[5])
        assert dict(store.attributes) == {}
        assert "count" not in store.attributes
        with pytest.raises(FormatError, match="no attributes; open the store itself"):
            _ = store.attributes["count"]
        with embstore.build(store, tmp_path / "u") as built:
            assert built.rows == store.rows
            assert not built.attributes


# --- building from a store ---


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_stores_keep_their_attributes_in_builds(tmp_path, layout):
    store = build(tmp_path / "t")
    again = embstore.build(store, tmp_path / "u", **layout)
    check(again, columns())
    if "encoding" not in layout:
        assert again.fingerprint() == store.fingerprint()
    more = {"count": np.arange(ROWS), "more": WORDS}
    check(embstore.build(store, tmp_path / "v", attributes=more), columns() | more)
    check(
        embstore.build(store, tmp_path / "w", attributes=["seen", "count"]),
        {name: columns()[name] for name in ("seen", "count")},
    )


# --- changes ---

WRONG: Any = ["count"]


def test_snapshots_have_the_attributes(tmp_path):
    build(tmp_path / "t").close()
    embstore.snapshot(tmp_path / "t", tmp_path / "u")
    embstore.update(tmp_path / "t", [0], attributes={"count": [77]})
    check(embstore.open(tmp_path / "u"), columns())
    shutil.rmtree(tmp_path / "u")
    assert embstore.verify(tmp_path / "t").ok


def test_bytes_of_no_string_are_refused_before_an_append(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "t")
    values: Any = zarr.open_array(path / "attributes/tag/offsets", mode="r")[:]
    values[-1] -= 1
    _write_array(path, "attributes/tag/offsets", values)
    some = {name: values[:1] for name, values in columns().items()}
    with pytest.raises(StoreCorruptError, match=r"'tag' is damaged.*belong to no string"):
        embstore.append(path, TABLE[:1], words=["x"], attributes=some)


@pytest.mark.parametrize("partitions", [1, 3])
def test_appended_rows_have_attributes(tmp_path, partitions):
    given = columns()
    start = 20
    first = {name: values[:start] for name, values in given.items()}
    rest = {name: values[start:] for name, values in given.items()}
    embstore.build(
        TABLE[:start], tmp_path / "t", words=WORDS[:start], attributes=first, partitions=partitions
    )
    old = embstore.open(tmp_path / "t")
    options: dict[str, Any] = {"words": WORDS[start:], "attributes": rest}
    dry = embstore.append(tmp_path / "t", TABLE[start:], dry_run=True, **options)
    report = embstore.append(tmp_path / "t", TABLE[start:], **options)
    assert dry.fingerprint == report.fingerprint == build(tmp_path / "u").fingerprint()
    check(embstore.open(tmp_path / "t"), given)
    check(old, first)
    assert embstore.verify(tmp_path / "t").ok


def test_updates_replace_rows_and_attributes(tmp_path):
    given = columns()
    build(tmp_path / "t", partitions=3).close()
    table = TABLE.copy()
    table[[5, 0]] = -1
    given["tag"][5], given["tag"][0] = "a much longer string", ""
    embstore.update(
        tmp_path / "t",
        ["w5", "w0"],
        table[[5, 0]],
        attributes={"tag": ["a much longer string", ""]},
    )
    given["count"][[36, 7]] = [8, 9]
    embstore.update(tmp_path / "t", [[36], [7]], attributes={"count": np.array([[8], [9]])})
    given["seen"][3], given["tag"][3] = True, "x"
    embstore.update(tmp_path / "t", 3, attributes={"seen": True, "tag": "x"})
    table[4] = 9
    embstore.update(tmp_path / "t", 4, table[4])
    store = embstore.open(tmp_path / "t")
    check(store, given)
    assert np.array_equal(store[:], table)
    assert store.fingerprint() == model(table, WORDS, attributes=given)
    assert embstore.verify(tmp_path / "t").ok


def test_upserts_replace_and_append_attributes(tmp_path):
    given = columns()
    start = 30
    first = {name: values[:start] for name, values in given.items()}
    first["count"], first["tag"] = first["count"] + 5, first["tag"][::-1]
    embstore.build(-TABLE[:start], tmp_path / "t", words=WORDS[:start], attributes=first)
    embstore.upsert(tmp_path / "t", TABLE, words=WORDS, attributes=given)
    store = embstore.open(tmp_path / "t")
    check(store, given)
    assert store.fingerprint() == build(tmp_path / "u").fingerprint()
    assert embstore.verify(tmp_path / "t").ok


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda path: embstore.append(path, TABLE[:1], words=["x"]), ValueError, "no attributes"),
        (lambda path: embstore.upsert(path, TABLE, words=WORDS), ValueError, "no attributes"),
        (
            lambda path: embstore.append(
                path, TABLE[:1], words=["x"], attributes={"count": [1], "tag": ["x"]}
            ),
            ValueError,
            "lack the attributes 'seen'",
        ),
        (
            lambda path: embstore.append(
                path, TABLE[:1], words=["x"], attributes={"count": [0.5], "tag": 3, "seen": [1]}
            ),
            TypeError,
            "one value for each row",
        ),
        (
            lambda path: embstore.update(path, [1], attributes={"n": [1]}),
            ValueError,
            "no attri.*'n'",
        ),
        (lambda path: embstore.update(path, [1, 1], attributes={"count": [1, 2]}), ValueError, "1"),
        (lambda path: embstore.update(path, [1], attributes={"count": [1, 2]}), ValueError, "more"),
        (
            lambda path: embstore.update(path, [1, 2], attributes={"count": [1]}),
            ValueError,
            "1 val",
        ),
        (lambda path: embstore.update(path, [99], attributes={"count": [1]}), IdRangeError, "99"),
        (lambda path: embstore.update(path, [1]), ValueError, "nothing to update"),
        (lambda path: embstore.update(path, [1], attributes=WRONG), TypeError, "mapping"),
    ],
)
def test_wrong_changes_leave_the_store_as_it_is(tmp_path, change, error, message):
    path = tmp_path / "t"
    build(path).close()
    with pytest.raises(error, match=message):
        change(path)
    check(embstore.open(path), columns())
    assert names(tmp_path) == ["t"]


@pytest.mark.parametrize("values", [list, tuple, iter], ids=["list", "tuple", "iter"])
def test_no_rows_may_have_empty_lists_of_values(tmp_path, values):
    path = tmp_path / "t"
    build(path).close()
    none = {name: values([]) for name in columns()}
    assert embstore.append(path, TABLE[:0], words=[], attributes=none).rows == 0
    none = {name: values([]) for name in columns()}
    assert embstore.upsert(path, TABLE[:0], words=[], attributes=none).rows == 0
    none = {name: values([]) for name in columns()}
    assert embstore.update(path, [], attributes=none).rows == 0
    check(embstore.open(path), columns())


def test_damaged_attributes_are_refused_before_a_change(whole, tmp_path):
    for name in attribute_files(whole):
        path = shutil.copytree(whole, tmp_path / "t")
        flip(path / name, 0)
        some = {key: values[:1] for key, values in columns().items()}
        with pytest.raises(EmbstoreError, match=name):
            embstore.append(path, TABLE[:1], words=["x"], attributes=some)
        if "zarr.json" not in name:
            with pytest.raises(EmbstoreError, match=name):
                embstore.update(path, [0], attributes=some)
        assert names(tmp_path) == ["t"]
        shutil.rmtree(path)


@pytest.mark.parametrize("share", [1, 50, 60_000])
def test_columns_of_several_chunks_change(tmp_path, share):
    rows = 60_000
    random = np.random.default_rng(share)
    given: dict[str, Any] = {
        "count": random.integers(0, 1 << 40, rows),
        "small": random.integers(0, 100, rows).astype(np.int16),
        "tag": [f"w{number}" * (1 + number % 5) for number in range(rows)],
    }
    table = np.zeros((rows, 1), np.int8)
    embstore.build(table, tmp_path / "t", attributes=given)
    ids = random.permutation(rows)[:share]
    new: dict[str, Any] = {
        "count": random.integers(0, 9, share),
        "tag": [f"new{number}" * (number % 4) for number in range(share)],
    }
    report = embstore.update(tmp_path / "t", ids, attributes=new)
    given["count"][ids] = new["count"]
    for number, value in zip(ids.tolist(), new["tag"], strict=True):
        given["tag"][number] = value
    appended: dict[str, Any] = {
        "count": np.arange(3000),
        "small": np.arange(3000, dtype=np.int16),
        "tag": [str(number) for number in range(3000)],
    }
    embstore.append(tmp_path / "t", np.zeros((3000, 1), np.int8), attributes=appended)
    given = {
        name: values + appended[name]
        if isinstance(values, list)
        else np.concatenate([values, appended[name]])
        for name, values in given.items()
    }
    store = embstore.open(tmp_path / "t")
    check(store, given)
    again = embstore.build(np.zeros((rows + 3000, 1), np.int8), tmp_path / "u", attributes=given)
    assert store.fingerprint() == again.fingerprint()
    assert embstore.verify(tmp_path / "t").ok
    assert report.rows_replaced == share
    assert report.chunks_linked > 0
