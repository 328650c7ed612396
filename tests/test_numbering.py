"""Numberings against the definition of partitions: ``id % P``, and contiguous pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embstore.errors import IdRangeError
from embstore.table.numbering import Numbering, Strategy, scalar
from embstore.table.row_functions import checked_rows_function, refuse, rows_function

SIZES = {"rows": st.integers(0, 60), "count": st.integers(1, 70)}
STRATEGY = st.sampled_from(["mod", "div"])


def model(rows: int, count: int, strategy: str) -> list[list[int]]:
    """Return the ids of each partition, straight from TensorFlow's documentation."""
    if strategy == "mod":
        return [[i for i in range(rows) if i % count == p] for p in range(count)]
    # "Each of the first (rows % count) partitions is assigned one more id."
    lengths = [rows // count + 1] * (rows % count) + [rows // count] * (count - rows % count)
    ids = iter(range(rows))
    return [[next(ids) for _ in range(length)] for length in lengths]


@given(**SIZES, strategy=STRATEGY)
@settings(deadline=None)
def test_partitions_equal_the_model(rows, count, strategy):
    numbering = Numbering(rows, count, strategy)
    expected = model(rows, count, strategy)
    assert [list(numbering.ids_of(p)) for p in range(count)] == expected
    assert numbering.row_counts() == tuple(map(len, expected))
    assert [numbering.row_count(p) for p in range(count)] == list(map(len, expected))


@given(**SIZES, strategy=STRATEGY)
@settings(deadline=None)
def test_locate_finds_every_id(rows, count, strategy):
    partition, row = Numbering(rows, count, strategy).locate(np.arange(rows))
    parts = model(rows, count, strategy)
    found = [parts[p][r] for p, r in zip(partition.tolist(), row.tolist(), strict=True)]
    assert found == list(range(rows))


@given(**SIZES, strategy=STRATEGY, data=st.data())
@settings(deadline=None)
def test_spread_splits_consecutive_ids(rows, count, strategy, data):
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    numbering = Numbering(rows, count, strategy)
    dealt: dict[int, list[int]] = {}
    for partition, piece in numbering.spread(start, stop):
        assert partition not in dealt
        dealt[partition] = list(range(start, stop))[piece]
    parts = model(rows, count, strategy)
    expected = {p: [i for i in ids if start <= i < stop] for p, ids in enumerate(parts)}
    assert dealt == {p: ids for p, ids in expected.items() if ids}


@given(
    rows=st.integers(1, 2**40 - 1),
    count=st.integers(1, 2**40),
    strategy=STRATEGY,
    data=st.data(),
)
@settings(deadline=None)
def test_large_tables_do_not_overflow(rows, count, strategy, data):
    numbering = Numbering(rows, count, strategy)
    ids = [0, rows - 1, *data.draw(st.lists(st.integers(0, rows - 1), max_size=5))]
    partition, row = numbering.locate(np.array(ids))
    for number, p, r in zip(ids, partition.tolist(), row.tolist(), strict=True):
        assert numbering.ids_of(p)[r] == number
        assert 0 <= r < numbering.row_count(p)


@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_ids_keep_their_shape(strategy):
    for shape in [(), (0,), (2, 3), (2, 0, 3)]:
        partition, row = Numbering(9, 4, strategy).locate(np.zeros(shape, np.int64))
        assert partition.shape == row.shape == shape


@pytest.mark.parametrize(
    ("rows", "count", "strategy", "message"),
    [
        (-1, 1, "mod", "rows must be 0 or more, not -1"),
        (1, 0, "mod", "partition count must be 1 or more, not 0"),
        (1, 1, "hash", "not 'hash'"),
    ],
)
def test_wrong_arguments_of_a_numbering_are_refused(rows, count, strategy, message):
    with pytest.raises(ValueError, match=message):
        Numbering(rows, count, strategy)


@given(
    rows=st.integers(0, 80), count=st.integers(1, 12), strategy=STRATEGY, spare=st.integers(0, 9)
)
@settings(deadline=None)
def test_column_rows_follow_from_partition_rows(rows, count, strategy, spare):
    distance = Numbering(rows, count, strategy).row_count(0) + spare
    numbering = Numbering(rows, count, strategy, distance)
    ids = np.arange(rows)
    found = numbering.rows_of(ids)
    assert (found is ids) == (count == 1)
    partition, row = numbering.locate(ids)
    assert found.tolist() == (partition * distance + row).tolist()
    assert [numbering.row_of(number) for number in ids.tolist()] == found.tolist()
    assert numbering.column_rows == max(found.tolist(), default=-1) + 1


@given(rows=st.integers(0, 80), count=st.integers(1, 12), strategy=STRATEGY, data=st.data())
@settings(deadline=None)
def test_ranges_of_rows_are_ranges_of_ids(rows, count, strategy, data):
    numbering = Numbering(rows, count, strategy, 100)
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    ranges = numbering.row_ranges(start, stop)
    assert ranges == sorted(ranges, key=lambda some: some.start)
    found: list[int] = []
    for some in ranges:
        ids = numbering.ids_at(some)
        assert len(ids) == len(some) > 0
        assert [numbering.row_of(number) for number in ids] == list(some)
        assert list(numbering.ids_at(some[1:])) == list(ids[1:])
        found += ids
    assert sorted(found) == list(range(start, stop))


def test_overlapping_partitions_are_refused():
    with pytest.raises(ValueError, match="partitions of 4 rows overlap at a distance of 3 rows"):
        Numbering(10, 3, "mod", 3)


def test_a_table_is_one_partition_by_default():
    assert Numbering(7) == Numbering(7, 1, "mod", None)


def test_numberings_are_frozen_and_slotted():
    numbering = Numbering(7)
    with pytest.raises(AttributeError):
        numbering.rows = 8  # type: ignore[misc]
    assert not hasattr(numbering, "__dict__")


@given(**SIZES, strategy=STRATEGY)
@settings(deadline=None)
def test_partitions_are_adjacent_by_default(rows, count, strategy):
    numbering = Numbering(rows, count, strategy)
    longest = max(numbering.row_counts())
    assert numbering.distance == longest
    assert Numbering(rows, count, strategy, longest + 3).distance == longest + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "rows must be 0 or more, not -1"),
        ((1, 0), "partition count must be 1 or more, not 0"),
        ((1, 1, "hash"), 'strategy must be "mod" or "div", not \'hash\''),
        ((9, 3, "mod", 2), "partitions of 3 rows overlap at a distance of 2 rows"),
        ((10, 3, "div", 3), "partitions of 4 rows overlap at a distance of 3 rows"),
    ],
)
def test_messages_name_what_was_found(arguments, message):
    with pytest.raises(ValueError, match=r"must be|overlap") as error:
        Numbering(*arguments)
    assert str(error.value) == message


