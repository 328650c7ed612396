"""`embedding_lookup_sparse` and its safe variant against their formulas.

Each difference in the table of `embstore.functional` has a test here or in
`test_tensorflow_examples`; TensorFlow's side of each is tested in `test_tensorflow_family`.
"""

from __future__ import annotations

import math
import tracemalloc
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore import (
    RaggedIds,
    RaggedRows,
    SparseIds,
    embedding_lookup,
    embedding_lookup_sparse,
    safe_embedding_lookup_sparse,
)
from tests.helpers.bags import combined, tolerance
from tests.helpers.stores import make_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLE = np.array([[1, 10], [2, 20], [3, 30], [4, 40]], np.float32)
# TensorFlow's documentation: [0, 0]: id 1, weight 2.0; [0, 1]: id 3, weight 0.5; [1, 0]: id 0,
# weight 1.0; [2, 3]: id 1, weight 3.0.
PLACES = [[0, 0], [0, 1], [1, 0], [2, 3]]
IDS = SparseIds(PLACES, [1, 3, 0, 1], [3, 4])
WEIGHTS = SparseIds(PLACES, [2.0, 0.5, 1.0, 3.0], [3, 4])


def cut(table: NDArray[Any], count: int, strategy: str) -> list[NDArray[Any]]:
    if strategy == "mod":
        return [table[first::count] for first in range(count)]
    return np.array_split(table, count)


@pytest.mark.parametrize(
    ("combiner", "first", "last"),
    [("mean", 2.5, 3.0), ("sum", 1.0, 1.0), ("sqrtn", math.sqrt(4.25), 3.0)],
)
def test_example_of_the_documentation(combiner, first, last):
    rows = embedding_lookup_sparse(TABLE, IDS, WEIGHTS, combiner=combiner)
    assert np.allclose(rows[0], (TABLE[1] * 2 + TABLE[3] * 0.5) / first)
    assert np.allclose(rows[1], TABLE[0])
    assert np.allclose(rows[2], TABLE[1] * 3 / last)
    assert rows.dtype == np.float32
    if combiner == "mean":
        assert np.array_equal(rows, embedding_lookup_sparse(TABLE, IDS, WEIGHTS))


@pytest.mark.parametrize("function", [embedding_lookup_sparse, safe_embedding_lookup_sparse])
def test_without_weights(function):
    assert function(TABLE, IDS).tolist() == [[3, 30], [1, 10], [2, 20]]
    assert function(TABLE, IDS, combiner="sum").tolist() == [[6, 60], [1, 10], [2, 20]]
    rows = function(TABLE, IDS, combiner="sqrtn")
    assert np.allclose(rows * [[math.sqrt(2)], [1], [1]], [[6, 60], [1, 10], [2, 20]])


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_all_kinds_of_params_agree(tmp_path, shape, dtype, combiner):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    random = np.random.default_rng(0)
    table = random.standard_normal((11, *shape)).astype(dtype)
    bags: list[list[int]] = [[3, 3, 10], [], [0], [7, 1, 2, 10, 4], []]
    weights: list[list[float]] = [[0.5, 2, 1], [], [3], [1, 1, 0.25, 2, 4], []]
    ids = RaggedIds(np.array(list(chain(*bags)), np.int32), np.cumsum([0, *map(len, bags)]))
    factors = RaggedIds(list(chain(*weights)), ids.row_splits)
    kinds: list[Any] = [table, *(cut(table, count, "mod") for count in (1, 2, 3, 13))]
    if np.dtype(dtype).kind == "f":  # Neither Zarr nor a store has bfloat16 everywhere.
        kinds += [
            make_store(tmp_path / "store", table, partitions=3),
            zarr.create_array(tmp_path / "zarr", data=table, chunks=(4, *shape)),
            [zarr.create_array(tmp_path / "p", data=table[::2]), table[1::2]],
        ]
        mapped = np.memmap(tmp_path / "map", table.dtype, "w+", shape=table.shape)
        mapped[:] = table
        kinds.append(mapped)
    for params in kinds:
        rows = embedding_lookup_sparse(params, ids, factors, combiner=combiner, max_norm=1.5)
        expected = combined(table, bags, weights, combiner, max_norm=1.5)
        assert type(rows) is np.ndarray
        assert rows.dtype == table.dtype
        assert np.allclose(rows.astype(float), expected, 0, 8 * tolerance(dtype))
        assert not rows[[1, 4]].any()


def test_torch_tensors_are_read_in_place():
    torch = pytest.importorskip("torch")
    table = torch.arange(12.0).reshape(6, 2)
    parts = [table[0::2], table[1::2].clone().requires_grad_()]
    ids = torch.tensor([[0, 5], [3, 3]])
    assert np.array_equal(embedding_lookup(parts, ids), table[ids].numpy())
    assert np.array_equal(embedding_lookup(table, ids), table[ids].numpy())
    half = table.to(torch.bfloat16)
    rows = embedding_lookup_sparse(half, RaggedIds([0, 5], [0, 2]), combiner="sum")
    assert rows.dtype.name == "bfloat16"
    assert rows.astype(float).tolist() == [[10, 12]]
    assert embedding_lookup(half, ids).astype(float).tolist() == table[ids].tolist()
    for elsewhere in (table.to("meta"), table.to_sparse()):
        with pytest.raises(TypeError, match="must be dense and on the CPU; this one is torch"):
            embedding_lookup(elsewhere, [0])


