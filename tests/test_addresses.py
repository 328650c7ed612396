"""Addresses against a model that walks through all extents, on a grid and without one."""

from __future__ import annotations

import math
import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embstore.encodings.plain import Plain
from embstore.formats.own.describe import table_of
from embstore.formats.own.manifest import Manifest
from embstore.table import addresses as module
from embstore.table.addresses import (
    FREE_ADDRESS_BYTES,
    HUGE_PAGE_BYTES,
    MAX_ADDRESS_FACTOR,
    Grid,
    address_limit,
    aligned_rows,
    lay_out,
)
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.tables import Table

PAGE = mmap.PAGESIZE


@st.composite
def columns(draw):
    """Draw a column: extents at any byte, some of them gaps or empty."""
    extents = []
    for number in range(draw(st.integers(0, 5))):
        gap = draw(st.booleans()) and draw(st.booleans())
        offset = 0 if gap else draw(st.integers(0, 3 * HUGE_PAGE_BYTES))
        if draw(st.booleans()):
            offset -= offset % PAGE
        extents.append(Extent("" if gap else f"f{number}", offset, draw(st.integers(0, 300))))
    return Column(tuple(extents), draw(st.integers(1, 5000)))


@st.composite
def stores(draw):
    """Draw the manifest of a store."""
    return Manifest(
        rows=draw(st.integers(0, 10**6)),
        row_shape=(draw(st.integers(1, 5000)),),
        dtype=np.dtype("uint8"),
        partition_count=draw(st.integers(1, 64)),
        strategy=draw(st.sampled_from(["mod", "div"])),
        chunk_rows=1 << draw(st.integers(0, 20)),
    )


