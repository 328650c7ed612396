"""Hash tables filled in the order of their slots, against tables filled word by word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embstore.formats.own import spec
from embstore.vocabulary import hashing
from embstore.writing.words import slot_buckets
from embstore.writing.words.slot_table import SlotTable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SLOTS = 64
WIDTH = 8
LAST = SLOTS - 1
KEPT = [0, 1 << spec.SLOT_ID_BITS, 2**64 - (1 << spec.SLOT_ID_BITS)]
# Homes on both sides of the borders of buckets, and of the table's end.
HOME = st.sampled_from([0, 1, WIDTH - 1, WIDTH, 3 * WIDTH - 1, SLOTS // 2, LAST - 1, LAST])
HASHES = st.lists(st.builds(int.__or__, st.sampled_from(KEPT), HOME), max_size=SLOTS // 2)


@pytest.fixture(autouse=True)
def _narrow_buckets(monkeypatch):
    monkeypatch.setattr(slot_buckets, "LEAST_WIDTH", WIDTH)


def table_of(
    hashes: list[int], directory: Path, piece: int = 1000, first_id: int = 0, width: int = WIDTH
) -> SlotTable:
    """Return a table in a file, filled at once."""
    table = SlotTable(SLOTS, 0, 32 * width, directory)
    table.fill(lambda: pieces(hashes, piece), first_id)
    return table


def pieces(hashes: list[int], count: int) -> Iterator[NDArray[np.uint64]]:
    for start in range(0, len(hashes), count):
        yield np.array(hashes[start : start + count], np.uint64)


def filled_one_by_one(hashes: list[int], first_id: int = 0) -> tuple[list[int], int]:
    """Return the slots, and the probes: each word gets the first free slot, by slot and id."""
    slots, probes, past = [0] * SLOTS, 0, []
    free = 0
    for home, number in sorted((number % SLOTS, at) for at, number in enumerate(hashes)):
        entry = hashes[number] >> 40 << 40 | first_id + number + 1
        place = max(home, free)
        free = place + 1
        if place > LAST:
            past.append((home, entry))
            continue
        slots[place] = entry
        probes = max(probes, place - home + 1)
    for home, entry in past:
        place = slots.index(0)
        slots[place] = entry
        probes = max(probes, SLOTS - home + place + 1)
    return slots, probes


def found(slots: NDArray[np.uint64], hashes: list[int], probes: int) -> list[int]:
    """Return the ids under which words are found; the word with the id i is query i."""
    queries = np.array(hashes, np.uint64)
    ids: list[int] = hashing.find(slots, queries, probes, np.equal).tolist()
    return ids


@given(hashes=HASHES, piece=st.integers(1, 40), width=st.sampled_from([8, 16, 64, 1024]))
@settings(deadline=None, max_examples=80)
def test_filling_at_once_equals_filling_one_by_one(tmp_path_factory, hashes, piece, width):
    """Whatever the pieces and the buckets: overfull ones, and those that wrap around."""
    table = table_of(hashes, tmp_path_factory.getbasetemp(), piece, width=width)
    slots, probes = filled_one_by_one(hashes)
    assert table.in_file
    assert table.scratch.array.tolist() == slots
    assert table.probe_count == probes
    assert found(table.scratch.array, hashes, probes) == list(range(len(hashes)))
    if probes > 1:
        assert -1 in found(table.scratch.array, hashes, probes - 1)
    table.close()


@given(old=HASHES, new=HASHES, piece=st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_words_are_added_at_once_to_others(tmp_path_factory, old, new, piece):
    old, new = old[: SLOTS // 4], new[: SLOTS // 4]
    table = table_of(old, tmp_path_factory.getbasetemp())
    table.insert_many(lambda: pieces(new, piece), len(old))
    every = [*old, *new]
    assert found(table.scratch.array, every, table.probe_count) == list(range(len(every)))
    assert np.count_nonzero(table.scratch.array) == len(every)
    table.close()


def test_ids_go_on_from_the_first(tmp_path):
    hashes, first_id = [7, 7, 8], 2**39
    table = table_of(hashes, tmp_path, first_id=first_id)
    assert table.scratch.array.tolist() == filled_one_by_one(hashes, first_id)[0]
    assert table.scratch.array[7:10].tolist() == [2**39 + 1, 2**39 + 2, 2**39 + 3]
    table.close()


def test_no_words(tmp_path):
    table = table_of([], tmp_path)
    assert not table.scratch.array.any()
    assert table.probe_count == 0
    table.close()


@pytest.mark.parametrize("home", [0, 1000, 4095])
@pytest.mark.parametrize(("count", "refused"), [(1024, False), (1025, True), (1500, True)])
def test_words_that_no_reader_would_find_are_refused(tmp_path, home, count, refused):
    """In one bucket, or over the borders of many."""
    hashes = [home + (number << 20) for number in range(count)]
    table = SlotTable(4096, 0, 0, tmp_path)
    if refused:
        with pytest.raises(ValueError, match="more than 1024 probes: the words' hashes collide"):
            table.fill(lambda: pieces(hashes, 100), 0)
    else:
        table.fill(lambda: pieces(hashes, 100), 0)
        assert found(table.scratch.array, hashes, 1024) == list(range(count))
    table.close()
    assert list(tmp_path.iterdir()) == []  # The files have no names.


def test_a_table_in_memory_is_filled_in_the_order_of_ids(tmp_path):
    hashes = [5, 5, 70, 5, 63, 63]
    table = SlotTable(SLOTS, 1 << 20, 1 << 20, tmp_path)
    table.fill(lambda: pieces(hashes, 2), 0)
    assert not table.in_file
    assert found(table.scratch.array, hashes, table.probe_count) == list(range(6))
