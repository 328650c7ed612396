"""Arrays of callers: copied where they are kept, and searched for booleans among integers."""

from __future__ import annotations

import collections
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore import RaggedIds, SparseIds
from embstore.interop.keyedvectors import KeyedVectors

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = np.arange(22, dtype=np.float32).reshape(11, 2)
WORDS = [f"w{number}" for number in range(11)]
SPLITS = [0, 1, 2]


@pytest.fixture
def store(tmp_path):
    with embstore.StoreWriter(tmp_path / "t", row_shape=(2,), dtype="float32") as writer:
        writer.write(TABLE, WORDS)
    return embstore.open(tmp_path / "t")


def pandas(make: str) -> Any:
    pd = pytest.importorskip("pandas")
    makers: dict[str, Callable[[], Any]] = {
        "series": lambda: [pd.Series([True, False]), [1, 2]],
        "nullable": lambda: [pd.Series([True, False], dtype="boolean"), [1, 2]],
        "index": lambda: [pd.Index([True, False]), np.array([1, 2])],
        "objects": lambda: pd.Series([True, 2], dtype=object),
        "frame": lambda: pd.DataFrame({"a": [True, False], "b": [1, 2]}),
    }
    return makers[make]()


def polars(make: str) -> Any:
    pl = pytest.importorskip("polars")
    makers: dict[str, Callable[[], Any]] = {
        "series": lambda: [pl.Series([True, False]), [1, 2]],
        "frame": lambda: pl.DataFrame({"a": [True, False], "b": [1, 2]}),
        "frames": lambda: [pl.DataFrame({"a": [True, False], "b": [1, 2]})],
    }
    return makers[make]()


def arrow(make: str) -> Any:
    pa = pytest.importorskip("pyarrow")
    makers: dict[str, Callable[[], Any]] = {
        "array": lambda: [pa.array([True, False]), [1, 2]],
        "table": lambda: pa.table({"a": [True, False], "b": [1, 2]}),
        "scalar": lambda: [pa.scalar(True), 1],
    }
    return makers[make]()


def tensors(make: str) -> Any:
    torch = pytest.importorskip("torch")
    makers: dict[str, Callable[[], Any]] = {
        "tensors": lambda: [torch.tensor([True, False]), torch.tensor([1, 2])],
        "scalars": lambda: [torch.tensor(True), torch.tensor(2)],
        "mixed": lambda: (torch.tensor([True, False]), [1, 2]),
    }
    return makers[make]()


WITH_BOOLS: dict[str, Callable[[], Any]] = {
    "arrays": lambda: [np.array([True, False]), np.array([1, 2])],
    "arrays of bytes": lambda: [np.array([1, 2], np.int8), np.array([False, False])],
    "array and list": lambda: ([1, 2], np.array([True, False])),
    "nested": lambda: [[1, 2], [True, 2]],
    "deeply nested": lambda: [[[1, 2], [3, True]]],
    "flat": lambda: [1, True],
    "tuple": lambda: (0, False),
    "numpy bool": lambda: [np.True_, 2],
    "no axes": lambda: [np.array(True), 1],
    "objects": lambda: np.array([True, 2], object),
    "list of objects": lambda: [np.array([True, 2], object), [1, 2]],
    "deque": lambda: collections.deque([True, 2]),
    "list of deques": lambda: [collections.deque([True, 2])],
    "buffer": lambda: [memoryview(bytes([1, 0])).cast("?"), [1, 2]],
    "mask": lambda: np.array([True, False]),
    "masks": lambda: [np.array([True, False])],
    "one": lambda: True,
    "one of numpy": lambda: np.True_,
    **{f"pandas {make}": partial(pandas, make) for make in ("series", "nullable")},
    **{f"pandas {make}": partial(pandas, make) for make in ("index", "objects", "frame")},
    **{f"polars {make}": partial(polars, make) for make in ("series", "frame", "frames")},
    **{f"arrow {make}": partial(arrow, make) for make in ("array", "table", "scalar")},
    **{f"torch {make}": partial(tensors, make) for make in ("tensors", "scalars", "mixed")},
}


@pytest.mark.parametrize("name", WITH_BOOLS)
def test_booleans_are_not_ids(store, name):
    calls = [store.lookup, store.explain, store.prefetch, store.words]
    if not isinstance(WITH_BOOLS[name](), tuple):  # Which is an index for each axis.
        calls.append(store.__getitem__)
    for call in calls:
        with pytest.raises(embstore.IdTypeError):
            call(WITH_BOOLS[name]())
    for params in (store, TABLE, [TABLE[::2], TABLE[1::2]]):
        with pytest.raises(embstore.IdTypeError):
            embstore.embedding_lookup(params, WITH_BOOLS[name]())


FLAT_WITH_BOOLS = ["flat", "tuple", "numpy bool", "no axes", "objects", "deque", "mask"]


