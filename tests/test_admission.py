"""Sketches of how often rows are looked up, and the choice of rows for a cache."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from embstore.reading.row_cache.admission import Admission, distinct
from embstore.reading.row_cache.row_map import RowMap
from embstore.reading.row_cache.sketch import EXACT_PERIOD_EACH, MAX_COUNT, CountSketch


@pytest.mark.parametrize(("rows", "kept"), [(1000, 1000), (100_000, 200)])
def test_sketch_counts(rows: int, kept: int) -> None:
    sketch = CountSketch(rows, kept)
    generator = np.random.default_rng(0)
    some = generator.permutation(rows)[:50]
    counts = generator.integers(0, 90, 50)
    for time in range(90):
        sketch.add(some[counts > time])
    assert np.array_equal(sketch.counts(some), counts)
    assert sum(each.nbytes for each in sketch._counters) == CountSketch.size_bytes(rows, kept)


def test_sketch_counts_up_to_255_and_a_row_once_in_a_call() -> None:
    sketch = CountSketch(1000, 1000)
    sketch.add(np.array([5, 5, 5]))
    for _ in range(300):
        sketch.add(np.array([7]))
    assert sketch.counts(np.array([5, 7])).tolist() == [1, MAX_COUNT]
    sketch.raise_to(np.array([5, 7]), np.array([9, 9], np.uint8))
    assert sketch.counts(np.array([5, 7])).tolist() == [9, MAX_COUNT]


def test_sketch_halves_its_counts() -> None:
    sketch = CountSketch(1000, 100)
    for _ in range(8):
        sketch.add(np.array([5]))
    sketch.add(np.full(EXACT_PERIOD_EACH * 100 - 8, 6))
    assert sketch.counts(np.array([5, 6])).tolist() == [4, 1]


def test_sketch_of_more_rows_than_counters_seldom_overcounts() -> None:
    sketch = CountSketch(1 << 40, 1000)
    rows = np.random.default_rng(0).integers(0, 1 << 40, 3000)
    sketch.add(rows)
    counts = sketch.counts(np.random.default_rng(1).integers(0, 1 << 40, 3000))
    assert np.count_nonzero(counts) < 1000
    assert sketch.counts(rows).min() == 1


def test_distinct_is_numpys_unique() -> None:
    for length in (0, 1, 2, 500):
        rows = np.random.default_rng(length).integers(0, 100, length)
        assert np.array_equal(distinct(rows.copy()), np.unique(rows))


@pytest.mark.parametrize("most", [0, 1, 60_000, 500_000, 600_000])
def test_least_wanted_rows_take_little_memory(most: int) -> None:
    row_count, slot_count = 2_000_000, 500_000
    generator = np.random.default_rng(0)
    rows = np.sort(generator.choice(row_count, slot_count, replace=False))
    admission = Admission(row_count, slot_count)
    cached = RowMap(row_count).changed(add=rows, slots=np.arange(slot_count))
    counts = np.minimum(generator.integers(0, 10, slot_count), 1).astype(np.uint8)
    admission.sketch.raise_to(rows, counts)
    tracemalloc.start()
    try:
        found, theirs = admission._least_wanted(cached, most)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    order = np.argsort(counts, kind="stable")[:most]
    assert np.array_equal(found, rows[order])
    assert np.array_equal(theirs, counts[order])
    assert peak_bytes < 7 * slot_count + 40 * most


def run(row_count: int, slot_count: int, batches: list[np.ndarray]) -> tuple[RowMap, list[float]]:
    """Follow a plan batch by batch; return the last map, and the share of hits in each batch."""
    admission, cached, shares = Admission(row_count, slot_count), RowMap(row_count), []
    for rows in batches:
        present, _ = cached.find(rows)
        shares.append(float(present.mean()))
        admission.observe(rows, present)
        while (change := admission.plan(cached, slot_count - len(cached))) is not None:
            assert not cached.find(change.add)[0].any()
            assert cached.find(change.remove)[0].all()
            used = np.zeros(slot_count, bool)
            used[cached.slots] = True
            free = np.flatnonzero(~used)[: len(change.add)]
            cached = cached.changed(remove=change.remove, add=change.add, slots=free)
            assert len(np.unique(cached.slots)) == len(cached) <= slot_count
    return cached, shares


def zipf_batches(row_count: int, count: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return rows by popularity, and batches of lookups."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(row_count)
    chances = 1 / np.arange(1, row_count + 1) ** 1.05
    batches = [
        order[generator.choice(row_count, 4096, p=chances / chances.sum())] for _ in range(count)
    ]
    return order, batches


def test_the_most_wanted_rows_are_learned() -> None:
    order, batches = zipf_batches(50_000, 200, seed=0)
    cached, shares = run(50_000, 2000, batches)
    best = np.mean([np.isin(rows, order[:2000]).mean() for rows in batches[-50:]])
    assert np.mean(shares[-50:]) > best - 0.03
    assert cached.find(order[:500])[0].mean() > 0.99


def test_other_rows_become_wanted() -> None:
    _, before = zipf_batches(50_000, 100, seed=0)
    order, after = zipf_batches(50_000, 300, seed=1)
    cached, _ = run(50_000, 2000, before + after)
    assert cached.find(order[:200])[0].mean() > 0.95


@pytest.mark.parametrize("kept", [2000, 1000])
def test_rows_with_the_highest_counts_are_forgotten(kept: int) -> None:
    admission = Admission(50_000, 2000)
    cached = RowMap(50_000).changed(add=np.arange(2000), slots=np.arange(2000))
    admission.sketch.raise_to(np.arange(2000), np.full(2000, MAX_COUNT, np.uint8))
    order, batches = zipf_batches(48_000, 200, seed=0)
    for at, batch in enumerate(batches):
        rows = batch + 2000  # None of those that are cached.
        admission.observe(rows, cached.find(rows)[0])
        while (change := admission.plan(cached, 2000 - len(cached))) is not None:
            free = np.setdiff1d(np.arange(2000), cached.slots)[: len(change.add)]
            cached = cached.changed(remove=change.remove, add=change.add, slots=free)
        if at == 50:  # Some copies may be missing, as after an interrupt.
            cached = cached.changed(remove=next(cached.rows())[: 2000 - kept])
    assert len(cached) == 2000
    assert cached.find(order[:200] + 2000)[0].mean() > 0.95


def test_equally_wanted_rows_are_seldom_replaced() -> None:
    generator = np.random.default_rng(0)
    admission, cached, added = Admission(50_000, 2000), RowMap(50_000), [0] * 400
    for at in range(400):
        rows = generator.integers(0, 50_000, 4096)
        admission.observe(rows, cached.find(rows)[0])
        while (change := admission.plan(cached, 2000 - len(cached))) is not None:
            used = np.zeros(2000, bool)
            used[cached.slots] = True
            free = np.flatnonzero(~used)[: len(change.add)]
            cached = cached.changed(remove=change.remove, add=change.add, slots=free)
            added[at] += len(change.add)
    # Each may have to be read from the disk.
    assert sum(added[200:]) < 0.03 * 200 * 4096
