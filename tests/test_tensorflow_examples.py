"""Worked examples of TensorFlow's documentation and of its embedding tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import embstore
from embstore import embedding_lookup

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MOD = [[0, 5, 10], [1, 6, 11], [2, 7, 12], [3, 8], [4, 9]]
DIV = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10], [11, 12]]


def as_numpy(array, path):
    return array


def as_memmap(array, path):
    if not array.size:
        return array  # np.memmap cannot be empty.
    mapped = np.memmap(path, array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    return mapped


def as_zarr(array, path):
    chunks = tuple(max(axis, 1) for axis in array.shape)
    stored = zarr.create_array(path, shape=array.shape, chunks=chunks, dtype=array.dtype)
    stored[:] = array
    return stored


def write_store(path: Path, table: NDArray[Any], **settings: Any) -> embstore.EmbeddingStore:
    with embstore.StoreWriter(
        path, row_shape=table.shape[1:], dtype=table.dtype, rows=len(table), **settings
    ) as writer:
        writer.write(table)
    return embstore.open(path)


kinds = pytest.mark.parametrize("kind", [as_numpy, as_memmap, as_zarr])


@kinds
@pytest.mark.parametrize(
    ("partitions", "ids", "expected"),
    [
        ([[1, 2], [10, 20]], [2, 0, 2, 1, 2, 3], [2, 1, 2, 10, 2, 20]),
        ([[10, 20, 30, 40]], [1, 1, 3], [20, 20, 40]),
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], [0, 3, 4, 1, 7], [1, 2, 5, 4, 6]),
    ],
)
def test_partitions_of_the_documentation(tmp_path, kind, partitions, ids, expected):
    params = [kind(np.array(part), tmp_path / str(i)) for i, part in enumerate(partitions)]
    assert embedding_lookup(params, ids).tolist() == expected
    assert embedding_lookup(params, ids, "mod").tolist() == expected
    if len(params) == 1:
        assert embedding_lookup(params[0], ids).tolist() == expected
    assert type(embedding_lookup(params, ids)) is np.ndarray


def test_partitions_as_plain_lists():
    assert embedding_lookup([10, 20, 30, 40], [1, 1, 3]).tolist() == [20, 20, 40]
    assert embedding_lookup([[1, 2], [10, 20]], [2, 0, 2, 1, 2, 3]).tolist() == [2, 1, 2, 10, 2, 20]


@kinds
@pytest.mark.parametrize("cuts", [[3], [2, 1], [1, 1, 1], [1, 1, 1, 0]])
def test_table_of_matrices_under_div(tmp_path, kind, cuts):
    table = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    pieces = np.split(table, np.cumsum(cuts)[:-1])
    params = [kind(piece, tmp_path / str(i)) for i, piece in enumerate(pieces)]
    rows = embedding_lookup(params, [0, 2, 1], "div")
    assert rows.shape == (3, 4, 2)
    assert np.array_equal(rows, table[[0, 2, 1]])
    with write_store(tmp_path / "store", table, partitions=len(cuts), strategy="div") as store:
        assert np.array_equal(embedding_lookup(store, [0, 2, 1], "div"), table[[0, 2, 1]])


@pytest.mark.parametrize(("strategy", "expected"), [("mod", MOD), ("div", DIV)])
def test_thirteen_ids_over_five_partitions(tmp_path, strategy, expected):
    table = np.arange(13)
    with write_store(tmp_path / "store", table, partitions=5, strategy=strategy) as store:
        partitions: list[Any] = [store.partition(i) for i in range(5)]
        assert [part[:].tolist() for part in partitions] == expected
        assert store.lookup(table).tolist() == table.tolist()
        for params in (store, partitions, [np.array(ids) for ids in expected]):
            ids = [[12, 0], [5, 11]]
            assert embedding_lookup(params, ids, strategy).tolist() == ids


def test_the_eleven_words(words_path, words_store):
    table = {}
    for line in words_path.read_text().splitlines():
        word, *numbers = line.split()
        table[word] = np.array([float(number) for number in numbers], np.float32)
    assert " ".join(table) == "the like between did just national day country under such second"
    with embstore.open(words_store) as store:
        words = ["like", "the", "country"]
        assert store.ids(words).tolist() == [1, 0, 7]
        rows = store[words]
        assert np.array_equal(rows, store[[1, 0, 7]])
        assert np.array_equal(rows, np.stack([table[word] for word in words]))
        assert np.array_equal(embedding_lookup(store, store.ids(words)), rows)
        assert store.words([1, 0, 7]) == words
        assert np.array_equal(store[list(table)], np.stack(list(table.values())))


def test_one_hot_times_matrix_is_lookup(tmp_path):
    table = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    ids = np.array([3, 0, 19, 3])
    one_hot = np.eye(20, dtype=np.float32)[ids]
    with write_store(tmp_path / "store", table, partitions=3) as store:
        assert np.array_equal(one_hot @ table, store[ids])
    assert np.array_equal(one_hot @ table, embedding_lookup(table, ids))


def test_max_norm(tmp_path):
    assert embedding_lookup([[2.0]], [0], max_norm=1.0).tolist() == [1.0]
    assert embedding_lookup(np.array([[2.0]]), [0], max_norm=1.0).tolist() == [[1.0]]
    table = np.array([[2.0, 4.0], [3.0, 1.0], [0.5, 0.5]])
    clipped = table * np.array([[2 / np.sqrt(20)], [2 / np.sqrt(10)], [1]])
    assert np.allclose(embedding_lookup(table, [0, 1, 2], max_norm=2.0), clipped, rtol=1e-15)
    with write_store(tmp_path / "store", table, partitions=2) as store:
        rows = store.lookup([[2, 0], [1, 0]], max_norm=2.0)
        assert np.allclose(rows, clipped[[[2, 0], [1, 0]]], rtol=1e-15)
        assert rows[0, 0].tolist() == [0.5, 0.5]  # Unchanged, to the bit.
        assert np.array_equal(embedding_lookup(store, 1, max_norm=2.0), rows[1, 0])
        assert np.array_equal(store[:], table)  # The table does not change.


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 2)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_max_norm_is_over_all_axes_of_a_row(tmp_path, shape, dtype):
    table = np.random.default_rng(1).standard_normal((9, *shape)).astype(dtype)
    norms = np.sqrt(np.square(table.astype(float)).reshape(9, -1).sum(axis=1))
    limit = float(np.median(norms)) * 1.01
    factors = np.minimum(1, limit / norms).reshape(9, *[1] * len(shape))
    with write_store(tmp_path / "store", table, partitions=2) as store:
        rows = store.lookup(np.arange(9), max_norm=limit)
        assert rows.dtype == table.dtype
        assert np.allclose(rows, table * factors, rtol=2 * np.finfo(dtype).eps)
        assert np.array_equal(rows[norms <= limit], table[norms <= limit])
        assert np.array_equal(rows, embedding_lookup(table, np.arange(9), max_norm=limit))
        assert store.lookup([], max_norm=limit).shape == (0, *shape)


def test_max_norm_of_non_finite_rows():
    table = np.array([[np.inf, 1], [np.nan, 1], [3e38, 3e38]], np.float32)
    rows = embedding_lookup(table, [0, 1, 2], max_norm=1.0)
    assert np.isnan(rows[0, 0])
    assert rows[0, 1] == 0
    assert np.isnan(rows[1]).all()
    assert np.allclose(rows[2], np.sqrt(0.5))  # The squares overflow float32.


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_max_norm_must_be_positive(max_norm):
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        embedding_lookup(np.ones((2, 2)), [0], max_norm=max_norm)


def test_max_norm_needs_floats():
    with pytest.raises(TypeError, match="max_norm needs rows of floats; these are int64"):
        embedding_lookup(np.ones((2, 2), np.int64), [0], max_norm=1.0)


@kinds
@pytest.mark.parametrize(
    ("sizes", "strategy", "canonical"),
    [([2, 3], "mod", r"\(3, 2\)"), ([5, 1], "div", r"\(3, 3\)"), ([1, 1, 4], "mod", "2, 2, 2")],
)
def test_wrong_partition_sizes_are_refused(tmp_path, kind, sizes, strategy, canonical):
    # TensorFlow silently returns wrong rows here (tensorflow#19265).
    params = [kind(np.ones((n, 2)), tmp_path / str(i)) for i, n in enumerate(sizes)]
    with pytest.raises(embstore.PartitionSizeError, match=canonical):
        embedding_lookup(params, [0], strategy)


@pytest.mark.parametrize(("own", "other"), [("mod", "div"), ("div", "mod")])
def test_strategy_must_be_that_of_the_store(tmp_path, own, other):
    with write_store(tmp_path / "store", np.arange(5), partitions=2, strategy=own) as store:
        assert embedding_lookup(store, [4]).tolist() == [4]
        assert embedding_lookup(store, [4], own).tolist() == [4]
        with pytest.raises(ValueError, match=f"partitioned by '{own}', not by '{other}'"):
            embedding_lookup(store, [4], other)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "empty list"),
        (5, ValueError, "params is a single number"),
        ([np.arange(3), np.array(5)], ValueError, "partition 1 is a single number"),
        ([np.ones((2, 3)), np.ones((2, 4))], ValueError, r"partition 1 has rows of shape \(4,\)"),
        ([np.ones(2), np.ones(2, int)], TypeError, "partition 1 is int64, partition 0 is float64"),
    ],
)
def test_params_that_are_not_a_table(params, error, message):
    with pytest.raises(error, match=message):
        embedding_lookup(params, [0])


def test_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match='must be "mod" or "div", not \'hash\''):
        embedding_lookup([np.ones(2)], [0], "hash")  # type: ignore[call-overload]


def test_ids_are_checked_over_all_partitions():
    params = [np.arange(3), np.arange(3), np.arange(2)]
    with pytest.raises(embstore.IdRangeError, match=r"id 8 at position 1 .* 8 rows, ids 0 to 7"):
        embedding_lookup(params, [0, 8])
    with pytest.raises(embstore.IdTypeError):
        embedding_lookup(params, [0.5])
    assert embedding_lookup(params, []).shape == (0,)
    assert embedding_lookup([np.ones((0, 2))], np.empty((3, 0), int)).shape == (3, 0, 2)