@pytest.mark.parametrize("name", [*FLAT_WITH_BOOLS, "pandas objects", "torch scalars"])
def test_booleans_are_not_ids_of_bags(store, name):
    lookups = (embstore.embedding_lookup_sparse, embstore.safe_embedding_lookup_sparse)
    for lookup in (*lookups, embstore.embedding_lookup):
        for params in (store, TABLE, [TABLE[:6], TABLE[6:]]):
            with pytest.raises(TypeError):
                lookup(params, RaggedIds(WITH_BOOLS[name](), SPLITS), partition_strategy=None)
    with pytest.raises(TypeError):
        embstore.safe_embedding_lookup_sparse(
            store, SparseIds([[0, 0], [1, 0]], WITH_BOOLS[name](), [2, 1])
        )


def test_booleans_are_not_weights_or_indices(store):
    ids = RaggedIds([1, 2], SPLITS)
    weights: Any
    splits: Any
    for weights in ([1.0, True], [True, 2], np.array([True, False]), [np.array(True), 2]):
        with pytest.raises(TypeError):
            embstore.embedding_lookup_sparse(store, ids, RaggedIds(weights, SPLITS))
    for splits in ([False, 1, 2], [np.False_, 1, 2], np.array([0, 1, 2], object)):
        with pytest.raises(TypeError):
            RaggedIds([1, 2], splits)
    for indices, shape in (([[0, 0], [True, 0]], [2, 1]), ([[0, 0], [1, 0]], [2, True])):
        with pytest.raises(TypeError):
            SparseIds(indices, [1, 2], shape)
    with pytest.raises(TypeError):
        embstore.safe_embedding_lookup_sparse(store, ids, default_id=True)


@pytest.mark.parametrize("key", [True, False, np.True_, np.array([True, False])])
def test_booleans_are_not_keys(store, key):
    vectors = KeyedVectors(store)
    for call in (
        *(vectors.__getitem__, vectors.get_index, vectors.get_vector, vectors.most_similar),
        *(vectors.similar_by_key, vectors.key_to_index.__getitem__),
        *(lambda key: vectors[[1, key]], lambda key: vectors.similarity(0, key)),
        *(lambda key: vectors.get_mean_vector([1, key]), lambda key: vectors.distances(1, [key])),
        lambda key: vectors.most_similar([("w1", 1.0)], [(key, 1.0)]),
    ):
        with pytest.raises((TypeError, KeyError, ValueError)):
            call(key)
    if not isinstance(key, np.ndarray):
        assert key not in vectors
        with pytest.raises(TypeError):
            vectors.index_to_key[key]


def test_plain_numbers_are_ids(store):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pa, torch = pytest.importorskip("pyarrow"), pytest.importorskip("torch")
    for ids in (
        *([1, 2], (1, np.int8(2)), range(1, 3), collections.deque([1, 2]), np.array([1, 2], "u1")),
        *([np.array(1), np.array(2, np.uint8)], [torch.tensor(1), torch.tensor(2)]),
        *(pd.Series([1, 2]), pd.Series([1, 2], dtype="Int64"), pl.Series([1, 2]), pa.array([1, 2])),
        pa.chunked_array([[1], [2]]),
    ):
        assert np.array_equal(store.lookup(ids), TABLE[1:3])
    for ids in (
        *([[1, 2], (3, 4)], [np.array([1, 2]), [3, 4]], [pd.Series([1, 2]), pl.Series([3, 4])]),
        *(pd.DataFrame({"a": [1, 3], "b": [2, 4]}), pl.DataFrame({"a": [1, 3], "b": [2, 4]})),
        [torch.tensor([1, 2]), np.array([3, 4])],
    ):
        assert np.array_equal(store.lookup(ids), TABLE[[[1, 2], [3, 4]]])


@pytest.mark.parametrize(
    "ids",
    [
        [np.ma.array([1, 2], mask=[False, True]), [3, 4]],
        [[3, 4], np.ma.array([1, 2], mask=True)],
        (np.ma.array([[1, 2]], mask=[[True, False]]),),
    ],
)
def test_masked_numbers_in_lists_are_refused(store, ids):
    with pytest.raises(embstore.IdTypeError, match="some of them are masked"):
        store.lookup(ids)
    with pytest.raises(TypeError, match="some of them are masked"):
        RaggedIds(np.ma.array([1, 2], mask=[True, False]), SPLITS)


