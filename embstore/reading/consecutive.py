"""Rows of consecutive ids in tables of many short partitions, gathered in the order of ids.

A scan passes rows on partition by partition, which costs some 20 us each, however short it is. So
where consecutive ids have only a few rows in each of many partitions, a mapped table is gathered as
by a lookup: that costs some 50 ns a row. Such reads are not counted as lookups.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.reading.encoded import EncodedRecords
from embstore.reading.mapped import MappedRecords

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.reading.forms import Form
    from embstore.table.numbering import Numbering

# With fewer rows and bytes of each partition, a gather is quicker than a scan.
SHORT_ROWS = 1024
SHORT_BYTES = 128 << 10
# Blocks that are gathered for a visitor.
GATHERED_BYTES = 8 << 20
# What readers without a mapping read at a time, at most, to get more of each partition.
WINDOW_BYTES = 32 << 20
# Of each partition then: as many rows as an inner chunk of a compressed store has.
PARTITION_BYTES = 32 << 10
# The ids that are numbered at once.
NUMBERED_IDS = 1 << 18


def are_scattered(numbering: Numbering, start: int, stop: int, row_bytes: int) -> bool:
    """Return whether the ids ``start .. stop - 1`` are a few rows each of several partitions.

    Examples
    --------
    >>> from embstore.table.numbering import Numbering
    >>> are_scattered(Numbering(1 << 20, 4096, "div"), 0, 1 << 16, row_bytes=64)
    True
    >>> are_scattered(Numbering(1 << 20, 4096, "div"), 0, 100, row_bytes=64)  # Of one partition.
    False
    """
    count = stop - start
    partitions = min(numbering.partition_count, count)
    if numbering.strategy == "div":
        longest = max(numbering.row_count(0), 1)
        partitions = min(partitions, -(-count // longest))
    short = min(SHORT_ROWS, SHORT_BYTES // max(row_bytes, 1))
    return partitions > 1 and count < partitions * short


def window_rows(numbering: Numbering, block_rows: int, row_bytes: int) -> int:
    """Return how many consecutive rows to read at a time without a mapping, ``block_rows`` or more.

    Such a reader reads, decodes or asks for some KiB of a partition for each of its rows. So with
    many partitions, several blocks are read at a time.

    Examples
    --------
    >>> from embstore.table.numbering import Numbering
    >>> window_rows(Numbering(1 << 30, 1), 1000, row_bytes=1024)
    1000
    >>> window_rows(Numbering(1 << 30, 1 << 14), 1000, row_bytes=1024)  # 32 MiB, whole blocks.
    32000
    """
    if not are_scattered(numbering, 0, min(block_rows, numbering.rows), row_bytes):
        return block_rows
    most_bytes = min(numbering.partition_count * PARTITION_BYTES, WINDOW_BYTES)
    return max(most_bytes // max(row_bytes, 1) // block_rows, 1) * block_rows


def row_bytes(form: Form) -> int:
    """Return the bytes of a row in a form."""
    return math.prod(form.row_shape) * form.dtype.itemsize


def is_gathered(form: Form, numbering: Numbering, start: int, stop: int) -> bool:
    """Return whether the rows of the ids ``start .. stop - 1`` should be gathered."""
    if not isinstance(form.records, MappedRecords | EncodedRecords) or not form.records.mapped:
        return False  # Other readers take a read or a request for each partition anyway.
    return are_scattered(numbering, start, stop, row_bytes(form))


def gather(form: Form, numbering: Numbering, start: int, out: NDArray[Any]) -> None:
    """Fill ``out`` with the rows of the ids from ``start`` on, where `is_gathered` says so."""
    records = form.records
    assert isinstance(records, MappedRecords | EncodedRecords)
    for first in range(0, len(out), NUMBERED_IDS):
        some = out[first : first + NUMBERED_IDS]
        ids = np.arange(start + first, start + first + len(some))
        records.fill(numbering.rows_of(ids), some)


def gathered_blocks(
    form: Form, numbering: Numbering, start: int, stop: int
) -> Iterator[tuple[range, NDArray[Any]]]:
    """Yield the rows of the ids ``start .. stop - 1`` in blocks, with their ids, as `gather`."""
    step = max(GATHERED_BYTES // max(row_bytes(form), 1), 1)
    for first in range(start, stop, step):
        ids = range(first, min(first + step, stop))
        rows = np.empty((len(ids), *form.row_shape), form.dtype)
        gather(form, numbering, first, rows)
        yield ids, rows
