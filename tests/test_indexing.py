"""Stores as arrays: facts, conversion, and indices of several axes; the model is an ndarray."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.table.indexing import first_axis

ROWS = 13
WORDS = [f"w{number}" for number in range(ROWS)]
ROW_SHAPES = {"scalars": (), "vectors": (5,), "matrices": (3, 4), "float16": (2, 3, 2)}
TABLES = {
    name: np.random.default_rng(0)
    .normal(size=(ROWS, *shape))
    .astype("float16" if name == "float16" else "float32")
    for name, shape in ROW_SHAPES.items()
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores")
    for name, table in TABLES.items():
        with embstore.StoreWriter(
            path / name, row_shape=table.shape[1:], dtype=table.dtype, partitions=2, chunk_rows=4
        ) as writer:
            writer.write(table, WORDS)
    return {name: embstore.open(path / name) for name in TABLES}


def same(found: Any, expected: Any) -> bool:
    return (
        type(found) is type(expected)
        and found.dtype == expected.dtype
        and found.shape == expected.shape
        and np.array_equal(found, expected)
    )


KEYS: list[Any] = [
    *((3, 2), ([1, 2], slice(3)), (slice(1, 9, 2), ..., 0), (..., 1), (slice(None), -1)),
    *((), (3,), ([1, 2],), (slice(2, 5),), (...,), (slice(None),), (np.int64(4), 1), (slice(0), 0)),
    *((slice(None, None, -1), slice(None, None, -1)), (slice(-4, None), slice(-2, None))),
    *((slice(20, 3, -3), 0), (slice(5, 2), slice(None)), (slice(None, None, 4), [0, 1])),
    # Arrays are paired, as in NumPy.
    *(
        ([0, 1], [1, 0]),
        ([[0], [1]], [0, 1]),
        ([0, 1, 2], 0),
        (3, [0, 1, 1]),
        (np.array([5, 1]), [1]),
    ),
    *((np.array(3), 0), (np.array([[1, 2], [3, 4]]), 1), ([], slice(2)), ([], 0), (range(3), 1)),
    *(((1, 2), slice(1)), (np.array([1, 2], np.uint8), slice(1))),
    # None is a new axis; it moves the axes of arrays that it separates.
    *((None, 3), (3, None), (None, [1, 2], 0), ([1, 2], None, 0), (slice(3), None, 0)),
    *((None, None, slice(2)), (..., None), (None, ...), (None, [1, 2], None, [0, 1])),
    (3, np.array([True, False, True, False, True])),
]
MATRIX_KEYS: list[Any] = [
    *((3, 2, 1), (slice(None), 0, 1), (..., 0), (slice(3), ..., 0), ([1, 2], ..., [0, 1])),
    *(([1, 2], slice(None), [0, 1]), (slice(3), [0, 1], [0, 1]), ([1, 2], [0, 1], [2, 3])),
    *((None, [1, 2], slice(None), 0), (3, slice(None), [0, 1]), (3, ..., None), (3, 1, ...)),
    *(([1, 2], None, [0, 1]), ([1, 2], 0, None, [0, 1]), (..., 1, 1, 1), (3, ..., 1, 1)),
    (slice(3), np.ones((3, 4), bool)),
]


def check(store: embstore.EmbeddingStore, table: np.ndarray[Any, Any], key: Any) -> None:
    """Compare what an index gives, an IndexError included."""
    try:
        expected = table[key]
    except IndexError:
        with pytest.raises(IndexError):
            store[key]
    else:
        assert same(store[key], expected)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_indices_of_vectors(stores, key):
    assert same(stores["vectors"][key], TABLES["vectors"][key])


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("key", [*KEYS, *MATRIX_KEYS], ids=repr)
def test_indices_of_rows_of_any_rank(stores, name, key):
    check(stores[name], TABLES[name], key)


positions = st.integers(0, 1)
items = (
    st.none()
    | st.just(...)
    | positions
    | st.slices(6)
    | st.lists(positions, min_size=2, max_size=2)
    | st.just(np.array([[0, 1], [1, 0]]))
)


@settings(max_examples=300)
@given(name=st.sampled_from(sorted(TABLES)), key=st.lists(items, max_size=5).map(tuple))
def test_any_index(stores, name, key):
    check(stores[name], TABLES[name], key)


def test_an_index_is_one_lookup(stores, tmp_path):
    store = embstore.open(stores["matrices"].path)
    keys = [(3, 2), (slice(None), 0), ([1, 2], ..., 0), (None, [[1], [2]], [0, 1])]
    for key in keys:
        before = store.stats().lookups
        store[key]
        assert store.stats().lookups == before + 1
    part: Any = store[:, 0, 0]
    assert part.base is None  # It does not keep all rows in memory.


@pytest.mark.parametrize("key", [-1, (-1, 0), ([0, -1], 0), (ROWS, ...), (99,)])
def test_ids_stay_literal(stores, key):
    with pytest.raises(embstore.IdRangeError):
        stores["vectors"][key]


@pytest.mark.parametrize(
    "key",
    [
        *(np.ones(ROWS, bool), (np.ones(ROWS, bool), 0), ([True, False], 0), (True, 0)),
        *((slice(3, None), "the"), ("w1", "w2"), (0, "w2"), (1.0, 2), ([1.5], 0)),
        *(None, ("w1", ["w2"], "w3"), (np.array(1.0), 0)),
    ],
    ids=repr,
)
def test_other_first_items_are_refused(stores, key):
    with pytest.raises((TypeError, IndexError)):
        stores["vectors"][key]


def test_words_may_be_the_first_item(stores):
    store, table = stores["matrices"], TABLES["matrices"]
    for key in (("w3", 1), (["w1", "w2"], ..., 0), (np.array([["w1"], ["w2"]]), [0, 1], 1)):
        ids = np.array(store.ids(key[0]))
        assert same(store[key], table[(ids[()], *key[1:])])
    assert same(store["w3", ...], table[3])
    with pytest.raises(embstore.MissingWordError, match="'absent'"):
        store[["w1", "absent"], 0]


@pytest.mark.parametrize(
    ("key", "rank", "message"),
    [
        ((0, 0, 0), 2, r"the table has 2 axes, but the index is for 3; to look up several rows"),
        ((..., 0, ...), 2, r"only one ellipsis"),
        ((0, np.ones((2, 2), bool)), 2, "the index is for 3"),
    ],
)
def test_wrong_numbers_of_items(key, rank, message):
    with pytest.raises(IndexError, match=message):
        first_axis(key, rank)
    with pytest.raises(IndexError):
        np.zeros((9, 9))[key]


# --- facts and conversion ---


@pytest.mark.parametrize("name", TABLES)
def test_facts_are_those_of_an_array(stores, name):
    store, table = stores[name], TABLES[name]
    for fact in ("shape", "ndim", "size", "nbytes", "dtype"):
        assert getattr(store, fact) == getattr(table, fact)
        assert type(getattr(store, fact)) is type(getattr(table, fact))
    assert len(store) == len(table)


@pytest.mark.parametrize("name", TABLES)
def test_conversion_is_one_scan(stores, name, monkeypatch):
    store, table = embstore.open(stores[name].path), TABLES[name]
    monkeypatch.setattr(embstore.EmbeddingStore, "__getitem__", None)
    for found in (np.asarray(store), np.array(store), np.array(store, copy=True)):
        assert same(found, table)
    assert same(np.asarray(store, np.float64), table.astype(np.float64))
    assert same(np.array(store, "int8"), table.astype("int8"))
    assert same(np.mean(store), table.mean())
    assert same(np.concatenate([store, store]), np.concatenate([table, table]))
    assert store.stats().lookups == 0
    with pytest.raises(ValueError, match="always a copy; omit copy=False"):
        np.array(store, copy=False)
    store.close()
    with pytest.raises(embstore.StoreClosedError):
        np.asarray(store)


def test_conversion_of_bfloat16_and_of_foreign_files(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    table = TABLES["vectors"].astype(ml_dtypes.bfloat16)
    store = embstore.build(table, tmp_path / "t")
    assert same(np.asarray(store), table)
    assert same(np.asarray(store, np.float32), table.astype(np.float32))
    assert same(store[1:3, ::2], table[1:3, ::2])
    np.save(tmp_path / "t.npy", TABLES["matrices"])
    file = embstore.open(tmp_path / "t.npy")
    assert same(np.asarray(file), TABLES["matrices"])
    assert same(file[..., 0], TABLES["matrices"][..., 0])


# --- libraries that take arrays ---


@pytest.mark.parametrize("chunks", [(4, 5), (13, 2), (5, 3), "auto"])
@pytest.mark.filterwarnings("ignore")
def test_dask_takes_a_store(stores, chunks):
    array = pytest.importorskip("dask.array")
    store, table = embstore.open(stores["vectors"].path), TABLES["vectors"]
    lazy = array.from_array(store, chunks=chunks)
    compute = {"scheduler": "synchronous"}
    assert same(lazy.compute(**compute), table)
    assert np.allclose(lazy.mean(axis=0).compute(**compute), table.mean(axis=0))
    assert same(lazy[[5, 1, 9]].compute(**compute), table[[5, 1, 9]])
    assert same(lazy[2:9, 1].compute(**compute), table[2:9, 1])
    assert store.stats().lookups < 50


def test_scikit_learn_takes_a_store(stores):
    sklearn = pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import NearestNeighbors
    from sklearn.utils import check_array, check_X_y

    assert sklearn.__version__
    store, table = embstore.open(stores["vectors"].path), TABLES["vectors"]
    assert same(check_array(store), table)
    targets = np.arange(ROWS) % 2
    assert same(check_X_y(store, targets)[0], table)
    model, expected = (
        LogisticRegression().fit(store, targets),
        LogisticRegression().fit(table, targets),
    )
    assert np.array_equal(model.predict(store), expected.predict(table))
    neighbours = NearestNeighbors(n_neighbors=2).fit(store)
    assert neighbours.kneighbors(store)[1][:, 0].tolist() == list(range(ROWS))
    before = store.stats().lookups
    split = train_test_split(store, targets, random_state=0)
    wanted = train_test_split(table, targets, random_state=0)
    assert all(map(same, split, wanted))
    assert store.stats().lookups == before + 2
