"""Plans against plain Python: sets of pages, and dictionaries of chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.table.numbering import PhysicalRows
from embstore.table.partitioning import Partitioning
from embstore.table.plan import group_by_chunk, page_runs, plan_lookup

PHYSICAL = st.lists(st.integers(0, 400), max_size=40)


@st.composite
def requests(draw):
    """Draw a numbering, and ids of its table."""
    rows = draw(st.integers(1, 60))
    partitioning = Partitioning(
        rows, draw(st.integers(1, 8)), draw(st.sampled_from(["mod", "div"]))
    )
    chunk_rows = 1 << draw(st.integers(0, 4))
    numbering = PhysicalRows(partitioning, chunk_rows, chunk_rows << draw(st.integers(0, 2)))
    ids = draw(st.lists(st.integers(0, rows - 1), max_size=40))
    return numbering, np.array(ids, np.int64)


def pages_of(physical: list[int], row_bytes: int, page_bytes: int) -> set[int]:
    """Return the pages on which a byte of the rows lies, byte by byte."""
    return {
        byte // page_bytes
        for row in physical
        for byte in range(row * row_bytes, (row + 1) * row_bytes)
    }


@given(request=requests())
@settings(deadline=None)
def test_groups_cover_each_position_once(request):
    numbering, ids = request
    groups = group_by_chunk(numbering.number(ids), numbering)
    positions = np.concatenate([group.positions for group in groups] or [np.empty(0, np.int64)])
    assert sorted(positions.tolist()) == list(range(len(ids)))
    assert [(g.partition, g.chunk) for g in groups] == sorted(
        {(g.partition, g.chunk) for g in groups}
    )
    for group in groups:
        partition, row = numbering.partitioning.locate(ids[group.positions])
        assert set(partition.tolist()) == {group.partition}
        assert (row // numbering.chunk_rows == group.chunk).all()
        assert (row % numbering.chunk_rows == group.rows).all()
        assert (np.diff(group.rows) >= 0).all()


@given(
    physical=PHYSICAL,
    row_bytes=st.sampled_from([1, 3, 4, 7, 8, 16, 20, 33]),
    page_bytes=st.sampled_from([4, 8, 16]),
)
@settings(deadline=None)
def test_runs_cover_exactly_the_touched_pages(physical, row_bytes, page_bytes):
    runs = page_runs(np.array(physical, np.int64), row_bytes, page_bytes)
    begins, counts = runs.first_pages.tolist(), runs.page_counts.tolist()
    pages = [page for b, count in zip(begins, counts, strict=True) for page in range(b, b + count)]
    assert pages == sorted(pages_of(physical, row_bytes, page_bytes))  # Ascending, none twice.
    assert len(runs) == len(begins)
    ends = [b + count for b, count in zip(begins, counts, strict=True)]
    # Between two runs there is at least one page: else they would be one.
    assert all(begin > end for begin, end in zip(begins[1:], ends, strict=False))


@given(request=requests(), row_bytes=st.sampled_from([1, 6, 8, 40]))
@settings(deadline=None)
def test_a_plan_adds_up(request, row_bytes):
    numbering, ids = request
    physical = numbering.number(ids)
    plan = plan_lookup(physical, numbering, row_bytes=row_bytes, page_bytes=16)
    partition, row = numbering.partitioning.locate(ids)
    chunks = set(zip(partition.tolist(), (row // numbering.chunk_rows).tolist(), strict=True))
    assert plan.row_count == len(ids)
    assert plan.distinct_row_count == len(set(ids.tolist()))
    assert plan.partition_count == len(set(partition.tolist()))
    assert plan.chunk_count == len(chunks) == len(plan.groups)
    assert plan.bytes_needed == len(set(ids.tolist())) * row_bytes
    assert plan.bytes_read == 16 * len(pages_of(physical.tolist(), row_bytes, 16))
    whole = plan_lookup(physical, numbering, row_bytes=row_bytes, page_bytes=None)
    assert whole.run_count == len(chunks)
    assert whole.bytes_read == len(chunks) * numbering.chunk_rows * row_bytes
    if len(ids):
        assert plan.read_amplification == plan.bytes_read / plan.bytes_needed >= 1


@pytest.mark.parametrize("page_bytes", [4096, None])
def test_an_empty_lookup_reads_nothing(page_bytes):
    numbering = PhysicalRows(Partitioning(0, 3, "mod"), 4, 8)
    plan = plan_lookup(np.empty((2, 0), np.int64), numbering, row_bytes=8, page_bytes=page_bytes)
    assert set(plan.summary().values()) == {0}
    assert plan.groups == ()


def test_a_plan_prints_as_a_table(words_store):
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


def test_a_long_plan_prints_its_first_chunks():
    numbering = PhysicalRows(Partitioning(40, 1, "mod"), 1, 1)
    plan = plan_lookup(np.arange(40), numbering, row_bytes=8, page_bytes=None)
    assert str(plan).endswith("... and 30 more chunks")


def test_explain_checks_ids_and_knows_its_reader(words_store):
    with embstore.open(words_store, reader="chunked") as store:
        plan = store.explain([0, 1])
        assert plan.bytes_read == 2 * store.chunk_rows * 8 * 4
        with pytest.raises(embstore.IdRangeError, match="id 11 at position 1"):
            store.explain([0, 11])
