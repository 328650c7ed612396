"""Bags of ids in both forms, and the errors for mismatched arguments."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from embstore import RaggedIds, RaggedRows, SparseIds
from embstore.functional.bags import as_bags


def test_sparse_ids_are_bags_of_all_axes_but_the_last():
    ids = SparseIds([[0, 1, 0], [0, 1, 2], [1, 0, 1]], [5, 6, 7], [2, 2, 3])
    assert ids.bags_shape == (2, 2)
    assert ids.row_splits.tolist() == [0, 0, 2, 3, 3]
    assert ids.dense_shape == (2, 2, 3)
    assert as_bags(ids).shape == (2, 2)


@pytest.mark.parametrize("nothing", [[], np.empty((0, 2), int), np.empty((0, 2))])
def test_bags_without_values(nothing):
    assert SparseIds(nothing, [], [3, 2]).row_splits.tolist() == [0, 0, 0, 0]
    assert SparseIds(nothing, [], [0, 0]).row_splits.tolist() == [0]
    assert RaggedIds([], [0]).bags_shape == (0,)
    assert RaggedIds([], [0, 0]).values.dtype == np.int64


INDICES = [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((INDICES, [1, 2], [2]), ValueError, r"2 or more axes, none negative; it is \[2\]"),
        ((INDICES, [1, 2], [2, -1]), ValueError, r"it is \[2, -1\]"),
        ((INDICES, [1, 2], 2), ValueError, "it is 2"),
        ((INDICES, [1, 2], [2.0, 2.0]), TypeError, "dense_shape must be integers, not float64"),
        ((INDICES, [1], [2, 2]), ValueError, r"shape \(2, 2\); 1 values .* need shape \(1, 2\)"),
        ((INDICES, [1, 2], [2, 2, 2]), ValueError, r"of 3 axes need shape \(2, 3\)"),
        (([[0.5, 0]], [1], [2, 2]), TypeError, "indices must be integers, not float64"),
        (([[0, 0], [1]], [1, 2], [2, 2]), ValueError, "indices must be an array"),
        ((INDICES, [[1, 2]], [2, 2]), ValueError, r"one axis; their shape is \(1, 2\)"),
        (([[0, 0], [2, 0]], [1, 2], [2, 2]), ValueError, r"\[2, 0\] of value 1 are outside of"),
        (([[0, 0], [1, 2]], [1, 2], [2, 2]), ValueError, r"\[1, 2\] of value 1 are outside of"),
        (([[0, -1], [1, 1]], [1, 2], [2, 2]), ValueError, r"\[0, -1\] of value 0 are outside"),
        (([[1, 0], [0, 0]], [1, 2], [2, 2]), ValueError, r"\[0, 0\] of value 1 follows \[1, 0"),
    ],
)
def test_inconsistent_sparse_ids_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SparseIds(*arguments)


def test_lexsort_puts_bags_in_order():
    places = np.array([[1, 0], [0, 1], [0, 0]])
    order = np.lexsort(places.T[::-1])
    ids = SparseIds(places[order], np.array([7, 8, 9])[order], [2, 2])
    assert ids.values.tolist() == [9, 8, 7]


@pytest.mark.parametrize(
    ("values", "splits", "error", "message"),
    [
        ([1, 2], [], ValueError, r"start with 0; their shape is \(0,\)"),
        ([1, 2], [[0, 2]], ValueError, r"must have one axis .* \(1, 2\)"),
        ([1, 2], [0, 1], ValueError, "number of values, 2; these run from 0 to 1"),
        ([1, 2], [1, 2], ValueError, "these run from 1 to 2"),
        ([1, 2], [0, 2, 1, 2], ValueError, "2 is followed by 1 at position 2"),
        ([1, 2], [0.0, 2.0], TypeError, "row_splits must be integers, not float64"),
        (1, [0, 1], ValueError, r"values of RaggedIds must have one axis or more"),
        ([[1], [2, 3]], [0, 1], ValueError, "values of RaggedIds must be an array"),
    ],
)
def test_inconsistent_ragged_ids_are_refused(values, splits, error, message):
    with pytest.raises(error, match=message):
        RaggedIds(values, splits)


SPARSE = SparseIds(INDICES, [1, 2], [2, 2])
RAGGED = RaggedIds([1, 2], [0, 1, 2])


@pytest.mark.parametrize(
    ("ids", "weights", "error", "message"),
    [
        ([1, 2], None, TypeError, "sp_ids must be SparseIds or RaggedIds, not list; embedding_l"),
        (np.arange(3), None, TypeError, "not ndarray"),
        (SPARSE, [0.5, 0.5], TypeError, "sp_weights must be SparseIds or RaggedIds, not list"),
        (SPARSE, RAGGED, TypeError, "sp_weights must be SparseIds, like sp_ids, not RaggedIds"),
        (SPARSE, SparseIds(INDICES[:1], [0.5], [2, 2]), ValueError, "1 weights for 2 ids"),
        (SPARSE, SparseIds([[0, 1], [1, 0]], [1, 1], [2, 2]), ValueError, "differ in indices or d"),
        (
            SPARSE,
            SparseIds(INDICES, [1, 1], [3, 2]),
            ValueError,
            "differ in indices or dense_shape",
        ),
        (RAGGED, RaggedIds([1, 1], [0, 2, 2]), ValueError, "differ in row_splits"),
        (SPARSE, SparseIds(INDICES, [True, False], [2, 2]), TypeError, "real numbers, not bool"),
        (RAGGED, RaggedIds(["a", "b"], [0, 1, 2]), TypeError, "real numbers, not <U1"),
        (RAGGED, RaggedIds([1j, 2], [0, 1, 2]), TypeError, "real numbers, not complex128"),
    ],
)
def test_mismatched_ids_and_weights_are_refused(ids, weights, error, message):
    with pytest.raises(error, match=message):
        as_bags(ids, weights)


def test_objects_with_the_same_attributes_are_accepted():
    sparse = SimpleNamespace(indices=INDICES, values=[1, 2], dense_shape=[2, 2])
    ragged = SimpleNamespace(values=[1, 2], row_splits=[0, 1, 2])
    for given in (sparse, ragged):
        bags = as_bags(given, given)
        assert bags.ids.tolist() == [1, 2]
        assert bags.row_splits.tolist() == [0, 1, 2]


def test_keep_drops_ids_and_their_weights():
    bags = as_bags(RaggedIds([4, 5, 6], [0, 2, 2, 3]), RaggedIds([1.0, 2.0, 3.0], [0, 2, 2, 3]))
    kept = bags.keep(np.array([False, True, False]))
    assert kept.ids.tolist() == [5]
    assert kept.weights is not None
    assert kept.weights.tolist() == [2]
    assert kept.row_splits.tolist() == [0, 1, 1, 1]


def test_ragged_rows_are_a_sequence_of_bags():
    rows = RaggedRows(np.arange(6).reshape(3, 2), np.array([0, 2, 2, 3]))
    assert [bag.tolist() for bag in rows] == [[[0, 1], [2, 3]], [], [[4, 5]]]
    assert rows[-1].tolist() == [[4, 5]]
    with pytest.raises(IndexError):
        rows[3]
