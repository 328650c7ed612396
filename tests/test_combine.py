"""Combined bags against a model: any lengths, several threads, bounded memory."""

from __future__ import annotations

import threading
import tracemalloc
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embstore.functional import combine, slices
from embstore.functional.combine import combine_bags
from embstore.functional.params import as_params
from embstore.functional.slices import Pieces
from embstore.reading import workers
from tests.helpers.bags import combined, tolerance

ROWS = 40


def flat(bags: list[list[Any]], dtype: Any = np.int64):
    splits = np.cumsum([0, *map(len, bags)])
    return np.array(list(chain.from_iterable(bags)), dtype), splits


def table_of(shape: tuple[int, ...], dtype: Any = np.float32, rows: int = ROWS):
    return np.random.default_rng(3).standard_normal((rows, *shape)).astype(dtype)


@pytest.fixture
def tiny_slices(monkeypatch):
    """Cut small inputs into pieces, slices and blocks, as large ones are."""
    monkeypatch.setattr(slices, "PIECE_IDS", 3)
    monkeypatch.setattr(combine, "PIECE_IDS", 3)
    monkeypatch.setattr(slices, "SLICE_BYTES", 100)
    monkeypatch.setattr(combine, "DISTINCT_BYTES", 200)
    monkeypatch.setattr(slices, "HELPER_BYTES", 64)
    monkeypatch.setattr(workers, "processor_count", lambda: 3)


class CountingParams:
    """An array that counts how often each of its rows is read, and by which calls."""

    def __init__(self, array: Any, by_row: bool) -> None:
        self.array, self.by_row = array, by_row
        self.rows, self.row_shape, self.dtype = len(array), array.shape[1:], array.dtype
        self.reads = np.zeros(len(array), int)
        self.calls: list[tuple[int, str]] = []

    def read(self, ids: Any, out: Any) -> None:
        np.add.at(self.reads, ids, 1)
        self.calls.append((len(ids), threading.current_thread().name))
        out[...] = self.array[ids]


bags_of_ids = st.lists(st.lists(st.integers(0, ROWS - 1), max_size=14), max_size=12)


@pytest.mark.usefixtures("tiny_slices")
@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
def test_any_bags_cut_into_many_pieces(combiner, by_row):
    @given(bags_of_ids, st.sampled_from([(), (1,), (5,), (2, 3)]), st.booleans(), st.data())
    def check(bags, shape, weighted, data):
        array = table_of(shape)
        weights = None
        if weighted:
            number = st.floats(0.125, 4, width=32)
            weights = [data.draw(st.lists(number, min_size=len(b), max_size=len(b))) for b in bags]
        ids, splits = flat(bags)
        factors = None if weights is None else flat(weights, np.float64)[0]
        rows = combine_bags(CountingParams(array, by_row), ids, splits, factors, combiner=combiner)
        expected = combined(array, bags, weights, combiner)
        assert rows.shape == expected.shape
        assert rows.dtype == array.dtype
        assert np.allclose(rows, expected, rtol=1e-5, atol=1e-4)

    check()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", ">f4"])