def test_a_store_in_a_list_is_refused(tmp_path):
    with (
        make_store(tmp_path / "store", TABLE) as store,
        pytest.raises(TypeError, match="pass the store itself"),
    ):
        embedding_lookup([store, store], [0])


def test_ragged_ids_give_ragged_rows(tmp_path):
    ids = RaggedIds([3, 0, 3], [0, 2, 2, 3])
    with make_store(tmp_path / "store", TABLE, partitions=2) as store:
        for params in (store, TABLE, [TABLE[::2], TABLE[1::2]]):
            rows = embedding_lookup(params, ids, max_norm=20.0)
            assert isinstance(rows, RaggedRows)
            assert rows.row_splits.tolist() == [0, 2, 2, 3]
            assert np.array_equal(rows.values, embedding_lookup(params, [3, 0, 3], max_norm=20.0))
    with pytest.raises(embstore.IdRangeError, match="id 4 at position 0"):
        embedding_lookup(TABLE, RaggedIds([4], [0, 1]))


def test_trailing_empty_bags_are_zeros():
    ids = SparseIds([[1, 0]], [2], [4, 1])
    zero = [0, 0]
    assert embedding_lookup_sparse(TABLE, ids).tolist() == [zero, [3, 30], zero, zero]
    rows = safe_embedding_lookup_sparse(TABLE, ids, default_id=3)
    assert rows.tolist() == [[4, 40], [3, 30], [4, 40], [4, 40]]


@pytest.mark.parametrize("combiner", ["mean", "sqrtn"])
def test_a_denominator_of_zero_gives_zeros(combiner):
    ids = RaggedIds([0, 1, 2], [0, 2, 3])
    weights = RaggedIds([0.0, 0.0, 0.0], [0, 2, 3])
    rows = embedding_lookup_sparse(TABLE, ids, weights, combiner=combiner)
    assert rows.tolist() == [[0, 0], [0, 0]]
    cancelling = RaggedIds([1.0, -1.0, 2.0], [0, 2, 3])
    rows = embedding_lookup_sparse(TABLE, ids, cancelling, combiner=combiner)
    assert np.allclose(rows[0], [0, 0] if combiner == "mean" else (TABLE[0] - TABLE[1]) / 2**0.5)
    assert rows[1].tolist() == [3, 30]


def test_safe_variant_drops_negative_ids():
    splits = [0, 3, 4, 4, 6]
    ids = RaggedIds([0, -1, 2, -7, 1, 3], splits)
    assert safe_embedding_lookup_sparse(TABLE, ids, combiner="sum").tolist() == [
        [4, 40],
        [0, 0],
        [0, 0],
        [6, 60],
    ]
    weights = RaggedIds([1.0, 1.0, -1.0, 1.0, 0.0, 2.0], splits)
    rows = safe_embedding_lookup_sparse(TABLE, ids, weights, combiner="mean", default_id=1)
    assert rows.tolist() == [[1, 10], [2, 20], [2, 20], [4, 40]]
    rows = safe_embedding_lookup_sparse(TABLE, ids, weights, combiner="sum")
    assert rows.tolist() == [[-2, -20], [0, 0], [0, 0], [8, 80]]
    nan = RaggedIds([1.0, 1.0, np.nan, 1.0, 1.0, 1.0], splits)
    assert safe_embedding_lookup_sparse(TABLE, ids, nan)[0].tolist() == [1, 10]


def test_safe_variant_keeps_the_axes_of_bags():
    ids = SparseIds([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1]], [0, 1, 2, -1], [2, 2, 2])
    rows = safe_embedding_lookup_sparse(TABLE, ids, default_id=3)
    assert rows.tolist() == [[[1, 10], [2, 20]], [[3, 30], [4, 40]]]
    with pytest.raises(ValueError, match="not 3; use safe_embedding_lookup_sparse"):
        embedding_lookup_sparse(TABLE, ids)


@pytest.mark.parametrize("shape", [(4,), (4, 1, 2)])
def test_safe_variant_takes_rows_of_any_shape(shape):
    table = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    ids = SparseIds([[0, 0], [2, 1]], [1, 3], [3, 2])
    rows = safe_embedding_lookup_sparse(table, ids, default_id=2)
    assert np.array_equal(rows, table[[1, 2, 3]])


def test_default_row_is_scaled_to_max_norm():
    ids = RaggedIds([0], [0, 0, 1])
    rows = safe_embedding_lookup_sparse(TABLE, ids, default_id=3, max_norm=1.0)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    with pytest.raises(embstore.IdRangeError, match="id 4 is out of range"):
        safe_embedding_lookup_sparse(TABLE, ids, default_id=4)
    with pytest.raises(embstore.IdTypeError):
        safe_embedding_lookup_sparse(TABLE, ids, default_id=0.5)  # type: ignore[arg-type]