def test_scalars_are_made_once():
    assert scalar(7) is scalar(7)
    assert scalar(7).shape == ()
    assert scalar(7).dtype == np.int64


def test_an_empty_table_has_no_ids_at_no_rows():
    assert Numbering(0).ids_at(range(0)) == range(0)
    assert Numbering(0).row_ranges(0, 0) == []


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("count", [1, 2, 5, 8, 100, 130])
@pytest.mark.parametrize("rows", [1, 7, 8, 64, 99, 1000])
def test_row_functions_give_the_rows_of_the_numbering(
    rows: int, count: int, strategy: Strategy
) -> None:
    for more in (0, 3):
        shortest = Numbering(rows, count, strategy).row_count(0)
        numbering = Numbering(rows, count, strategy, partition_rows=shortest + more)
        every = np.arange(rows)
        batches = [every, every[::-1], np.tile(every, (2, 300)), np.array(rows - 1), every[:64]]
        for function in (rows_function(numbering), checked_rows_function(numbering)):
            for ids in batches:
                np.testing.assert_array_equal(function(ids), numbering.rows_of(ids))


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("count", [1, 2, 5, 8, 130])
@pytest.mark.parametrize("rows", [0, 1, 64, 1000])
@pytest.mark.parametrize("length", [1, 16, 256, 257, 600])
def test_checked_row_functions_refuse_other_ids(
    rows: int, count: int, strategy: Strategy, length: int
) -> None:
    rows_of = checked_rows_function(Numbering(rows, count, strategy))
    for wrong in (-1, -rows - 1, rows, rows + 1, 2 * rows + 1, -(1 << 63), (1 << 63) - 1):
        for place in {0, length // 2, length - 1}:
            ids = np.full(length, max(rows - 1, 0))
            ids[place] = wrong
            for batch in (ids, ids[::-1], ids.reshape(1, -1)):
                with pytest.raises(IndexError):
                    rows_of(batch)


def test_ids_that_were_refused_are_named() -> None:
    problem = IndexError("elsewhere")
    with pytest.raises(IdRangeError, match="id 7 at position 1 is out of range"):
        refuse(np.array([0, 7]), 5, problem)
    with pytest.raises(IndexError, match="elsewhere"):
        refuse(np.array([0, 1]), 5, problem)