@pytest.mark.parametrize("shape", [(), (300,), (5, 4), (2000,)])
def test_all_dtypes_and_lengths(shape, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    array = table_of(shape, dtype)
    random = np.random.default_rng(5)
    bags = [random.integers(0, ROWS, n).tolist() for n in (0, 1, 2, 2, 63, 64, 65, 200, 0, 7, 0)]
    ids, splits = flat(bags)
    for combiner in ("sum", "mean"):
        rows = combine_bags(as_params(array), ids, splits, combiner=combiner)
        assert rows.dtype == array.dtype
        scale = 64 if combiner == "sum" else 4
        expected = combined(array, bags, combiner=combiner)
        assert np.allclose(rows.astype(float), expected, 0, scale * tolerance(dtype))
    assert not rows[[0, 8, 10]].any()


def test_16_bit_floats_are_summed_in_32_bits():
    # In float16, 2048 + 1 is 2048.
    array = np.array([[2048.0], [1.0]], np.float16)
    ids, splits = flat([[0, *[1] * 100]])
    assert combine_bags(as_params(array), ids, splits).tolist() == [[2148]]
    assert combine_bags(as_params(array[:1] * 30), np.zeros(2, int), np.array([0, 2])) == np.inf


@pytest.mark.parametrize("weighted", [False, True])
def test_non_finite_rows_affect_only_their_bag(weighted):
    array = np.ones((4, 3), np.float32)
    array[1] = np.inf
    array[2] = np.nan
    # Bags of several lengths share a rectangle.
    bags = [[0, 0, 0], [0, 1], [0], [2], [3, 0], [1]]
    ids, splits = flat(bags)
    weights = np.ones(len(ids), np.float32) if weighted else None
    sums = combine_bags(as_params(array), ids, splits, weights)[:, 0].tolist()
    assert sums[0] == 3
    assert sums[1] == sums[5] == np.inf
    assert (sums[2], sums[4]) == (1, 2)
    assert np.isnan(sums[3])
    if weighted:
        weights = np.ones(len(ids), np.float32)
        weights[4] = np.inf
        assert combine_bags(as_params(array[:1]), ids * 0, splits, weights)[1, 0] == np.inf


def test_float32_rows_are_summed_in_float32():
    rows = as_params(np.full((2, 1), 3e38, np.float32))
    assert combine_bags(rows, np.array([0, 1]), np.array([0, 2]), combiner="mean") == np.inf


def test_rows_are_clipped_before_they_are_summed():
    array = table_of((2, 3)) * 3
    bags = [[0, 1, 2], [], [5]]
    ids, splits = flat(bags)
    rows = combine_bags(as_params(array), ids, splits, max_norm=1.5)
    assert np.allclose(rows, combined(array, bags, max_norm=1.5), atol=1e-5)
    assert np.allclose(np.linalg.norm(rows[2]), 1.5)


def test_decoded_rows_are_read_once():
    table = CountingParams(table_of((5,)), by_row=False)
    ids, splits = flat([[3, 3, 1], [1, 7, 3], [7]])
    combine_bags(table, ids, splits)
    assert np.flatnonzero(table.reads).tolist() == [1, 3, 7]
    assert table.reads.max() == 1
    assert len(table.calls) == 1


@pytest.mark.usefixtures("tiny_slices")
@pytest.mark.parametrize(("width", "calls"), [(5, [10] * 4), (60, [1] * 40)])
def test_distinct_rows_fit_in_their_memory(width, calls):
    params = CountingParams(table_of((width,)), by_row=False)
    rows = combine_bags(params, np.arange(40), np.array([0, 15, 40]))
    assert [count for count, _ in params.calls] == calls  # At most 200 bytes, but one row.
    assert np.allclose(rows, np.add.reduceat(params.array, [0, 15]), atol=1e-4)


@pytest.mark.usefixtures("tiny_slices")
@pytest.mark.parametrize(("last", "total"), [(3e38, np.inf), (-np.inf, np.nan)])
def test_sums_of_blocks_out_of_range_do_not_warn(last, total):
    array = np.zeros((100, 1), np.float32)
    array[0] = 3e38 if last > 0 else np.inf
    array[99] = last  # In another block, of 50 ids.
    rows = combine_bags(CountingParams(array, by_row=False), np.arange(100), np.array([0, 100]))
    assert np.array_equal(rows, [[total]], equal_nan=True)


@pytest.mark.parametrize("combiner", ["mean", "sqrtn"])
def test_quotients_out_of_range_do_not_warn(combiner):
    params = as_params(np.array([[3e38], [0]], np.float32))
    ids, splits = np.array([0, 1]), np.array([0, 2])
    weights = np.array([1, -0.9375]) if combiner == "mean" else np.array([1e-30, 0])
    rows = combine_bags(params, ids, splits, weights, combiner=combiner)
    assert rows[0, 0] == (np.inf if combiner == "mean" else pytest.approx(3e38))
    rows = combine_bags(params, ids, splits, np.array([np.inf, 1]), combiner=combiner)
    assert np.isnan(rows[0, 0])


class SharedParams(CountingParams):
    """A table whose first reader waits until a second thread reads."""

    def __init__(self, array: Any, by_row: bool) -> None:
        super().__init__(array, by_row)
        self.shared = threading.Event()

    def read(self, ids: Any, out: Any) -> None:
        super().read(ids, out)
        if len({name for _, name in self.calls}) == 2:
            self.shared.set()
        assert self.shared.wait(300), "no second thread has read"


def test_large_calls_are_shared_by_threads(monkeypatch):
    monkeypatch.setattr(workers, "processor_count", lambda: 2)
    table = SharedParams(table_of((256,), rows=1000), by_row=True)
    ids = np.random.default_rng(0).integers(0, 1000, 20_000)
    rows = combine_bags(table, ids, np.arange(0, 20_001, 20))
    assert np.allclose(rows, table.array[ids].reshape(1000, 20, 256).sum(axis=1), atol=1e-4)
    assert len({name for _, name in table.calls}) == 2
    small = CountingParams(table.array, by_row=True)
    combine_bags(small, ids[:500], np.array([0, 500]))
    assert {name for _, name in small.calls} == {threading.current_thread().name}


@pytest.mark.parametrize("bag_ids", [20, 200_000])
def test_memory_is_bounded(bag_ids):
    # 200,000 rows of 1,200 bytes would be 240 MB.
    array = table_of((300,), rows=100)
    ids = np.random.default_rng(0).integers(0, 100, 200_000)
    splits = np.arange(0, 200_001, bag_ids)
    tracemalloc.start()
    rows = combine_bags(as_params(array), ids, splits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    index_bytes = 8 * 6 * len(ids)
    assert peak < 3 * rows.nbytes + 2 * len(ids) // slices.PIECE_IDS * 1200 + index_bytes + (
        4 << 20
    )
    assert np.allclose(rows[0], array[ids[:bag_ids]].sum(axis=0, dtype=float), rtol=1e-3, atol=0.1)


def test_errors_of_threads_are_raised():
    class FailingParams(CountingParams):
        def read(self, ids: Any, out: Any) -> None:
            raise OSError("the disk is gone")

    table = FailingParams(table_of((300,)), by_row=True)
    with pytest.raises(OSError, match="the disk is gone"):
        combine_bags(table, np.zeros(20_000, np.int64), np.arange(0, 20_001, 20))


def test_no_bags_and_no_ids_and_no_columns():
    table = as_params(table_of((5,)))
    nothing = np.empty(0, np.int64)
    assert combine_bags(table, nothing, np.array([0])).shape == (0, 5)
    assert (
        combine_bags(table, nothing, np.array([0, 0, 0]), combiner="mean").tolist() == [[0] * 5] * 2
    )
    empty_rows = as_params(np.ones((3, 0), np.float32))
    assert combine_bags(empty_rows, np.array([1, 2]), np.array([0, 2])).shape == (1, 0)
    assert combine_bags(as_params(np.ones((0, 2))), nothing, np.array([0, 0])).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"combiner": "median"}, ValueError, "combiner must be .* not 'median'"),
        ({"combiner": "max"}, ValueError, "combiner must be .* not 'max'"),
        ({"max_norm": 0}, ValueError, "max_norm must be above 0, not 0"),
    ],
)
def test_invalid_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        combine_bags(as_params(table_of((2,))), np.array([0]), np.array([0, 1]), **settings)