def check_layout(column: Column) -> None:
    """Check that every record has a place of its own, congruent with its file."""
    addresses = lay_out(column)
    row = 0
    pages: set[int] = set()
    for extent, start in zip(column.extents, addresses.starts.tolist(), strict=True):
        if extent.file and extent.rows:
            assert start % PAGE == extent.offset % PAGE
            stop = start + extent.rows * column.record_bytes
            assert stop <= addresses.size_bytes
            own = range(start // PAGE, -(-stop // PAGE))
            assert pages.isdisjoint((own[0], own[-1]))  # No page is that of two files.
            pages.update((own[0], own[-1]))
            rows = np.array([row, row + extent.rows // 2, row + extent.rows - 1])
            expected = start + (rows - row) * column.record_bytes
            assert addresses.of(rows).tolist() == expected.tolist()
            if addresses.grid is not None:
                places = addresses.grid.places(rows)
                assert places.tolist() == [addresses.grid.place(r) for r in rows.tolist()]
        else:
            assert start == -1
        row += extent.rows
    starts = [start for start in addresses.starts.tolist() if start >= 0]
    assert starts == sorted(starts)
    assert addresses.size_bytes % PAGE == 0


@given(column=columns())
def test_records_do_not_overlap(column):
    check_layout(column)


@given(manifest=stores())
def test_stores_are_on_a_grid_aligned_for_huge_pages(manifest):
    (column,) = table_of(manifest).columns
    if len(column.extents) > 4000:
        return  # The model walks through all of them.
    check_layout(column)
    addresses = lay_out(column)
    assert addresses.grid is not None or addresses.size_bytes > FREE_ADDRESS_BYTES / 2
    starts = addresses.starts[addresses.starts >= 0]
    if (starts % HUGE_PAGE_BYTES).any():
        # Only if 2 MiB would take too much address space.
        stride = aligned_rows(manifest.chunk_rows, manifest.row_bytes, HUGE_PAGE_BYTES)
        whole = len(starts) * stride * manifest.row_bytes
        assert 2 * whole > max(FREE_ADDRESS_BYTES, MAX_ADDRESS_FACTOR * column.stored_bytes)
    assert addresses.size_bytes < 1 << 47  # The address space of a process.


@given(manifest=stores())
def test_each_id_has_its_own_record(manifest):
    table = table_of(manifest)
    (column,) = table.columns
    ids = np.unique(np.linspace(0, max(manifest.rows - 1, 0), 500).astype(np.int64))
    ids = ids[: manifest.rows]
    rows = table.numbering.rows_of(ids)
    assert len(np.unique(rows)) == len(ids)
    first_rows = np.array(column.first_rows())
    extents = np.searchsorted(first_rows, rows, side="right") - 1
    partition, row = manifest.numbering.locate(ids)
    names = [
        manifest.partition(p).chunk_name(r // manifest.chunk_rows)
        for p, r in zip(partition.tolist(), row.tolist(), strict=True)
    ]
    assert [column.extents[extent].file for extent in extents] == names
    assert (rows - first_rows[extents] == row % manifest.chunk_rows).all()


def test_one_extent_is_a_grid_at_any_offset():
    for offset in (0, 1, 128, PAGE, HUGE_PAGE_BYTES + 7):
        addresses = lay_out(Column((Extent("f", offset, 1000),), 37))
        assert addresses.grid == Grid(offset % HUGE_PAGE_BYTES)


def test_equal_chunks_are_a_grid_with_gaps_only_where_huge_pages_need_them():
    even = lay_out(Column(tuple(Extent(f"{i}", 0, 65536) for i in range(3)), 1024))
    assert even.grid == Grid(0)
    odd = lay_out(Column(tuple(Extent(f"{i}", 0, 65536) for i in range(3)), 1200))
    assert odd.grid == Grid(0, 65536, 65536)


@given(
    rows=st.integers(0, 10**6),
    record_bytes=st.integers(1, 5000),
    power=st.integers(12, 21),
)
def test_aligned_rows_are_the_least_power_of_two(rows, record_bytes, power):
    found = aligned_rows(rows, record_bytes, 1 << power)
    assert found & (found - 1) == 0
    assert found >= rows
    assert found * record_bytes % (1 << power) == 0
    half = found // 2
    assert found == 1 or half < rows or half * record_bytes % (1 << power)


def test_rows_that_fill_alignments_are_rounded_up_to_powers_of_two():
    found = [aligned_rows(rows, 4096, 4096) for rows in range(10)]
    assert found == [1, 1, 2, 4, 4, 8, 8, 8, 8, 16]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Extent("f", -1, 3), "0 or more, not 3 rows at byte -1"),
        (lambda: Extent("f", 0, -3), "0 or more, not -3 rows"),
        (lambda: Extent("", 4, 3), "a gap has no file"),
        (lambda: Column((), 0), "record_bytes must be 1 or more, not 0"),
        (lambda: Column((), 1, 0), "rows_per_record must be 1 or more, not 0"),
    ],
)
def test_values_are_checked_where_they_are_made(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_values_are_frozen_and_slotted():
    extent = Extent("f", 0, 3)
    with pytest.raises(AttributeError):
        extent.rows = 4  # type: ignore[misc]
    assert not hasattr(extent, "__dict__")
    assert math.isclose(Column((extent,), 8).stored_bytes, 24)


def test_address_space_is_limited_to_64_gib_or_8_times_the_table():
    assert address_limit(0) == address_limit(8 << 30) == 64 << 30
    assert address_limit(9 << 30) == 72 << 30


def chunks(count: int, record_bytes: int, rows: int = 1, offset: int = 0) -> Column:
    return Column(tuple(Extent(f"{i}", offset, rows) for i in range(count)), record_bytes)


@pytest.mark.parametrize(
    ("limit", "gap_rows"),
    [
        (8 << 20, 16383),  # Four chunks at distances of 2 MiB,
        ((8 << 20) - 1, 511),  # of 64 KiB,
        (256 << 10, 511),
        ((256 << 10) - 1, PAGE // 128 - 1),  # of a page,
        (4 * PAGE, PAGE // 128 - 1),
        (4 * PAGE - 1, None),  # and off the grid.
    ],
)
def test_gaps_shrink_with_the_limit(monkeypatch, limit, gap_rows):
    monkeypatch.setattr(module, "FREE_ADDRESS_BYTES", limit)
    addresses = lay_out(chunks(4, 128))
    assert addresses.grid == (None if gap_rows is None else Grid(0, 1, gap_rows))
    distance = PAGE if gap_rows is None else (gap_rows + 1) * 128
    assert addresses.starts.tolist() == [0, distance, 2 * distance, 3 * distance]
    assert addresses.size_bytes == 3 * distance + PAGE


@pytest.mark.parametrize(
    ("spare", "alignment"), [(0, HUGE_PAGE_BYTES), (-1, 64 << 10), (-(4 << 20), PAGE)]
)
def test_alignments_off_the_grid_shrink_with_the_limit(monkeypatch, spare, alignment):
    end = 2 * HUGE_PAGE_BYTES + 100 + 2 * 128
    monkeypatch.setattr(module, "FREE_ADDRESS_BYTES", end + spare)
    addresses = lay_out(chunks(3, 128, rows=2, offset=HUGE_PAGE_BYTES + 100))
    assert addresses.grid is None
    assert addresses.starts.tolist() == [100, alignment + 100, 2 * alignment + 100]
    assert addresses.size_bytes == 2 * alignment + PAGE


def test_off_the_grid_extents_of_exact_alignments_are_adjacent():
    rows, other = HUGE_PAGE_BYTES, Extent("b", 0, 5)  # Of 4 bytes each, from byte 4 on.
    adjacent = lay_out(Column((Extent("a", 4, rows - 1), other), 4))
    assert adjacent.starts.tolist() == [4, 4 * HUGE_PAGE_BYTES]
    beyond = lay_out(Column((Extent("a", 4, rows), other), 4))
    assert beyond.starts.tolist() == [4, 5 * HUGE_PAGE_BYTES]


def test_extents_that_begin_inside_a_page_are_not_on_a_grid():
    """Their equal bases would have the end of one file and the next file on one page."""
    first, other = Extent("a", 0, 2), Extent("b", 256, 2)
    addresses = lay_out(Column((first, other), 128))
    assert addresses.grid is None
    assert addresses.starts.tolist() == [0, HUGE_PAGE_BYTES + 256]
    assert lay_out(chunks(2, 128, rows=2, offset=100)).grid is None
    assert lay_out(chunks(3, 128, rows=2, offset=100)).grid is None


def test_extents_that_begin_with_a_page_are_on_a_grid():
    shift = HUGE_PAGE_BYTES + PAGE
    addresses = lay_out(chunks(3, 128, rows=2, offset=shift))
    assert addresses.grid == Grid(PAGE, 2, 16382)
    assert addresses.starts.tolist() == [PAGE + i * HUGE_PAGE_BYTES for i in range(3)]
    assert type(addresses.grid.base) is int
    assert type(addresses.size_bytes) is int
    different = lay_out(Column((Extent("a", 0, 2), Extent("b", PAGE, 2)), 128))
    assert different.grid == Grid(0, 2, PAGE // 128 - 2)


def test_a_grid_without_gaps_takes_address_space_up_to_the_limit(monkeypatch):
    """A gap of 100 pages, a page of records, and 3 records, where one file would have them."""
    page_rows = PAGE // 8
    gap = Extent("", 0, 100 * page_rows)
    extents = (gap, Extent("a", 100 * PAGE, page_rows), Extent("b", 101 * PAGE, 3))
    column, end = Column(extents, 8), 101 * PAGE + 24
    monkeypatch.setattr(module, "FREE_ADDRESS_BYTES", end)
    addresses = lay_out(column)
    assert addresses.grid == Grid(0)
    assert type(addresses.grid.base) is int
    assert addresses.starts.tolist() == [-1, 100 * PAGE, 101 * PAGE]
    monkeypatch.setattr(module, "FREE_ADDRESS_BYTES", end - 1)
    assert lay_out(column).grid is None


def test_a_leading_gap_costs_address_space_up_to_the_limit(monkeypatch):
    column = Column((Extent("", 0, PAGE // 8 - 1), Extent("f", 0, 1)), 8)
    monkeypatch.setattr(module, "FREE_ADDRESS_BYTES", PAGE)
    assert lay_out(column).grid == Grid(HUGE_PAGE_BYTES - PAGE + 8)
    assert lay_out(column).starts.tolist() == [-1, HUGE_PAGE_BYTES]
    monkeypatch.setattr(module, "FREE_ADDRESS_BYTES", PAGE - 1)
    assert lay_out(column).grid is None
    assert lay_out(column).starts.tolist() == [-1, 0]


def test_a_column_without_records_needs_no_address_space():
    for extents in [(), (Extent("", 0, 5),), (Extent("f", 0, 0),)]:
        addresses = lay_out(Column(extents, 8))
        assert addresses.grid == Grid(0)
        assert addresses.size_bytes == 0
        assert addresses.starts.tolist() == [-1] * len(extents)


def test_a_grid_has_no_gaps_by_default():
    assert Grid(5) == Grid(5, unit_rows=1, gap_rows=0)
    rows = np.arange(3)
    assert Grid(5).places(rows) is rows


def test_addresses_leave_the_rows_as_they_are():
    rows = np.array([5, 0, 3])
    for column in (chunks(6, 128), chunks(6, 128, offset=100), chunks(1, 128, rows=6)):
        addresses = lay_out(column)
        assert (addresses.of(rows) >= 0).all()
        assert rows.tolist() == [5, 0, 3]


def table(*columns: tuple[int, int]) -> Table:
    """Return a table of ten ids from the records and the rows per record of its columns."""
    made = [Column((Extent("f", 0, records),), 8, shared) for records, shared in columns]
    return Table(tuple(made), Plain(np.dtype(np.float64), ()), Numbering(10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Extent("f", -1, 3),
            "an extent of 'f' must have rows and an offset of 0 or more, not 3 rows at byte -1",
        ),
        (
            lambda: Extent("f", 0, -3),
            "an extent of 'f' must have rows and an offset of 0 or more, not -3 rows at byte 0",
        ),
        (
            lambda: Extent("f", 0, -1),
            "an extent of 'f' must have rows and an offset of 0 or more, not -1 rows at byte 0",
        ),
        (lambda: Extent("", 4, 3), "a gap has no file, so its offset must be 0, not 4"),
        (lambda: Column((), 0), "record_bytes must be 1 or more, not 0"),
        (lambda: Column((), 1, 0), "rows_per_record must be 1 or more, not 0"),
        (table, "a table of numbers has at least one column"),
        (lambda: table((9, 1)), "a column has 9 rows, but the ids need 10"),
        (lambda: table((10, 1), (4, 2)), "a column has 8 rows, but the ids need 10"),
    ],
)
def test_messages_name_what_was_found(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert str(error.value) == message


def test_columns_may_have_more_rows_than_the_ids_need():
    assert len(table((10, 1), (11, 1), (5, 2), (9, 9)).columns) == 4


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Grid(0), "base"),
        (Extent("f", 0, 3), "rows"),
        (Column((), 8), "record_bytes"),
        (lay_out(Column((), 8)), "grid"),
        (table((10, 1)), "numbering"),
    ],
)
def test_all_values_are_frozen_and_slotted(value, field):
    with pytest.raises(AttributeError):
        setattr(value, field, None)
    assert not hasattr(value, "__dict__")


def test_a_record_stands_for_one_row_by_default():
    assert Column((), 8).rows_per_record == 1
    assert Column((Extent("a", 0, 3), Extent("", 0, 2)), 8).rows == 5
    assert Column((Extent("a", 0, 3), Extent("", 0, 2)), 8).stored_bytes == 24