def test_strategies(tmp_path):
    table = np.arange(5, dtype=np.float32)
    ids = RaggedIds([4, 1], [0, 1, 2])
    for strategy in ("mod", "div"):
        parts = cut(table, 2, strategy)
        assert embedding_lookup_sparse(parts, ids, None, strategy).tolist() == [4, 1]
        assert safe_embedding_lookup_sparse(parts, ids, partition_strategy=strategy).tolist() == [
            4,
            1,
        ]
    assert embedding_lookup_sparse(cut(table, 2, "mod"), ids).tolist() == [4, 1]
    assert safe_embedding_lookup_sparse(cut(table, 2, "div"), ids).tolist() == [4, 1]
    with make_store(tmp_path / "store", table, partitions=2, strategy="mod") as store:
        assert safe_embedding_lookup_sparse(store, ids).tolist() == [4, 1]  # It knows its own.
        for function in (embedding_lookup_sparse, safe_embedding_lookup_sparse):
            with pytest.raises(ValueError, match="partitioned by 'mod', not by 'div'"):
                function(store, ids, partition_strategy="div")


@pytest.mark.parametrize("function", [embedding_lookup_sparse, safe_embedding_lookup_sparse])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"sp_ids": RaggedIds([0, 4], [0, 2])},
            embstore.IdRangeError,
            "id 4 at position 1 ",
        ),
        ({"sp_ids": RaggedIds([0.5], [0, 1])}, embstore.IdTypeError, "not float64"),
        ({"sp_ids": RaggedIds([True], [0, 1])}, embstore.IdTypeError, "not bool"),
        ({"sp_ids": RaggedIds(["like"], [0, 1])}, embstore.IdTypeError, "lookup_words"),
        ({"sp_ids": [0, 1]}, TypeError, "sp_ids must be SparseIds or RaggedIds, not list"),
        ({"sp_weights": RaggedIds([1], [0, 1])}, TypeError, "must be SparseIds, like sp_ids"),
        ({"combiner": "max"}, ValueError, '"sum", "mean" or "sqrtn", not \'max\''),
        ({"max_norm": 0.0}, ValueError, "max_norm must be above 0"),
        ({"params": TABLE.astype(int)}, TypeError, "cannot combine rows of int64"),
        ({"params": [TABLE, TABLE[:1]]}, embstore.PartitionSizeError, "with other sizes"),
        ({"params": []}, ValueError, "empty list"),
    ],
)
def test_mismatched_arguments_are_refused(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(**({"params": TABLE, "sp_ids": IDS} | arguments))


def test_negative_ids_are_errors_without_the_safe_variant():
    with pytest.raises(embstore.IdRangeError, match="id -1 at position 1"):
        embedding_lookup_sparse(TABLE, RaggedIds([0, -1], [0, 2]))


def test_plain_lookup_refuses_sparse_ids():
    with pytest.raises(embstore.IdTypeError, match="SparseIds"):
        embedding_lookup(TABLE, IDS)  # type: ignore[call-overload]


@settings(max_examples=30)
@given(st.data())
def test_sparse_and_ragged_ids_agree(data):
    lengths = data.draw(st.lists(st.integers(0, 4), max_size=6))
    count = sum(lengths)
    values = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    places = [[bag, place] for bag, length in enumerate(lengths) for place in range(length)]
    sparse = SparseIds(places, values, [len(lengths), 4])
    ragged = RaggedIds(values, np.cumsum([0, *lengths]))
    assert np.array_equal(
        embedding_lookup_sparse(TABLE, sparse), embedding_lookup_sparse(TABLE, ragged)
    )


def test_compressed_table_is_read_in_one_call(tmp_path, monkeypatch):
    table = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    array = zarr.create_array(tmp_path / "z", data=table, chunks=(8, 3))
    calls = []
    whole = type(array).oindex.fget  # type: ignore[attr-defined]

    class Counting:
        def __getitem__(self, rows):
            calls.append(rows)
            return whole(array)[rows]

    monkeypatch.setattr(type(array), "oindex", Counting())
    ids = RaggedIds([9, 9, 1, 63, 1], [0, 2, 5])
    rows = embedding_lookup_sparse(array, ids, combiner="sum")
    assert np.allclose(rows, [table[9] * 2, table[1] * 2 + table[63]])
    assert [call.tolist() for call in calls] == [[1, 9, 63]]


@pytest.mark.parametrize("order", ["C", "F"])
def test_strided_array_is_not_copied(order):
    table = np.ones((50_000, 64), np.float32, order)[:, :32]  # 6.4 MB of it are rows.
    tracemalloc.start()
    rows = embedding_lookup(table, [7, 0])
    sums = embedding_lookup_sparse(table, RaggedIds([7, 0], [0, 2]), combiner="sum")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows.tolist() == [[1] * 32] * 2
    assert sums.tolist() == [[2] * 32]
    assert peak < 1 << 20
