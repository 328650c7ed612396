"""The benchmark of nearest rows runs small."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks import similar
from benchmarks.table import GeneratedTable


@pytest.fixture
def table(tmp_path):
    return GeneratedTable.make(tmp_path / "t.embstore", 3000, 16, words=True)


def test_a_matrix_in_ram(table):
    found = similar.measure_ram(table, table.matrix(), 2, lambda _: None)
    pairs = len(similar.METRICS) * len(similar.BATCHES)
    assert [len(times) for times in found.values()] == [2] * 2 * pairs
    assert similar.text(found).count("against NumPy") == pairs


@pytest.mark.skipif(importlib.util.find_spec("gensim") is None, reason="gensim is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_both_are_timed_and_compared(table):
    found = similar.measure_gensim(table, table.matrix(), 2, lambda _: None)
    assert len(found) == 2 * len(similar.CALLS)
    assert all(len(times) == 2 for times in found.values())
    assert similar.text(found).count("against gensim") == len(similar.CALLS)
    with pytest.raises(ValueError, match="wrong neighbours"):
        similar._check([("a", 0.5)], [("b", 0.5)])
    with pytest.raises(ValueError, match="wrong similarities"):
        similar._check([("a", 0.5)], [("a", 0.6)])


def test_cold(table):
    found = similar.measure_cold(table, 2, lambda _: None)
    assert [len(times) for times in found.values()] == [2, 2]
    assert "against dd" in similar.text(found)
