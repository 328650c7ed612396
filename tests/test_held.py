"""Lookups of a few rows that keep the GIL, against the ndarray."""

from __future__ import annotations

import numpy as np
import pytest

import embstore
from embstore.reading import short_path, warmth
from embstore.reading.held import held_function

SHAPES = ((), (1,), (7,), (2, 3), (256,), (257,), (2, 256), (512,), (3, 100))


@pytest.fixture
def crowd():
    short_path.gathering.extend([None] * short_path.CROWD)
    yield
    short_path.gathering.clear()


@pytest.fixture
def held_shapes(monkeypatch):
    """The shapes of the ids of all lookups that kept the GIL."""
    seen = []

    def noting(*arguments):
        held = held_function(*arguments)

        def noted(ids, out):
            seen.append(ids.shape)
            return held(ids, out)

        return noted

    monkeypatch.setattr(short_path, "held_function", noting)
    for module in (short_path, warmth):  # Or a busy machine may make a lookup look cold.
        monkeypatch.setattr(module, "have_faulted", lambda row_count: False)
    return seen


@pytest.mark.parametrize("row_shape", [(3,), (), (2, 5)])
@pytest.mark.parametrize("partitions", [1, 4, 5])
@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("preload", [True, False])
def test_rows_are_the_same(tmp_path, crowd, held_shapes, row_shape, partitions, strategy, preload):
    rows = np.arange(3003 * int(np.prod(row_shape)), dtype=np.float32).reshape(3003, *row_shape)
    path = tmp_path / "t.embstore"
    embstore.build(rows, path, partitions=partitions, strategy=strategy).close()
    random = np.random.default_rng(0)
    with embstore.open(path, preload=preload) as store:
        store.lookup(np.arange(512))
        for shape in SHAPES:
            ids = random.integers(0, len(rows), shape)
            found = store.lookup(ids)
            assert found.dtype == rows.dtype
            assert found.flags.writeable
            np.testing.assert_array_equal(found, rows[ids])
            out = np.empty(shape + row_shape, np.float32)
            assert store.lookup(ids, out=out) is out
            np.testing.assert_array_equal(out, rows[ids])
        np.testing.assert_array_equal(store.lookup(np.arange(900)[::3]), rows[:900:3])
        for wrong in ([-1], [5, 3003], [1 << 60], [-(1 << 63)], list(range(2700, 3004))):
            with pytest.raises(embstore.IdRangeError):
                store.lookup(np.array(wrong))
        for shape in ((512, *row_shape, 1), (511, *row_shape), (513, *row_shape)):
            with pytest.raises(ValueError, match="out has shape"):
                store.lookup(np.zeros(512, np.int64), out=np.empty(shape, np.float32))
        strided = np.empty((600, *row_shape), np.float32)[::2]
        with pytest.raises(ValueError, match="contiguous"):
            store.lookup(np.zeros(300, np.int64), out=strided)
    if preload:  # Otherwise pages may be cold.
        assert set(SHAPES) <= set(held_shapes)


@pytest.mark.parametrize("count", [9, 400])
def test_out_that_overlaps_the_ids(tmp_path, crowd, held_shapes, count):
    rows = np.arange(1000, dtype=np.int64)[::-1].copy()
    embstore.build(rows, tmp_path / "t.embstore").close()
    with embstore.open(tmp_path / "t.embstore", preload=True) as store:
        memory = np.arange(count + 1)
        ids, out = memory[:-1], memory[1:]
        expected = rows[ids.copy()]
        np.testing.assert_array_equal(store.lookup(ids, out=out), expected)
    assert held_shapes == [(count,)]


def test_large_rows_and_lonely_threads_do_not_keep_it(tmp_path, held_shapes):
    rows = np.arange(512 * 100, dtype=np.float32).reshape(512, 100)
    embstore.build(rows, tmp_path / "t.embstore").close()
    with embstore.open(tmp_path / "t.embstore", preload=True) as store:
        ids = np.arange(512)
        np.testing.assert_array_equal(store.lookup(ids), rows)
        short_path.gathering.append(None)
        np.testing.assert_array_equal(store.lookup(ids[:9]), rows[:9])
        short_path.gathering.append(None)
        np.testing.assert_array_equal(store.lookup(ids), rows)
        assert not held_shapes
        np.testing.assert_array_equal(store.lookup(ids[:9]), rows[:9])
        short_path.gathering.clear()
    assert held_shapes == [(9,)]
