"""Physical rows against a model that counts places one by one."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embstore.formats.own.manifest import Manifest
from embstore.table.numbering import (
    HUGE_PAGE_BYTES,
    MAX_ADDRESS_FACTOR,
    PhysicalRows,
    physical_rows,
)
from embstore.table.partitioning import Partitioning


@st.composite
def numberings(draw):
    partitioning = Partitioning(
        draw(st.integers(0, 80)), draw(st.integers(1, 12)), draw(st.sampled_from(["mod", "div"]))
    )
    chunk_rows = 1 << draw(st.integers(0, 5))
    return PhysicalRows(partitioning, chunk_rows, chunk_rows << draw(st.integers(0, 3)))


def model(numbering: PhysicalRows) -> dict[int, int]:
    """Return the physical row of each id: walk through all chunks, place after place."""
    found, place = {}, 0
    partitions = range(numbering.partitioning.partition_count)
    longest = max(numbering.partitioning.row_counts())
    for partition in partitions:
        ids = numbering.partitioning.ids_of(partition)
        for begin in range(0, longest, numbering.chunk_rows):
            for row, number in enumerate(ids[begin : begin + numbering.chunk_rows]):
                found[number] = place * numbering.stride_rows + row
            place += 1
    assert place == numbering.chunk_count
    return found


@given(numbering=numberings())
@settings(deadline=None)
def test_numbers_are_the_models(numbering):
    expected = model(numbering)
    ids = np.arange(numbering.partitioning.rows)
    assert numbering.number(ids).tolist() == [expected[i] for i in ids.tolist()]


@given(numbering=numberings())
@settings(deadline=None)
def test_sorting_sorts_by_partition_chunk_and_row(numbering):
    ids = np.arange(numbering.partitioning.rows)
    physical = numbering.number(ids)
    partition, row = numbering.partitioning.locate(ids)
    assert np.argsort(physical).tolist() == np.lexsort((row, partition)).tolist()
    for place, p, r in zip(
        (physical // numbering.stride_rows).tolist(), partition.tolist(), row.tolist(), strict=True
    ):
        assert numbering.chunk_at(place) == (p, r // numbering.chunk_rows)
        assert numbering.chunk_place(p, r // numbering.chunk_rows) == place
    assert (physical % numbering.stride_rows < numbering.chunk_rows).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 2), (1, 0, 4)])
def test_ids_keep_their_shape(shape):
    numbering = PhysicalRows(Partitioning(9, 4, "div"), 2, 4)
    assert numbering.number(np.zeros(shape, np.int64)).shape == shape


@given(
    rows=st.integers(0, 10**6),
    row_bytes=st.integers(1, 5000),
    count=st.integers(1, 64),
    chunk_power=st.integers(0, 20),
)
@settings(deadline=None)
def test_chunks_begin_on_pages(rows, row_bytes, count, chunk_power):
    manifest = Manifest(
        rows=rows,
        row_shape=(row_bytes,),
        dtype=np.dtype("uint8"),
        partition_count=count,
        strategy="mod",
        chunk_rows=1 << chunk_power,
    )
    numbering = physical_rows(manifest)
    stride_bytes = numbering.stride_rows * row_bytes
    assert numbering.chunk_rows == manifest.chunk_rows
    assert stride_bytes % mmap.PAGESIZE == 0
    size_bytes = numbering.chunk_count * stride_bytes
    if stride_bytes % HUGE_PAGE_BYTES:
        # Only where 2 MiB would have cost too much address space.
        bigger = numbering.stride_rows
        while bigger * row_bytes % HUGE_PAGE_BYTES:
            bigger *= 2
        stored = numbering.chunk_count * manifest.chunk_rows * row_bytes
        assert numbering.chunk_count * bigger * row_bytes > MAX_ADDRESS_FACTOR * stored
        assert numbering.chunk_count * bigger * row_bytes > 64 << 30
    assert size_bytes < 1 << 47  # The address space of a process.


@pytest.mark.parametrize(("chunk_rows", "stride_rows"), [(8, 4), (3, 8), (4, 12), (0, 4)])
def test_strides_that_cannot_be_are_refused(chunk_rows, stride_rows):
    with pytest.raises(ValueError, match="rows"):
        PhysicalRows(Partitioning(10, 2, "mod"), chunk_rows, stride_rows)
