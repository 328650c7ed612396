"""Rows scaled down to ``max_norm``, against a model in float64."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from embstore.dtypes import as_dtype
from embstore.norms import check_max_norm, clip_norms


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("shape", "row_rank"), [((9, 5), 1), ((9,), 0), ((3, 3, 2, 5), 2)])
def test_rows_above_the_limit_are_scaled(shape, row_rank, dtype):
    rows = np.random.default_rng(0).standard_normal(shape).astype(as_dtype(dtype))
    exact = rows.astype(np.float64).reshape(9, -1)
    norms = np.sqrt(np.square(exact).sum(axis=1))
    limit = float(np.median(norms)) * 1.001
    clipped = rows.copy()
    clip_norms(clipped, limit, row_rank)
    assert clipped.dtype == rows.dtype
    flat = clipped.reshape(9, -1)
    short = norms <= limit
    assert 0 < short.sum() < 9
    assert flat[short].tobytes() == rows.reshape(9, -1)[short].tobytes()
    # One rounding of the product, and one of the cast to 16 bits.
    tolerance = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-7, "float64": 1e-15}[dtype]
    expected = exact[~short] * (limit / norms[~short])[:, np.newaxis]
    np.testing.assert_allclose(flat[~short].astype(np.float64), expected, rtol=tolerance)


def test_long_doubles_are_scaled():
    rows = np.array([[3.0, 4.0], [0.3, 0.4]], np.longdouble)
    clip_norms(rows, 2.5, 1)
    assert rows.astype(float).tolist() == [[1.5, 2.0], [0.3, 0.4]]


def test_rows_at_the_limit_keep_their_bits():
    rows = np.array([[3.0, 4.0], [0.1, 0.7]], np.float32)
    limit = float(np.sqrt(np.square(rows[1], dtype=np.float64).sum()))
    before = rows[1].tobytes()
    clip_norms(rows, limit, 1)
    assert rows[1].tobytes() == before
    assert rows[0].tolist() != [3.0, 4.0]


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", 3e38), ("float16", 6e4), ("float32", 2e19)]
)
def test_squares_that_overflow_the_dtype(dtype, value):
    rows = np.full((1, 4), value, dtype)
    clip_norms(rows, 1.0, 1)
    np.testing.assert_allclose(rows.astype(float), 0.5, rtol=1e-3)


def test_non_finite_rows_do_not_warn():
    rows = np.array([[np.inf, 1], [np.nan, 1], [3, 4]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip_norms(rows, 1.0, 1)
    assert np.isnan(rows[0, 0])
    assert rows[0, 1] == 0
    assert np.isnan(rows[1, 0])
    assert np.isnan(rows[1, 1])  # As in TensorFlow.
    np.testing.assert_allclose(rows[2], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,)])
def test_no_numbers(shape):
    rows = np.empty(shape, np.float32)
    clip_norms(rows, 1.0, len(shape) - 1)
    assert rows.shape == shape


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_rows_that_are_not_floats_are_refused(dtype):
    with pytest.raises(TypeError, match=f"max_norm needs rows of floats; these are {dtype}"):
        check_max_norm(1.0, np.dtype(dtype))
    with pytest.raises(TypeError, match="needs rows of floats"):
        clip_norms(np.ones((2, 2), dtype), 1.0, 1)


@pytest.mark.parametrize("max_norm", [0, 0.0, -1.0, float("nan")])
def test_limits_that_are_not_positive_are_refused(max_norm):
    with pytest.raises(ValueError, match=f"max_norm must be above 0, not {max_norm}"):
        check_max_norm(max_norm, np.dtype(np.float32))
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        clip_norms(np.ones((2, 2)), max_norm, 1)


def test_tiny_and_infinite_limits_are_accepted():
    rows = np.array([[3.0, 4.0]])
    clip_norms(rows, float("inf"), 1)
    assert rows.tolist() == [[3.0, 4.0]]
    clip_norms(rows, 5e-300, 1)
    np.testing.assert_allclose(rows, [[3e-300, 4e-300]])
