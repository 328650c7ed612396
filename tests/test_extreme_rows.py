"""Searches among rows whose squares are beyond float32 or float64; the model is float64, scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embstore
from embstore.interop.keyedvectors import KeyedVectors
from embstore.norms import are_extreme, clip_norms, row_norms, unit
from embstore.search.cosines import CosineSearch, Query

ROWS, DIM = 40, 8
WORDS = [f"w{number}" for number in range(ROWS)]
BASE = np.random.default_rng(0).standard_normal((ROWS, DIM))

# One factor for all rows, or one for each; those of 1e-44 have a digit or two left.
FACTORS: dict[str, Any] = {
    **{f"{factor:g}": factor for factor in (1e19, 1e20, 1e30, 1e37, 1e38)},
    **{f"{factor:g}": factor for factor in (1e-19, 1e-23, 1e-30, 1e-38, 1e-41, 1e-44)},
    "ordinary": 1.0,
    "mixed": 10.0 ** np.random.default_rng(1).integers(-40, 38, (ROWS, 1)),
}
DTYPES = ["float32", "bfloat16", "float64", "float16"]


def table_of(factor: Any, dtype: str = "float32") -> Any:
    rows = np.clip(BASE * factor, -3e38, 3e38)
    if dtype == "float16":
        rows = np.clip(BASE * np.clip(factor, 1e-7, 1e4), -6e4, 6e4)
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        return rows.astype(np.float32).astype(ml_dtypes.bfloat16)
    return rows.astype(dtype)


def exact_units(table: Any) -> Any:
    """Return rows of length 1, nan for rows of zeros, in float64."""
    wide = table.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wide = wide / np.abs(wide).max(axis=1, keepdims=True)
        return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def vectors_over(path: Any, table: Any) -> KeyedVectors:
    with embstore.StoreWriter(
        path, row_shape=(DIM,), dtype=table.dtype, partitions=3, chunk_rows=4
    ) as writer:
        writer.write(table, WORDS)
    return KeyedVectors(embstore.open(path))


@pytest.fixture
def pair(request, tmp_path):
    factor, dtype = request.param
    table = table_of(FACTORS[factor], dtype)
    return vectors_over(tmp_path / "t", table), exact_units(table)


PAIRS = [(factor, "float32") for factor in FACTORS] + [
    (factor, dtype) for factor in ("1e+30", "1e-30", "mixed") for dtype in DTYPES[1:]
]


def close(found: Any, expected: Any) -> bool:
    return bool(np.allclose(found, expected, atol=1e-4, equal_nan=True))


@pytest.mark.parametrize("pair", PAIRS, indirect=True, ids=" ".join)
def test_similarities_equal_those_of_float64(pair):
    vectors, units = pair
    want = units @ units[0]
    others = WORDS[1:]
    assert close(vectors.similarities("w0"), want)
    assert close(vectors.similarities("w0", others), want[1:])
    assert close(1 - vectors.distances("w0"), want)
    assert close(1 - vectors.distances("w0", others), want[1:])
    assert close([vectors.similarity("w0", other) for other in others], want[1:])
    assert close([1 - vectors.distance("w0", other) for other in others], want[1:])
    assert close(vectors.most_similar("w0", topn=None), want)
    found = vectors.most_similar("w0", topn=5)
    best = np.argsort(-want[1:], kind="stable")[:5] + 1
    assert close([similarity for _, similarity in found], want[best])
    assert vectors.most_similar_to_given("w0", others) == WORDS[best[0]]
    assert vectors.closer_than("w0", WORDS[best[0]]) == []
    assert vectors.rank("w0", found[3][0]) == 4


@pytest.mark.parametrize("pair", PAIRS, indirect=True, ids=" ".join)
def test_means_equal_those_of_float64(pair):
    vectors, units = pair
    mean = units[1] + units[2] - units[3]
    want = units @ (mean / np.linalg.norm(mean))
    assert close(vectors.most_similar(["w1", "w2"], ["w3"], topn=None), want)
    want = (1 + units @ units[1]) / 2 * (1 + units @ units[2]) / 2
    want = want / ((1 + units @ units[3]) / 2 + 1e-6)
    found = vectors.most_similar_cosmul(["w1", "w2"], ["w3"], topn=None)
    assert np.allclose(found, want, rtol=1e-3, atol=1e-4)
    centre = units[:6].mean(0)
    assert vectors.doesnt_match(WORDS[:6]) == WORDS[int((units[:6] @ centre).argmin())]
    for word in WORDS[:4]:
        assert close(vectors.get_vector(word, norm=True), units[WORDS.index(word)])


@pytest.mark.parametrize("pair", PAIRS, indirect=True, ids=" ".join)
def test_similarities_of_means_equal_those_of_float64(pair, tmp_path):
    vectors, _ = pair
    wide = vectors.store.to_numpy().astype(np.float64)
    wide = wide / np.abs(wide[:5]).max()
    one, other = wide[:2].mean(0), wide[2:5].mean(0)
    want = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert close(vectors.n_similarity(WORDS[:2], WORDS[2:5]), want)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1.0, 1e30, 1e160, 1e300])
@pytest.mark.parametrize("rows", [1e-320, 1e-200, 1e200, 1e305])
def test_float64_and_vectors_of_any_length(tmp_path, scale, rows):
    table = BASE * rows
    vectors, units = vectors_over(tmp_path / "t", table), exact_units(table)
    query = np.random.default_rng(2).standard_normal(DIM)
    want = units @ (query / np.linalg.norm(query))
    assert close(vectors.similar_by_vector(query * scale, topn=None), want)
    assert close(vectors.similarities(query * scale), want)
    assert close(vectors.cosine_similarities(query * scale, table), want)


def test_zeros_infinities_and_nans_stay_what_they_are(tmp_path):
    table = table_of(1e20)
    table[1], table[2], table[3, 0], table[4, 0] = 0, 1e-30, np.inf, np.nan
    vectors = vectors_over(tmp_path / "t", table)
    for _ in range(2):  # The second search finds the norms of the first.
        found = vectors.similarities("w0")
        assert np.isnan(found[[1, 3, 4]]).all()
        assert np.isfinite(np.delete(found, [1, 3, 4])).all()
    assert vectors.norms[1] == 0
    assert vectors.norms[3] == np.inf
    assert np.isnan(vectors.cosine_similarities(table[0], table[1:2])).all()
    assert np.isnan(vectors.cosine_similarities(table[1], table[:2])).all()


def test_norms_of_extreme_rows(tmp_path):
    for factor in FACTORS.values():
        table = table_of(factor)
        wide = np.linalg.norm(table.astype(np.float64), axis=1)
        with np.errstate(over="ignore"):
            want = wide.astype(np.float32)
        assert np.allclose(row_norms(table), want, rtol=1e-6, atol=1.5e-45)
    assert are_extreme(row_norms(np.zeros((2, 3), np.float32))).all()
    assert not are_extreme(row_norms(np.ones((2, 3), np.float32))).any()


@pytest.mark.parametrize("shape", [(DIM,), (3, DIM), (2, 3, DIM), (0, DIM)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unit_vectors(shape, dtype):
    base = np.random.default_rng(3).standard_normal(shape)
    want = base / np.linalg.norm(base, axis=-1, keepdims=True)
    for factor in (1e-37, 1e-25, 1.0, 1e25, 1e37):
        found = unit((base * factor).astype(dtype))
        assert found.dtype == dtype
        assert np.allclose(found, want, atol=1e-5)
    assert not unit(np.zeros(shape, dtype)).any()


def test_ordinary_blocks_are_read_once(tmp_path, monkeypatch):
    vectors = vectors_over(tmp_path / "t", table_of(1.0))
    monkeypatch.setattr("embstore.search.metrics.unit", None)  # It would be another pass.
    monkeypatch.setattr("embstore.norms._scaled", None)
    search = CosineSearch(vectors.store)
    query = Query((BASE[:1] / np.linalg.norm(BASE[0])).astype(np.float32))
    assert search.best(query, 1)[0].tolist() == [0]


@pytest.mark.parametrize("rows", [1e200, 1e305, 1e-200])
def test_max_norm_of_extreme_rows(rows):
    table = BASE * rows
    found = table.copy()
    clip_norms(found, 2.0, row_rank=1)
    want = exact_units(table) * 2 if rows > 1 else table
    assert np.allclose(found, want)
