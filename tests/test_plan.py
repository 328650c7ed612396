"""Plans against plain Python: sets of pages, and dictionaries of chunks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.table.addresses import lay_out
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.plan import (
    ChunkGroup,
    ExtentGroup,
    LookupPlan,
    Runs,
    group_by_extent,
    plan_lookup,
    runs,
)

ROWS = st.lists(st.integers(0, 400), max_size=40)


@st.composite
def requests(draw):
    """Draw a table of one chunk size, and ids of it."""
    rows = draw(st.integers(1, 60))
    count, chunk_rows = draw(st.integers(1, 8)), draw(st.integers(1, 20))
    numbering = Numbering(rows, count, draw(st.sampled_from(["mod", "div"])))
    chunks = -(-numbering.row_count(0) // chunk_rows)
    numbering = Numbering(rows, count, numbering.strategy, chunks * chunk_rows)
    extents = []
    for partition in range(count):
        own = -(-numbering.row_count(partition) // chunk_rows)
        extents += [Extent(f"{partition}/{chunk}", 0, chunk_rows) for chunk in range(own)]
        extents += [Extent("", 0, chunk_rows)] * (chunks - own)
    column = Column(tuple(extents), draw(st.sampled_from([1, 6, 8, 40])))
    ids = draw(st.lists(st.integers(0, rows - 1), max_size=40))
    return numbering, column, np.array(ids, np.int64)


def units_of(offsets: list[int], count: int, unit: int) -> set[int]:
    """Return the units that hold a byte of the records, found byte by byte."""
    return {(offset + i) // unit for offset in offsets for i in range(count)}


@given(request=requests())
@settings(deadline=None)
def test_groups_cover_each_position_once(request):
    numbering, column, ids = request
    rows, first_rows = numbering.rows_of(ids), np.array(column.first_rows())
    groups = group_by_extent(rows, first_rows)
    positions = np.concatenate([group.positions for group in groups] or [np.empty(0, np.int64)])
    assert sorted(positions.tolist()) == list(range(len(ids)))
    extents = [group.extent for group in groups]
    assert extents == sorted(set(extents))
    for group in groups:
        assert column.extents[group.extent].file
        assert (rows[group.positions] == first_rows[group.extent] + group.rows).all()
        assert (group.rows < column.extents[group.extent].rows).all()
        assert (np.diff(group.rows) >= 0).all()


@given(
    rows=ROWS,
    count=st.sampled_from([1, 3, 4, 7, 8, 16, 20, 33]),
    unit=st.sampled_from([1, 4, 8, 16]),
    max_gap=st.integers(0, 5),
    max_run=st.one_of(st.none(), st.integers(1, 9)),
)
@settings(deadline=None)
def test_runs_cover_touched_units_and_small_gaps(rows, count, unit, max_gap, max_run):
    offsets = [row * count for row in rows]
    found = runs(np.array(offsets, np.int64), count, unit=unit, max_gap=max_gap, max_run=max_run)
    firsts, counts = found.firsts.tolist(), found.counts.tolist()
    assert len(found) == len(firsts) == len(counts)
    units = [u for first, n in zip(firsts, counts, strict=True) for u in range(first, first + n)]
    assert units == sorted(set(units))  # Ascending, none twice.
    needed = sorted(units_of(offsets, count, unit))
    expected = set(needed)
    for one, other in pairwise(needed):
        if other - one - 1 <= max_gap:
            expected.update(range(one, other))
    assert set(units) == expected
    if max_run is None:
        ends = [first + n for first, n in zip(firsts, counts, strict=True)]
        assert all(b > end + max_gap for b, end in zip(firsts[1:], ends, strict=False))
    else:
        assert all(1 <= n <= max_run for n in counts)


@given(request=requests())
@settings(deadline=None)
def test_plan_adds_up(request):
    numbering, column, ids = request
    addresses, rows = lay_out(column), numbering.rows_of(ids)
    plan = plan_lookup(rows, numbering, addresses, unit=16)
    partition, row = numbering.locate(ids)
    chunk_rows = column.extents[0].rows
    chunks = set(zip(partition.tolist(), (row // chunk_rows).tolist(), strict=True))
    assert plan.row_count == len(ids)
    assert plan.distinct_row_count == len(set(ids.tolist()))
    assert plan.partition_count == len(set(partition.tolist()))
    assert plan.chunk_count == len(chunks) == len(plan.groups)
    assert {(group.partition, group.chunk) for group in plan.groups} == chunks
    assert plan.bytes_needed == len(set(ids.tolist())) * column.record_bytes
    touched = units_of(addresses.of(rows).tolist(), column.record_bytes, 16)
    assert plan.bytes_read == 16 * len(touched)
    whole = plan_lookup(rows, numbering, addresses, unit=None)
    assert whole.run_count == len(chunks)
    assert whole.bytes_read == len(chunks) * chunk_rows * column.record_bytes
    if len(ids):
        assert plan.read_amplification == plan.bytes_read / plan.bytes_needed >= 1


@pytest.mark.parametrize("unit", [4096, None])
def test_empty_lookup_reads_nothing(unit):
    plan = plan_lookup(
        np.empty((2, 0), np.int64), Numbering(0, 3, "mod"), lay_out(Column((), 8)), unit=unit
    )
    assert set(plan.summary().values()) == {0}
    assert plan.groups == ()


def test_plan_prints_as_a_table(words_store):
    with embstore.open(words_store) as store:
        plan = store.explain([[1, 0], [7, 1]])
        assert plan.summary() | {"bytes read": 0, "read amplification": 0} == {
            "rows": 4,
            "distinct rows": 3,
            "partitions": 2,
            "chunks": 2,
            "bytes needed": 96,
            "bytes read": 0,
            "runs": 2,
            "read amplification": 0,
        }
        lines = str(plan).splitlines()
    assert [line.split() for line in lines[-2:]] == [["0", "0", "1"], ["1", "0", "3"]]
    assert lines[0].split() == ["rows", "4"]


def test_long_plan_prints_its_first_chunks():
    addresses = lay_out(Column(tuple(Extent(f"{i}", 0, 1) for i in range(40)), 8))
    plan = plan_lookup(np.arange(40), Numbering(40), addresses, unit=None)
    assert str(plan).endswith("... and 30 more chunks")


def test_explain_checks_ids_and_knows_its_reader(words_store):
    with embstore.open(words_store, reader="chunked") as store:
        plan = store.explain([0, 1])
        assert plan.bytes_read == 2 * store.chunk_rows * 8 * 4
        with pytest.raises(embstore.IdRangeError, match="id 11 at position 1"):
            store.explain([0, 11])


def plan_of_chunks(count: int) -> LookupPlan:
    """Return a plan of chunk 3 of the first partitions, 1000 rows and more of each."""
    empty = np.empty(0, np.intp)
    groups = tuple(ChunkGroup(p, 3, empty, np.zeros(1000 + p, np.int64)) for p in range(count))
    return LookupPlan(4321, 1234, count, 5678, 3000, 10_000, 8765, groups)


def test_a_printed_plan_is_aligned():
    assert str(plan_of_chunks(11)).splitlines() == [
        "rows                          4,321",
        "distinct rows                 1,234",
        "partitions                       11",
        "chunks                        5,678",
        "bytes needed                  3,000",
        "bytes read                   10,000",
        "runs                          8,765",
        "read amplification             3.33",
        "",
        "partition    chunk             rows",
        *(f"        {p}        3            1,00{p}" for p in range(10)),
        "... and 1 more chunks",
    ]


def test_a_plan_of_few_chunks_prints_all_of_them():
    assert str(plan_of_chunks(10)).splitlines()[-1] == "        9        3            1,009"
    assert str(plan_of_chunks(0)).splitlines()[-1] == "partition    chunk             rows"


def test_the_repr_of_a_plan_has_no_groups():
    assert repr(plan_of_chunks(2)) == (
        "LookupPlan(row_count=4321, distinct_row_count=1234, partition_count=2, chunk_count=5678, "
        "bytes_needed=3000, bytes_read=10000, run_count=8765)"
    )


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (ExtentGroup(0, np.empty(0, np.intp), np.empty(0, np.int64)), "extent"),
        (ChunkGroup(0, 0, np.empty(0, np.intp), np.empty(0, np.int64)), "chunk"),
        (Runs(np.empty(0, np.int64), np.empty(0, np.int64)), "firsts"),
        (plan_of_chunks(0), "groups"),
    ],
)
def test_parts_of_plans_are_frozen_and_slotted(value, field):
    with pytest.raises(AttributeError):
        setattr(value, field, None)
    assert not hasattr(value, "__dict__")


def test_runs_of_bytes_without_gaps_by_default():
    found = runs(np.array([0, 1, 3, 7]), 1)
    assert (found.firsts.tolist(), found.counts.tolist()) == ([0, 3, 7], [2, 1, 1])


def test_a_plan_reads_small_gaps_only_if_told_to():
    addresses = lay_out(Column((Extent("f", 0, 9),), 8))
    rows = np.array([5, 0, 1, 3])
    plan = plan_lookup(rows, Numbering(9), addresses, unit=8)
    assert (plan.run_count, plan.bytes_read) == (3, 32)
    plan = plan_lookup(rows, Numbering(9), addresses, unit=8, max_gap=1)
    assert (plan.run_count, plan.bytes_read) == (1, 48)


def test_repeated_rows_keep_the_order_of_the_request():
    rows = np.arange(200) % 2
    (group,) = group_by_extent(rows, np.array([0, 2]))
    assert group.positions.tolist() == [*range(0, 200, 2), *range(1, 200, 2)]


def test_a_plan_leaves_the_rows_as_they_are():
    rows = np.array([[5, 0], [1, 3]])
    plan_lookup(rows, Numbering(9), lay_out(Column((Extent("f", 0, 9),), 8)), unit=8)
    assert rows.tolist() == [[5, 0], [1, 3]]


@given(request=requests())
@settings(deadline=None)
def test_groups_of_a_plan_name_the_rows_of_their_chunks(request):
    numbering, column, ids = request
    chunk_rows = column.extents[0].rows
    partition, row = numbering.locate(ids)
    plan = plan_lookup(numbering.rows_of(ids), numbering, lay_out(column), unit=16)
    for group in plan.groups:
        assert type(group.partition) is type(group.chunk) is int
        assert (partition[group.positions] == group.partition).all()
        assert (row[group.positions] == group.chunk * chunk_rows + group.rows).all()
        assert (np.diff(group.rows) >= 0).all()
    assert sum(len(group.positions) for group in plan.groups) == len(ids)


@pytest.mark.parametrize("unit", [8, None])
def test_numbers_of_a_plan_are_plain_ints(unit):
    addresses = lay_out(Column((Extent("f", 0, 9),), 8))
    plan = plan_lookup(np.array([5, 0, 1]), Numbering(9), addresses, unit=unit)
    numbers = [value for name, value in plan.summary().items() if name != "read amplification"]
    assert {type(number) for number in numbers} == {int}
