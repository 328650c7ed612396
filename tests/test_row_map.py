"""Maps from rows to slots, against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embstore.reading.row_cache import row_map
from embstore.reading.row_cache.row_map import RowMap


def check(cached: RowMap, model: dict[int, int], row_count: int) -> None:
    """Compare a map with a model, at every row."""
    every = np.arange(row_count)
    present, slots = cached.find(every)
    assert np.array_equal(every[present], sorted(model))
    assert slots[present].tolist() == [model[row] for row in sorted(model)]
    assert cached.missing(every).tolist() == [row for row in every if row not in model]
    assert np.concatenate([every[:0], *cached.rows()]).tolist() == sorted(model)
    assert len(cached) == len(model)


@given(data=st.data(), row_count=st.integers(1, 300))
def test_changes(data, row_count):
    cached, model = RowMap(row_count), dict[int, int]()
    generator = np.random.default_rng(row_count)
    for _ in range(data.draw(st.integers(1, 4))):
        before, old = cached, dict(model)
        some = data.draw(st.sets(st.integers(0, row_count - 1)))
        remove = np.array(sorted(some & set(model)), np.int64)
        add = np.array(sorted(some - set(model)), np.int64)
        slots = generator.permutation(1000)[: len(add)]
        cached = cached.changed(remove=remove, add=add, slots=slots)
        for row in remove.tolist():
            del model[row]
        model |= dict(zip(add.tolist(), slots.tolist(), strict=True))
        check(cached, model, row_count)
        check(before, old, row_count)  # A map never changes.


def test_many_rows_are_changed_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_map, "CHANGED_ROWS", 7)
    monkeypatch.setattr(row_map, "UNPACKED_ROWS", 64)
    rows = np.arange(0, 1000, 3)
    cached = RowMap(1000).changed(add=rows, slots=rows[::-1])
    cached = cached.changed(remove=rows[::2])
    model = dict(zip(rows.tolist(), rows[::-1].tolist(), strict=True))
    check(cached, {row: slot for row, slot in model.items() if row % 2}, 1000)


def test_size_is_that_of_the_arrays() -> None:
    cached = RowMap(1000).changed(add=np.arange(9), slots=np.arange(9))
    size = cached._bits.nbytes + cached._ranks.nbytes + cached.slots.nbytes
    assert size == RowMap.size_bytes(1000, 9)
