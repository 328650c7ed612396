"""Masked arrays are refused, so that no masked number is used as a real one."""

from __future__ import annotations

import numpy as np
import pytest

import embstore
from embstore.errors import IdTypeError, SourceError

MASKED = np.ma.masked_equal(np.arange(12, dtype=np.float32).reshape(4, 3), 5)
UNMASKED = np.ma.masked_equal(np.arange(12, dtype=np.float32).reshape(4, 3), -1)
ROWS = np.asarray(UNMASKED)


@pytest.fixture
def store(tmp_path):
    with embstore.build(UNMASKED, tmp_path / "s.embstore") as store:
        yield store


def test_masked_arrays_without_masked_numbers_are_accepted(store):
    assert np.array_equal(store.lookup(np.ma.masked_equal([1, 3], 9)), ROWS[[1, 3]])
    assert np.array_equal(embstore.embedding_lookup(UNMASKED, [1, 3]), ROWS[[1, 3]])


def test_ids(store):
    with pytest.raises(IdTypeError, match=r"some are masked; give ids.compressed\(\)"):
        store.lookup(np.ma.masked_equal([1, 3], 3))


def test_tables():
    with pytest.raises(TypeError, match="params have masked numbers"):
        embstore.embedding_lookup(MASKED, [1])
    with pytest.raises(TypeError, match="params have masked numbers"):
        embstore.embedding_lookup([ROWS, MASKED], [1])


def test_sources(tmp_path):
    with pytest.raises(SourceError, match="masked numbers"):
        embstore.build(MASKED, tmp_path / "t.embstore")
    with (
        pytest.raises(TypeError, match="rows have masked numbers"),
        embstore.StoreWriter(tmp_path / "t.embstore", row_shape=(3,), dtype="float32") as writer,
    ):
        writer.write(MASKED)
    assert list(tmp_path.iterdir()) == []