def test_settings_are_checked_without_ids():
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        combine_bags(as_params(table_of((2,))), np.empty(0, np.int64), np.array([0]), max_norm=0)


@pytest.mark.parametrize("dtype", ["int64", "complex64", "bool"])
def test_rows_that_are_not_floats_are_refused(dtype):
    with pytest.raises(TypeError, match=f"cannot combine rows of {dtype}; expected one of float8"):
        combine_bags(as_params(np.ones((2, 2), dtype)), np.array([0]), np.array([0, 1]))


@given(st.lists(st.integers(0, 300), max_size=30), st.integers(1, 1000))
def test_pieces_and_slices_hold_every_id_once(lengths, slice_ids):
    splits = np.cumsum([0, *lengths])
    pieces = Pieces.cut(splits)
    assert (pieces.lengths <= slices.PIECE_IDS).all()
    assert (np.diff(pieces.lengths) <= 0).all()
    assert sorted(pieces.positions().tolist()) == list(range(splits[-1]))
    for bag, (first, last) in enumerate(pairwise(pieces.splits.tolist())):
        mine = (pieces.numbers >= first) & (pieces.numbers < last)
        assert pieces.lengths[mine].sum() == lengths[bag]
        assert (pieces.starts[mine] >= splits[bag]).all()
        assert (pieces.starts[mine] + pieces.lengths[mine] <= splits[bag + 1]).all()
    seen: list[int] = []
    for rectangle in pieces.slices(slice_ids):
        where, fillers = rectangle.positions()
        positions = np.arange(splits[-1])[where]
        count = len(rectangle.lengths)
        assert len(positions) == count * rectangle.length <= max(slice_ids, rectangle.length)
        assert rectangle.start == len(seen)
        seen += rectangle.lengths.tolist()
        real = np.delete(positions, fillers)
        assert real.tolist() == list(range(rectangle.first, rectangle.first + len(real)))
    assert seen == pieces.lengths.tolist()
