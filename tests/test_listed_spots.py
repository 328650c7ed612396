"""Lookups of a few ids once a table's spots are listed, against the ndarray."""

from __future__ import annotations

import numpy as np
import pytest

import embstore
from embstore.reading import short_path


@pytest.mark.parametrize("partitions", [1, 2, 5])
@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("preload", [True, False])
def test_listed_spots(tmp_path, monkeypatch, partitions, strategy, preload):
    monkeypatch.setattr(short_path, "LISTED_CALLS", 3)
    rows = np.arange(3003 * 3, dtype=np.float32).reshape(3003, 3)
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(
        path,
        row_shape=(3,),
        dtype="float32",
        partitions=partitions,
        strategy=strategy,
        rows=len(rows),
        chunk_rows=256,
    ) as writer:
        writer.write(rows)
    random = np.random.default_rng(0)
    with embstore.open(path, preload=preload) as store:
        for shape in ((), (1,), (7,), (2, 3), (0,), (512,), (257, 1)):
            for _ in range(4):
                ids = random.integers(0, len(rows), shape)
                out = np.empty((*shape, 3), np.float32)
                np.testing.assert_array_equal(store.lookup(ids), rows[ids])
                np.testing.assert_array_equal(store.lookup(ids, out=out), rows[ids])
        strided = np.arange(0, 40, 1)[::3]
        np.testing.assert_array_equal(store.lookup(strided), rows[strided])
        for wrong in ([-1], [5, -3003], [3003], [1 << 60], [-(1 << 63)], list(range(2700, 3004))):
            with pytest.raises(embstore.IdRangeError):
                store.lookup(np.array(wrong))


def test_large_tables_are_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(short_path, "LISTED_CALLS", 1)
    monkeypatch.setattr(short_path, "LISTED_ROWS", 9)
    monkeypatch.setattr(short_path, "_listed", None)  # A call would fail.
    rows = np.arange(10, dtype=np.float32).reshape(10, 1)
    store = embstore.build(rows, tmp_path / "t.embstore", partitions=2)
    np.testing.assert_array_equal(store.lookup(np.arange(10)), rows)
