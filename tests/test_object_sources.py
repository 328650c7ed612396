"""Python objects: arrays, mappings, iterables, tensors, partitions."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore import sources
from embstore.errors import PartitionSizeError, SourceError
from embstore.table.numbering import Numbering
from tests.helpers.sources import AWKWARD, any_word, assert_same, read

ROWS = np.random.default_rng(0).standard_normal((20, 3), np.float32)
WORDS = [*AWKWARD, "last", "the end"][:20]


@pytest.fixture(params=[1, 30, 4 << 20])
def batch_bytes(request, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_BYTES", request.param)


in_batches = pytest.mark.usefixtures("batch_bytes")


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
@pytest.mark.parametrize("dtype", ["float16", ">f4", "int64", "uint8"])
def test_arrays(tmp_path, shape, dtype):
    array = np.ones((9, *shape)).astype(dtype)
    array[3:] *= 7
    for source in (array, np.asfortranarray(array), array[::-1][::-1]):
        words, rows = read(source)
        assert words is None
        assert_same(rows, array)
    assert_same(read(array, limit=2)[1], array[:2])
    assert_same(read(zarr.array(array), limit=7)[1], array[:7])
    store = embstore.build(array, tmp_path / "s", partitions=2, strategy="div")
    np.testing.assert_array_equal(store[:], array)


def test_arrays_with_words(tmp_path):
    store = embstore.build(ROWS, tmp_path / "s", words=WORDS, partitions=3)
    assert store.ids(WORDS).tolist() == list(range(20))
    np.testing.assert_array_equal(store[:], ROWS)
    with pytest.raises(SourceError, match="words has 2 words, but ndarray has 20 rows"):
        read(ROWS, words=["a", "b"])


def test_nested_lists():
    assert_same(read([[1, 2], [3, 4]])[1], np.array([[1, 2], [3, 4]]))
    assert_same(read(((0.5, 2),))[1], np.array([[0.5, 2]]))
    assert_same(read([1, 2, 3])[1], np.array([1, 2, 3]))
    with pytest.raises(SourceError, match="the rows of the list differ"):
        read([[1, 2], [3]])


def test_bfloat16():
    array = ROWS.astype(ml_dtypes.bfloat16)
    assert_same(read(array)[1], array)


def test_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(ROWS.copy())
    assert_same(read(tensor)[1], ROWS)
    assert_same(read(torch.nn.Parameter(tensor), limit=3)[1], ROWS[:3])
    assert_same(read(tensor.half())[1], ROWS.astype(np.float16))
    assert_same(read(tensor.bfloat16())[1], ROWS.astype(ml_dtypes.bfloat16))
    assert_same(read(tensor.T)[1], np.ascontiguousarray(ROWS.T))
    assert_same(read([tensor[:12], tensor[12:]])[1], ROWS)
    assert_same(read({"a": tensor[0]})[1], ROWS[:1])
    assert read(tensor, words=WORDS)[0] == WORDS


@in_batches
@pytest.mark.parametrize("kind", ["mapping", "list", "generator", "zip", "list of lists"])
def test_words_and_vectors(kind):
    pairs = list(zip(WORDS, ROWS, strict=True))
    source: Any = {
        "mapping": lambda: dict(pairs),
        "list": lambda: pairs,
        "generator": lambda: (pair for pair in pairs),
        "zip": lambda: zip(WORDS, ROWS, strict=True),
        "list of lists": lambda: [[word, row] for word, row in pairs],
    }[kind]
    words, rows = read(source())
    assert words == WORDS
    assert_same(rows, ROWS)
    words, rows = read(source(), limit=4)
    assert words == WORDS[:4]
    assert_same(rows, ROWS[:4])


@in_batches
@pytest.mark.parametrize("kind", [list, tuple, iter])
@pytest.mark.parametrize("with_words", [False, True])
def test_blocks(kind, with_words):
    cuts: list[Any] = [ROWS[:2], ROWS[2:2], ROWS[2:3], ROWS[3:]]
    ends = np.cumsum([len(cut) for cut in cuts]).tolist()
    if with_words:
        cuts = [(WORDS[end - len(cut) : end], cut) for cut, end in zip(cuts, ends, strict=True)]
    words, rows = read(kind(cuts))
    assert words == (WORDS if with_words else None)
    assert_same(rows, ROWS)
    assert_same(read(kind(cuts), limit=4)[1], ROWS[:4])


@settings(max_examples=50, deadline=None)
@given(
    words=st.lists(any_word, min_size=1, max_size=30, unique=True),
    shape=st.sampled_from([(), (1,), (4,), (2, 2)]),
    limit=st.none() | st.integers(1, 9),
)
def test_any_words(words, shape, limit):
    rows = np.random.default_rng(0).random((len(words), *shape))
    found, read_rows = read(dict(zip(words, rows, strict=True)).items(), limit=limit)
    assert found == words[:limit]
    assert_same(read_rows, rows[:limit])


def test_iterator_is_read_no_further_than_needed():
    counter = itertools.count()
    words, _ = read(((f"w{i}", [i]) for i in counter), limit=10)
    assert words == [f"w{i}" for i in range(10)]
    assert next(counter) == 10
    counter = itertools.count()
    assert len(read((np.full((3, 2), i) for i in counter), limit=10)[1]) == 10
    assert next(counter) == 4


def test_iterator_with_div(tmp_path):
    with pytest.raises(SourceError, match=r'strategy="div" needs .* only once; pass a list, or'):
        embstore.build(iter([("a", [1])]), tmp_path / "s", strategy="div")
    pairs = [("a", [1]), ("b", [2]), ("a", [3]), ("c", [4])]
    for source in (pairs, [(["a", "b"], [[1], [2]]), (["a", "c"], np.array([[3], [4]]))]):
        store = embstore.build(source, tmp_path / "s", strategy="div", partitions=2, overwrite=True)
        assert store.source["duplicate_count"] == 1
        assert store[["a", "b", "c"]].ravel().tolist() == [1, 2, 4]


def test_non_finite_rows_are_counted(tmp_path):
    store = embstore.build({"a": [np.nan, 1.0], "b": [0.0, 1.0]}, tmp_path / "s")
    assert store.source["non_finite_row_count"] == 1
    assert store.dtype == np.float64


def test_dtype_may_differ_from_the_source(tmp_path):
    store = embstore.build({"a": [1, 2], "b": [0.5, 1]}, tmp_path / "s", dtype="float32")
    assert store[["a", "b"]].tolist() == [[1, 2], [0.5, 1]]
    with pytest.raises(SourceError, match=r"dict: row 1: the value 300.* out of the range of int8"):
        embstore.build({"a": [1], "b": [300]}, tmp_path / "s2", dtype="int8")


@in_batches
@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("count", [1, 3, 7, 25])
def test_partitions(tmp_path, strategy, count):
    numbering = Numbering(20, count, strategy)
    parts = [ROWS[list(numbering.ids_of(number))] for number in range(count)]
    words, rows = read(parts, partition_strategy=strategy, words=WORDS)
    assert words == WORDS
    assert_same(rows, ROWS)
    assert_same(read(parts, partition_strategy=strategy, limit=11)[1], ROWS[:11])
    with embstore.build(
        parts, tmp_path / "s", partition_strategy=strategy, strategy="mod", partitions=4
    ) as store:
        np.testing.assert_array_equal(store[:], ROWS)


def test_invalid_partitions_are_refused():
    with pytest.raises(PartitionSizeError, match="would lead to wrong rows"):
        read([ROWS[:3], ROWS[:5]], partition_strategy="mod")
    with pytest.raises(SourceError, match="goes with a list of partitions, not with ndarray"):
        read(ROWS, partition_strategy="mod")
    with pytest.raises(SourceError, match=r"partition 1 has shape \(20, 2\)"):
        read([ROWS, ROWS[:, :2]], partition_strategy="mod")
    with pytest.raises(SourceError, match="partition 1 is str, not an array"):
        read([ROWS, "x"], partition_strategy="mod")
    with pytest.raises(ValueError, match="strategy must be"):
        read([ROWS, ROWS], partition_strategy="hash")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({}, "the dict is empty"),
        (iter([]), "is empty"),
        ({"a": [1, 2], "b": [1]}, r"dict: row 1: expected a vector of shape \(2,\).*found \(1,\)"),
        ({"a": [1], "b": ["x"]}, "dict: row 1 has dtype <U1"),
        ({"a": "x"}, "dict: row 0 has dtype <U1"),
        ({"a": True}, "dtype bool"),
        ([("a", [1]), ([2], "b")], r"list: row 1: expected \(word, vector\), like the first item"),
        ({"a": [1], 2: [1]}, r"row 1: expected \(word, vector\)"),
        ([("a", [1]), ("\ud800", [1])], "row 1: the word '.ud800'"),
        ([(["a"], np.ones((2, 2)))], "a block has 1 words but 2 rows"),
        ([np.ones((2, 2)), np.ones((2, 3))], r"list\[1\] has shape \(2, 3\)"),
        ([np.ones((2, 2)), np.ones(2)], r"row 2: expected an array of shape \(n, 2\)"),
        (iter([np.ones((2, 2)), np.ones((2, 3))]), r"row 2: expected an array of shape \(n, 2\)"),
        (np.ones((2, 2), complex), "dtype complex128"),
        (np.array(1.0), r"has shape \(\)"),
    ],
)
def test_invalid_objects_are_refused(tmp_path, source, says):
    with pytest.raises(SourceError, match=says):
        embstore.build(source, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", [3, None, object(), b"bytes", [np.ones(3)], ["a", "b"], {1, 2}])
def test_unsupported_objects_are_type_errors(source):
    with pytest.raises(TypeError, match="expected"):
        read(source)


def test_store_as_source(words_store):
    with embstore.open(words_store) as store:
        words, rows = read(store)
        assert words == store.words(range(11))
        assert rows.tobytes() == store.to_numpy().tobytes()
        with pytest.raises(SourceError, match="neither words="):
            read(store, words=["a"] * 11)


def test_hdf5_data_sets(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        assert_same(read(file.create_dataset("rows", data=ROWS), words=WORDS)[1], ROWS)


@pytest.mark.parametrize("in_pairs", [False, True])
def test_generator_may_reuse_its_array(tmp_path, in_pairs):
    count, size = (3000, 1) if in_pairs else (12, 40_000)

    def produce() -> Any:
        array = np.empty((size, 5), np.float32)
        for number in range(count):
            array[:] = number
            yield (f"w{number}", array[0]) if in_pairs else array

    with embstore.build(produce(), tmp_path / "new.embstore") as store:
        expected = np.repeat(np.arange(count, dtype=np.float32), size)
        np.testing.assert_array_equal(store[:], np.tile(expected[:, np.newaxis], 5))
