"""The growth of chunks: when `chunk_rows` doubles, and how far."""

from __future__ import annotations

import pytest

from embstore.formats.own import spec
from embstore.table.numbering import Numbering
from embstore.writing.growth import (
    FEW_CHUNKS,
    LARGE_CHUNK_BYTES,
    assumed_rows,
    chunk_count,
    grown_chunk_rows,
)
from embstore.writing.memory import MAX_HELD_BYTES

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("rows", "partitions", "chunk_rows", "row_bytes", "before", "expected"),
    [
        (640, 1, 10, KIB, 1, 10),  # 64 chunks are few.
        (641, 1, 10, KIB, 1, 20),
        (641, 1, 10, KIB, 32, 20),  # 65 chunks, twice 32.
        (641, 1, 10, KIB, 33, 10),
        (641, 1, 10, KIB, 0, 20),  # The table had no rows.
        (10_000, 1, 10, KIB, 1, 160),  # As often as needed.
        (10_000, 1, 10, 16 * MIB // 10 + 1, 1, 10),  # A chunk has 16 MiB.
        (10_000, 1, 10, 16 * MIB // 10, 1, 20),  # A few bytes less.
        (100, 100, 10, KIB, 1, 10),  # One chunk in each partition.
        (2000, 100, 10, KIB, 100, 20),
        (2000, 100, 10, KIB, 101, 10),
        (0, 1, 1, KIB, 0, 1),
    ],
)
def test_chunk_rows_after_an_append(rows, partitions, chunk_rows, row_bytes, before, expected):
    assert grown_chunk_rows(rows, partitions, chunk_rows, row_bytes, before) == expected


@pytest.mark.parametrize("partitions", [1, 3, 64])
def test_count_of_chunks(partitions):
    for rows in (0, 1, 63, 64, 65, 1000):
        counts = Numbering(rows, partitions).row_counts()
        for chunk_rows in (1, 2, 16):
            expected = sum(-(-count // chunk_rows) for count in counts)
            assert chunk_count(rows, partitions, chunk_rows) == expected


@pytest.mark.parametrize("partitions", [1, 7])
@pytest.mark.parametrize("step", [1, 100, 10_000])
def test_a_table_that_grows_is_rewritten_rarely(partitions, step):
    rows, chunk_rows, row_bytes = 100, 4, 1200
    before = chunk_count(rows, partitions, chunk_rows)
    rewritten = 0
    for _ in range(2000):
        rows += step
        grown = grown_chunk_rows(rows, partitions, chunk_rows, row_bytes, before)
        if grown != chunk_rows:
            rewritten, chunk_rows = rewritten + rows, grown
            before = chunk_count(rows, partitions, chunk_rows)
        assert chunk_rows * row_bytes < 2 * LARGE_CHUNK_BYTES
        few = 2 * max(FEW_CHUNKS, partitions, before)
        is_large = chunk_rows * row_bytes >= LARGE_CHUNK_BYTES
        assert chunk_count(rows, partitions, chunk_rows) <= few or is_large
    assert rewritten <= 2 * rows


def test_a_long_stream_is_assumed_to_fill_large_chunks():
    row_bytes = 1200
    rows = assumed_rows(0, -(-MAX_HELD_BYTES // row_bytes))
    assert grown_chunk_rows(rows, 1, 1, row_bytes, 1) * row_bytes >= LARGE_CHUNK_BYTES
    assert assumed_rows(1000, 1 << 39) == spec.MAX_ROWS
