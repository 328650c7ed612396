"""Iterating a store, and converting it to an array; the model is an ndarray."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

import embstore
from embstore import array_mixin
from tests.helpers.stores import make_store

TABLE = np.random.default_rng(0).normal(size=(103, 6)).astype(np.float32)


@pytest.fixture(params=["one block", "blocks", "rows", "pieces"])
def _blocks(request, monkeypatch):
    """Sizes of blocks, and of reads without a mapping: of all rows, of some, of one."""
    sizes = {"one block": (1 << 20,) * 2, "blocks": (96, 96), "rows": (1, 1), "pieces": (72, 240)}
    block_bytes, read_bytes = sizes[request.param]
    monkeypatch.setattr(array_mixin, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(array_mixin, "READ_BYTES", read_bytes)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("reader", ["mapped", "chunked"])
@pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
@pytest.mark.parametrize("options", [{}, {"partitions": 3}, {"partitions": 4, "strategy": "div"}])
def test_rows_come_in_the_order_of_their_ids(tmp_path, reader, shape, options):
    table = TABLE[:, 0] if shape == () else TABLE.reshape(-1, *shape)
    make_store(tmp_path / "s", table, chunk_rows=8, **options).close()
    with embstore.open(tmp_path / "s", reader=reader) as store:
        rows = list(store)
        assert len(rows) == len(table)
        np.testing.assert_array_equal(np.array(rows), table)
        np.testing.assert_array_equal(np.array(list(reversed(store))), table[::-1])
        assert {type(row) for row in rows} == {type(store[5])} == {type(table[5])}
        assert [number for number, _ in zip(range(5), store, strict=False)] == list(range(5))


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
def test_rows_are_copies(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(array_mixin, "BLOCK_BYTES", 96)
    make_store(tmp_path / "s", TABLE).close()
    with embstore.open(tmp_path / "s", reader=reader) as store:
        rows = list(store)
        assert all(
            getattr(row.base, "nbytes", 96) <= 96 for row in rows
        )  # What a kept row keeps in memory.
        for row in rows:
            row[:] = 7
        np.testing.assert_array_equal(store[:], TABLE)
        assert next(iter(store)).tolist() == TABLE[0].tolist()
    assert (np.array(rows) == 7).all()


def test_two_iterators_are_independent(tmp_path):
    with make_store(tmp_path / "s", TABLE) as store:
        one, other = iter(store), iter(store)
        assert next(one).tolist() == next(other).tolist() == TABLE[0].tolist()
        assert len(list(one)) == len(list(other)) == 102


def test_a_store_without_rows(tmp_path):
    with make_store(tmp_path / "s", TABLE[:0]) as store:
        assert list(store) == list(reversed(store)) == []
    with pytest.raises(embstore.StoreClosedError):
        list(store)


def test_a_store_closed_while_iterating(tmp_path, monkeypatch):
    monkeypatch.setattr(array_mixin, "BLOCK_BYTES", 48)
    store = make_store(tmp_path / "s", TABLE)
    iterator = iter(store)
    seen = list(islice(iterator, 3))
    store.close()
    with pytest.raises(embstore.StoreClosedError):
        seen += iterator
    np.testing.assert_array_equal(np.array(seen), TABLE[: len(seen)])
    assert len(seen) == 4  # Those of the block that had been read.
    for start in (iter, reversed):
        with pytest.raises(embstore.StoreClosedError):
            next(start(store))


def test_only_words_are_in_a_store(tmp_path):
    with (
        make_store(tmp_path / "s", TABLE) as store,
        pytest.raises(TypeError, match="'in' needs a word, a str, not ndarray"),
    ):
        _ = TABLE[0] in store


@pytest.mark.parametrize("dtype", [None, "f4", ">f4", "f2", "f8", "i4", "c8", "O", "U", "U4", bool])
def test_conversion_to_an_array(tmp_path, dtype):
    with make_store(tmp_path / "s", TABLE, partitions=2) as store:
        found = np.array(store, dtype=dtype)
        assert found.dtype == np.array(TABLE, dtype=dtype).dtype
        np.testing.assert_array_equal(found, np.array(TABLE, dtype=dtype))
        found = np.asarray(store, dtype=dtype)
        np.testing.assert_array_equal(found, np.asarray(TABLE, dtype=dtype))
        with pytest.raises(ValueError, match="always a copy"):
            np.array(store, dtype=dtype, copy=False)
