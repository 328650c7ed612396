"""Every function of the family against TensorFlow's own, where TensorFlow is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
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
from tests.helpers.bags import tolerance

DTYPES = ["float16", "bfloat16", "float32", "float64"]
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def tf():
    """TensorFlow, imported when these tests run: it takes seconds."""
    # Its log of each failure would hide everything else.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        return pytest.importorskip("tensorflow")


@st.composite
def tables(draw, dtypes=DTYPES):
    """Draw the partitions of a table that TensorFlow can take, and their strategy."""
    strategy = draw(st.sampled_from(["mod", "div"]))
    count = draw(st.integers(1, 7))
    # With fewer rows than partitions, TensorFlow divides by zero.
    rows = draw(st.integers(count, 20))
    shape = draw(st.lists(st.integers(1, 4), max_size=3).map(tuple))
    name = draw(st.sampled_from(dtypes))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    table = random.standard_normal((rows, *shape)).astype(np.float32)
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name
    table = (table * 10 if np.dtype(dtype).kind == "i" else table).astype(dtype)
    if strategy == "mod":
        return table, [table[first::count] for first in range(count)], strategy
    return table, np.array_split(table, count), strategy


max_norms = st.one_of(st.none(), st.floats(0.25, 4))
ids_shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def params_of(data: Any, tf: Any, parts: list[Any]) -> tuple[Any, Any]:
    """Return the same partitions for embstore and for TensorFlow: a list, or one array."""
    given = [tf.constant(part) for part in parts]
    if len(parts) == 1 and data.draw(st.booleans()):
        return parts[0], given[0]
    return parts, given


def equal(rows: Any, expected: Any, scale: float = 1.0) -> None:
    expected = expected.numpy()
    assert rows.shape == expected.shape
    assert rows.dtype == expected.dtype
    limit = scale * tolerance(rows.dtype)
    assert np.allclose(rows.astype(float), expected.astype(float), limit, limit)


def test_embedding_lookup(tf):
    @EXAMPLES
    @given(tables([*DTYPES[2:], "float16", "int32"]), ids_shapes, max_norms, st.data())
    def check(drawn, shape, max_norm, data):
        table, parts, strategy = drawn
        max_norm = max_norm if table.dtype.kind == "f" else None
        params, theirs = params_of(data, tf, parts)
        dtype = data.draw(st.sampled_from([np.int32, np.int64]))
        random = np.random.default_rng(data.draw(st.integers(0, 99)))
        ids = random.integers(0, len(table), shape).astype(dtype)
        rows = embedding_lookup(params, ids, strategy, max_norm)
        expected = tf.compat.v1.nn.embedding_lookup(theirs, ids, strategy, max_norm=max_norm)
        equal(rows, expected, 4)
        if max_norm is None:
            assert np.array_equal(rows, expected.numpy())

    check()


def test_embedding_lookup_of_ragged_ids(tf):
    @EXAMPLES
    @given(tables(["float32"]), st.lists(st.integers(0, 4), max_size=6), max_norms, st.data())
    def check(drawn, lengths, max_norm, data):
        table, parts, strategy = drawn
        params, theirs = params_of(data, tf, parts)
        ids = np.random.default_rng(len(lengths)).integers(0, len(table), sum(lengths))
        ragged = tf.RaggedTensor.from_row_splits(ids, np.cumsum([0, *lengths]))
        expected = tf.compat.v1.nn.embedding_lookup(theirs, ragged, strategy, max_norm=max_norm)
        for given_ids in (RaggedIds(ids, np.cumsum([0, *lengths])), ragged):
            rows = embedding_lookup(params, given_ids, strategy, max_norm)
            equal(rows.values, expected.values)
            assert rows.row_splits.tolist() == expected.row_splits.numpy().tolist()

    check()


def as_lists(rows: Any) -> Any:
    return [as_lists(row) for row in rows] if isinstance(rows, RaggedRows) else rows.tolist()


@pytest.mark.parametrize("kind", ["array", "list", "store"])
@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_embedding_lookup_of_ragged_ids_of_more_axes(tf, tmp_path, kind, max_norm):
    table = np.random.default_rng(3).standard_normal((9, 2)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True) * 2  # So max_norm changes none.
    params = {"array": table, "list": [table[::2], table[1::2]]}.get(kind)
    if params is None:
        params = embstore.build(table, tmp_path / "t.embstore", partitions=2)
    ragged = tf.RaggedTensor
    lengths = tf.ragged.constant([[0, 1], [2], [], [8], [3, 4]])
    none = np.zeros((0, 2), np.int64)
    for ids in (
        ragged.from_row_splits(np.array([[0, 1], [2, 3], [1, 8]]), [0, 2, 2, 3]),
        ragged.from_row_splits(np.arange(8).reshape(1, 2, 2, 2), [0, 0, 1]),
        ragged.from_row_splits(lengths, [0, 2, 2, 5]),
        ragged.from_row_splits(ragged.from_row_splits(lengths, [0, 1, 5]), [0, 0, 2]),
        ragged.from_uniform_row_length(lengths[:4], 2),
        ragged.from_row_splits(tf.cast(lengths, tf.int64), tf.constant([0, 5], tf.int64)),
        ragged.from_row_splits(none, [0]),
        ragged.from_row_splits(none, [0, 0, 0]),
        ragged.from_row_splits(ragged.from_row_splits(none, [0]), [0, 0]),
    ):
        expected = tf.compat.v1.nn.embedding_lookup(tf.constant(table), ids, max_norm=max_norm)
        for given_ids in (ids, RaggedIds(ids.values, ids.row_splits)):
            rows = embedding_lookup(params, given_ids, max_norm=max_norm)
            assert as_lists(rows) == expected.to_list()
            assert np.array_equal(rows.flat_values, expected.flat_values)
            assert rows.row_splits.tolist() == expected.row_splits.numpy().tolist()
    with pytest.raises(ValueError, match="sp_ids has more axes than bags and ids"):
        embedding_lookup_sparse(params, ids)
    good = tf.ragged.constant([[0, 1], [2]])
    with pytest.raises(ValueError, match="sp_weights has more axes than bags and ids"):
        embedding_lookup_sparse(params, good, ids)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_max_norm_of_rows_that_are_not_finite(tf, dtype):
    nan, inf = np.nan, np.inf
    table = tf.cast([[nan, 1], [inf, 1], [-inf, nan], [inf, -inf], [0, 0], [0, 2], [nan, 0]], dtype)
    ids = np.arange(7)
    for max_norm in (1.0, 1e-3, 3.0):
        expected = tf.compat.v1.nn.embedding_lookup(table, ids, max_norm=max_norm)
        rows = embedding_lookup(table.numpy(), ids, max_norm=max_norm)
        assert np.array_equal(rows, expected.numpy(), equal_nan=True)
        bags = [[number, 0] for number in ids]
        for combiner in ("sum", "mean"):
            mine, theirs = sparse_of(tf, (7, 1), bags, ids)
            rows = embedding_lookup_sparse(
                table.numpy(), mine, None, None, combiner, max_norm=max_norm
            )
            expected = tf.compat.v1.nn.embedding_lookup_sparse(
                table, theirs, None, combiner=combiner, max_norm=max_norm
            )
            assert np.array_equal(rows, expected.numpy(), equal_nan=True)


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn", None])
@pytest.mark.parametrize("table_dtype", DTYPES)
def test_weights_of_other_dtypes_than_the_table(tf, table_dtype, combiner):
    table = tf.cast([[1, 10], [2, 20], [3, 30]], table_dtype)
    places, ids = [[0, 0], [0, 1], [2, 0]], np.array([0, 2, 1])
    mine, theirs = sparse_of(tf, (3, 2), places, ids)
    for name in (*DTYPES, "int32", "int64", "uint8"):
        weights = tf.cast([1, 2, 3], name)
        my_weights = SparseIds(places, weights.numpy(), (3, 2))
        expected = tf.compat.v1.nn.embedding_lookup_sparse(
            table, theirs, tf.SparseTensor(places, weights, (3, 2)), combiner=combiner
        )
        for function in (embedding_lookup_sparse, safe_embedding_lookup_sparse):
            rows = function(table.numpy(), mine, my_weights, combiner=combiner)
            equal(rows, expected)


@st.composite
def bags(draw, rank, rows, *, safe):
    """Draw the shape, indices, ids and weights (or None) of a sparse array."""
    shape = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank).map(tuple))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    filled = random.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.6, 1.0]))
    places = np.argwhere(filled)
    ids = random.integers(-2 if safe else 0, rows, len(places))
    # Every dtype holds these weights exactly. Their sums are not near 0, where rounding dominates.
    weights = random.integers(0, 9, len(places)).astype(np.float32) / 4
    if safe and draw(st.booleans()):
        weights[::3] *= -1
    weighted = draw(st.booleans())
    return shape, places, ids, weights if weighted else None


def sparse_of(tf: Any, shape: Any, places: Any, values: Any) -> tuple[SparseIds, Any]:
    """Return the same sparse array for embstore and for TensorFlow."""
    return SparseIds(places, values, shape), tf.SparseTensor(places, values, shape)


combiners = st.sampled_from(["sum", "mean", "sqrtn"])


def test_embedding_lookup_sparse(tf):
    @EXAMPLES
    @given(tables(), combiners, max_norms, st.data())
    def check(drawn, combiner, max_norm, data):
        table, parts, strategy = drawn
        if table.dtype.itemsize == 2:
            max_norm = None  # TensorFlow scales in 16 bits.
        params, theirs = params_of(data, tf, parts)
        shape, places, ids, weights = data.draw(bags(2, len(table), safe=False))
        mine, their_ids = sparse_of(tf, shape, places, ids)
        my_weights, their_weights = None, None
        if weights is not None:
            my_weights, their_weights = sparse_of(tf, shape, places, weights)
        rows = embedding_lookup_sparse(params, mine, my_weights, strategy, combiner, max_norm)
        if len(places):
            expected = tf.compat.v1.nn.embedding_lookup_sparse(
                theirs, their_ids, their_weights, strategy, None, combiner, max_norm
            )
            # TensorFlow leaves out empty bags at the end.
            last = places[-1, 0] + 1
            equal(rows[:last], expected, 8)
            rows = rows[last:]
        assert not rows.any()
        again = embedding_lookup_sparse(
            params, their_ids, their_weights, strategy, combiner, max_norm
        )
        assert again.shape == (shape[0], *table.shape[1:])

    check()


def test_safe_embedding_lookup_sparse(tf):
    @EXAMPLES
    @given(tables(), combiners, max_norms, st.integers(2, 4), st.data())
    def check(drawn, combiner, max_norm, rank, data):
        table, parts, strategy = drawn
        if table.dtype.itemsize == 2:
            max_norm = None
        shape, places, ids, weights = data.draw(bags(rank, len(table), safe=True))
        default_id = data.draw(st.one_of(st.none(), st.integers(0, len(table) - 1)))
        mine, their_ids = sparse_of(tf, shape, places, ids)
        my_weights, their_weights = None, None
        if weights is not None:
            # TensorFlow requires the table's dtype here.
            my_weights, their_weights = sparse_of(tf, shape, places, weights.astype(table.dtype))
        rows = safe_embedding_lookup_sparse(
            parts, mine, my_weights, combiner, default_id, strategy, max_norm
        )
        expected = tf.compat.v1.nn.safe_embedding_lookup_sparse(
            # TensorFlow takes only vectors here.
            [tf.constant(part.reshape(len(part), -1)) for part in parts],
            their_ids,
            their_weights,
            combiner,
            default_id,
            partition_strategy=strategy,
            max_norm=max_norm,
        )
        equal(rows, tf.reshape(expected, rows.shape), 8)

    check()


def test_differences_of_tensorflow(tf):
    """The middle column of the table in `embstore.functional`."""
    nn = tf.compat.v1.nn
    failure = tf.errors.InvalidArgumentError
    table = tf.constant([[1.0], [2.0], [3.0], [4.0]])
    with pytest.raises(failure, match="5 is not in"):
        nn.embedding_lookup(table, [5])
    # Wrong partition sizes: id 2 leads to row 0 of partition 1, which is the row of id 3.
    assert nn.embedding_lookup([table[:3], table[3:]], [2], "div").numpy().tolist() == [[4]]
    with pytest.raises(failure, match="division by zero"):
        nn.embedding_lookup([table[:1], table[1:2], table[:0]], [0], "div")
    ids = tf.SparseTensor([[0, 0], [2, 0]], [0, 1], [4, 2])
    rows = nn.embedding_lookup_sparse(table, ids, None, combiner="sum")
    assert rows.numpy().tolist() == [[1], [0], [2]]
    deep = tf.SparseTensor([[0, 0, 0], [0, 1, 0], [1, 0, 0]], [0, 1, 1], [2, 2, 2])
    rows = nn.embedding_lookup_sparse(table, deep, None, combiner="sum")
    assert rows.numpy().tolist() == [[3], [2]]
    elsewhere = tf.SparseTensor([[0, 1], [3, 0]], [1.0, 1.0], [4, 2])
    rows = nn.embedding_lookup_sparse(table, ids, elsewhere, combiner="sum")
    assert rows.numpy().tolist() == [[1], [0], [2]]
    integers = tf.constant([[1], [2]])
    rows = nn.embedding_lookup_sparse(integers, ids, None, combiner="sum")
    assert rows.numpy().tolist() == [[1], [0], [2]]
    assert nn.embedding_lookup(table, [0], max_norm=-1.0).numpy().tolist() == [[0]]
    for max_norm in (np.nan, np.inf):
        assert np.isnan(nn.embedding_lookup(table, [0], max_norm=max_norm)).all()
        assert max_norm != np.inf or embedding_lookup(table.numpy(), [0], max_norm=max_norm) == 1
    large = tf.constant([[1e30, 1e30]])
    assert not np.any(nn.embedding_lookup(large, [0], max_norm=1.0))
    with pytest.raises(failure):
        nn.embedding_lookup_sparse(table, tf.ragged.constant([[[0, 1], [2]], [[3]]]), None)
    with pytest.raises(ValueError, match="Tensor conversion requested dtype float64"):
        nn.safe_embedding_lookup_sparse(
            table, ids, tf.SparseTensor(ids.indices, np.ones(2), [4, 2])
        )
    booleans = tf.SparseTensor(ids.indices, [True, False], [4, 2])
    rows = nn.embedding_lookup_sparse(table, ids, booleans, combiner="sum")
    assert rows.numpy().tolist() == [[1], [0], [0]]
    with pytest.raises(TypeError, match="weights must be real numbers, not bool"):
        embedding_lookup_sparse(table.numpy(), ids, booleans)
    with pytest.raises(failure, match="out of bounds"):
        nn.safe_embedding_lookup_sparse(table[:, 0], ids)
    with pytest.raises(failure, match="same size and shape"):
        nn.safe_embedding_lookup_sparse(table[:, tf.newaxis], ids)
    half = tf.constant([[300.0, 300.0]], tf.float16)  # Their squares overflow 16 bits.
    assert nn.embedding_lookup(half, [0], max_norm=1.0).numpy().tolist() != [[0.707, 0.707]]