# --- aliases ---


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_bags_copy_arrays(store, dtype):
    ids, splits = np.array([1, 2], dtype), np.array(SPLITS, np.int64)
    weights, indices, shape = np.ones(2), np.array([[0, 0], [1, 0]]), np.array([2, 1])
    bags, factors = RaggedIds(ids, splits), RaggedIds(weights, splits)
    sparse = SparseIds(indices, ids, shape)
    rows = embstore.embedding_lookup(store, bags)
    rows.row_splits[:] = 0
    for array in (ids, splits, weights, indices, shape):
        array[...] = 7
    for given in (bags, sparse):
        found = embstore.embedding_lookup_sparse(store, given)
        assert np.array_equal(found, TABLE[[1, 2]])
    found = embstore.embedding_lookup_sparse(store, bags, factors, combiner="sum")
    assert np.array_equal(found, TABLE[[1, 2]])


def test_other_ragged_ids_are_copied(store):
    class Ragged:
        values = np.array([1, 2])
        row_splits = np.array([0, 1, 2])

    ids: Any = Ragged()
    rows = embstore.embedding_lookup(store, ids)
    rows.row_splits[:] = 0
    assert Ragged.row_splits.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["numpy", "torch", "both"])
def test_datasets_copy_arrays(store, kind):
    torch = pytest.importorskip("torch")
    from embstore.interop.torch import StoreDataset

    ids = torch.tensor([1, 2]) if kind == "torch" else np.array([1, 2])
    targets = np.array([5, 6]) if kind == "numpy" else torch.tensor([5, 6])
    dataset = StoreDataset(store, ids, targets)
    ids[:], targets[:] = 7, 7
    rows, target = dataset[0]
    assert np.array_equal(rows.numpy(), TABLE[1])
    assert target == 5


def test_facts_of_a_store_are_copies(store):
    store.source["more"] = 1
    assert "more" not in store.source


def test_ids_may_share_memory_with_the_result(tmp_path):
    table = np.arange(10, dtype=np.int64)[::-1].copy()
    with embstore.StoreWriter(tmp_path / "t", row_shape=(), dtype="int64") as writer:
        writer.write(table)
    numbers = embstore.open(tmp_path / "t")
    for ids, out in (
        (slice(0, 4), slice(0, 4)),
        (slice(0, 4), slice(1, 5)),
        (slice(1, 5), slice(0, 4)),
    ):
        memory = np.array([3, 1, 4, 1, 5])
        expected = table[memory[ids]]
        assert np.array_equal(numbers.lookup(memory[ids], out=memory[out]), expected)


# --- positions ---


@pytest.mark.parametrize("bad", [11, 2**40, 2**63])
def test_positions_in_bags_are_those_of_the_caller(store, bad):
    values = np.array([-1, 3, -5, 2, 4, 1, -1])
    if bad == 2**63:
        values = np.abs(values).astype(np.uint64)
    values[4] = bad
    for params in (store, TABLE, [TABLE[:6], TABLE[6:]]):
        ids = RaggedIds(values, [0, 2, 5, 7])
        message = f"id {bad} at position 4 is out of range"
        with pytest.raises(embstore.IdRangeError, match=message):
            embstore.safe_embedding_lookup_sparse(params, ids)
        weights = RaggedIds([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0], [0, 2, 5, 7])
        with pytest.raises(embstore.IdRangeError, match=message):
            embstore.safe_embedding_lookup_sparse(params, ids, weights)
        # An id that is left out for its weight is not checked.
        weights.values[4] = 0
        embstore.safe_embedding_lookup_sparse(params, ids, weights)
        indices = [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1]]
        with pytest.raises(embstore.IdRangeError, match=message):
            embstore.safe_embedding_lookup_sparse(params, SparseIds(indices, values, [3, 3]))


@pytest.mark.parametrize(
    ("ids", "position"),
    [([[1, 2], [3, 99]], r"\(1, 1\)"), ([[[1, 99]]], r"\(0, 0, 1\)"), ([4, 5, 99], "2")],
)
def test_positions_in_arrays_are_those_of_the_caller(store, ids, position):
    for params in (store, TABLE, [TABLE[::2], TABLE[1::2]]):
        with pytest.raises(embstore.IdRangeError, match=f"id 99 at position {position} is out"):
            embstore.embedding_lookup(params, ids)


@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("slice_bytes", [16, 1 << 20])
@pytest.mark.parametrize("compiled", [False, True])
def test_positions_in_bags_of_tensors(store, padding_idx, slice_bytes, compiled, monkeypatch):
    torch = pytest.importorskip("torch")
    from embstore.interop.torch import StoreEmbeddingBag, bag

    monkeypatch.setattr(bag, "SLICE_BYTES", slice_bytes)
    module: Any = StoreEmbeddingBag(store, padding_idx=padding_idx)
    if compiled:
        module = torch.compile(module, backend="eager", fullgraph=True)
    with pytest.raises(embstore.IdRangeError, match=r"id 99 at position \(2, 1\) is out"):
        module(torch.tensor([[1, 2], [3, 4], [5, 99]]))
    with pytest.raises(embstore.IdRangeError, match="id 99 at position 4 is out"):
        module(torch.tensor([1, 2, 3, 3, 99]), torch.tensor([0, 3]))
