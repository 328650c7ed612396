"""The hash table against a dict, with hashes that are made to collide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embstore.formats.own.spec import SLOT_ID_BITS
from embstore.vocabulary import hashing

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The lowest bits choose the slot and the upper 24 are kept in it. With few values of both, words
# agree in the slot, in the kept bits, in both, or in all 64 bits.
HASH = st.builds(
    lambda upper, middle, lower: (upper << SLOT_ID_BITS) | (middle << 20) | lower,
    st.sampled_from([0, 1, 2**24 - 1]),
    st.integers(0, 2),
    st.sampled_from([0, 1, 14, 15, 31]),
)


def find(
    slots: NDArray[np.uint64],
    hashes: list[int],
    probe_count: int,
    words: list[Any],
    queries: list[Any],
) -> list[int]:
    """Look words up, confirming candidates against ``words``; return ids."""

    def confirm(positions: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.array(
            [words[i] == queries[p] for p, i in zip(positions.tolist(), ids.tolist(), strict=True)],
            bool,
        )

    found = hashing.find(slots, np.array(hashes, np.uint64), probe_count, confirm)
    return [int(number) for number in found]


def insert(slots: NDArray[np.uint64], hashes: NDArray[np.uint64], first_id: int) -> int:
    """Insert words with consecutive ids."""
    return hashing.insert(slots, hashes, np.arange(first_id, first_id + len(hashes)))


@given(hashes=st.lists(HASH, max_size=40), absent=st.lists(HASH, max_size=10), data=st.data())
@settings(deadline=None)
def test_only_inserted_words_are_found(hashes, absent, data):
    slots = np.zeros(hashing.slot_count_for(len(hashes)), np.uint64)
    assert len(slots) >= 2 * len(hashes)
    probe_count, start = 0, 0
    while start < len(hashes):  # In batches, as a build does.
        stop = data.draw(st.integers(start + 1, len(hashes)))
        batch = np.array(hashes[start:stop], np.uint64)
        probe_count = max(probe_count, insert(slots, batch, start))
        start = stop
    assert np.count_nonzero(slots) == len(hashes)
    words = list(range(len(hashes)))
    strangers = list(range(1000, 1000 + len(absent)))
    found = find(slots, hashes + absent, probe_count, words, words + strangers)
    assert found == words + [-1] * len(absent)


def test_words_with_equal_hashes_are_distinguished():
    slots = np.zeros(64, np.uint64)
    hashes = [0xABCDEF_1234567890] * 20
    probe_count = insert(slots, np.array(hashes, np.uint64), 0)
    assert probe_count == 20
    words = [f"word {i}" for i in range(20)]
    queries = [*reversed(words), "another"]
    assert find(slots, [*hashes, hashes[0]], probe_count, words, queries) == [
        *range(19, -1, -1),
        -1,
    ]


def test_matching_slot_is_only_a_candidate():
    slots = np.zeros(8, np.uint64)
    probe_count = insert(slots, np.array([5], np.uint64), 0)
    assert find(slots, [5], probe_count, ["stored"], ["asked"]) == [-1]
    assert find(slots, [5], probe_count, ["stored"], ["stored"]) == [0]


def test_probing_wraps_around_the_end():
    slots = np.zeros(8, np.uint64)
    hashes = [7, 7, 7, 6, 0]
    probe_count = insert(slots, np.array(hashes, np.uint64), 0)
    assert np.flatnonzero(slots).tolist() == [0, 1, 2, 6, 7]
    words = list("abcde")
    assert find(slots, hashes, probe_count, words, words) == [0, 1, 2, 3, 4]


def test_probe_count_limits_the_search():
    slots = np.zeros(16, np.uint64)
    assert insert(slots, np.array([3] * 5, np.uint64), 0) == 5
    words = list("abcde")
    # Which word gets which slot is not specified, but each needs one more probe.
    for probe_count in range(6):
        found = find(slots, [3] * 5, probe_count, words, words)
        assert sum(number >= 0 for number in found) == probe_count


def test_search_of_a_full_table_ends():
    slots = np.zeros(8, np.uint64)
    hashes = list(range(8))
    insert(slots, np.array(hashes, np.uint64), 0)
    words = list("abcdefgh")
    assert find(slots, hashes, 8, words, words) == list(range(8))
    # No empty slot ends this search, and a damaged manifest may have any probe count.
    assert find(slots, [3], 1 << 40, words, ["absent"]) == [-1]
    with pytest.raises(ValueError, match="8 slots is full"):
        insert(slots, np.array([9], np.uint64), 8)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, 1024, 1025])
def test_slot_counts_are_powers_of_two(count):
    slots = hashing.slot_count_for(count)
    assert slots & (slots - 1) == 0
    assert 2 * count <= slots <= max(4 * count, 4)


def test_largest_id():
    slots = np.zeros(4, np.uint64)
    largest = (1 << SLOT_ID_BITS) - 2
    insert(slots, np.array([2**64 - 1], np.uint64), largest)
    everything = np.ones(1, bool)
    found = hashing.find(
        slots, np.array([2**64 - 1], np.uint64), 4, lambda positions, ids: everything
    )
    assert found.tolist() == [largest]


@pytest.mark.parametrize("number", [0, 1, 2**20])
def test_the_kept_bits_decide_whatever_the_others_are(number):
    """The lower bits of the hash may be those of the id plus one, or all differ from them."""
    low = (1 << SLOT_ID_BITS) - 1
    for hashed in (number + 1, low ^ (number + 1), low << 24 | (low ^ (number + 1))):
        hashes = np.array([hashed % 2**64], np.uint64)
        slots = np.zeros(4, np.uint64)
        hashing.insert(slots, hashes, np.array([number]))
        found = hashing.find(slots, hashes, 4, lambda positions, ids: np.ones(len(ids), bool))
        assert found.tolist() == [number]
        neighbour = hashes ^ np.uint64(1 << SLOT_ID_BITS)
        assert hashing.find(slots, neighbour, 4, refuse).tolist() == [-1]


def refuse(positions: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    raise AssertionError("a slot with other bits is a candidate")
