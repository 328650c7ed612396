"""The growth of chunks: when an append makes them larger, and how large.

A table that grows by appends keeps its ``chunk_rows``, so that whole chunks are linked. A small
table that becomes a large one would so end as very many small files. Therefore ``chunk_rows`` is
doubled, and the table rewritten, if all of this is true:

* there would be more than 64 chunks, and more than one in each partition;
* a chunk has less than 16 MiB, or there would be more than 2**15 chunks, each of which takes a
  mapping;
* there are at least twice as many as after the last rewrite, so the work of all rewrites together
  is a small multiple of the table.

It is doubled until one of the first two is false.
"""

from __future__ import annotations

from typing import Final

from embstore.formats.own import spec

FEW_CHUNKS: Final = 64
LARGE_CHUNK_BYTES: Final = 16 << 20
STREAM_TIMES: Final = 16


def chunk_count(rows: int, partition_count: int, chunk_rows: int) -> int:
    """Return the chunks of a table, whose partitions differ by at most one row.

    Examples
    --------
    >>> chunk_count(10, 4, 2)  # Partitions of 3, 3, 2 and 2 rows.
    6
    """
    base, extra = divmod(rows, partition_count)
    longer, shorter = -(-(base + 1) // chunk_rows), -(-base // chunk_rows)
    return extra * longer + (partition_count - extra) * shorter


def grown_chunk_rows(
    rows: int, partition_count: int, chunk_rows: int, row_bytes: int, chunks_at_rewrite: int
) -> int:
    """Return the rows in a chunk after an append, ``chunk_rows`` where it stays.

    Parameters
    ----------
    rows : int
        Rows of the table after the append.
    partition_count, chunk_rows : int
        Of the table before it.
    row_bytes : int
        Bytes of a stored row.
    chunks_at_rewrite : int
        How many chunks the table had when all of them were last written.

    Examples
    --------
    >>> grown_chunk_rows(10_000, 1, 128, 1200, 39)
    256
    >>> grown_chunk_rows(10_000, 1, 128, 1200, 40)  # 79 chunks are not twice as many.
    128
    """
    count = chunk_count(rows, partition_count, chunk_rows)
    if count < 2 * max(chunks_at_rewrite, 1):
        return chunk_rows
    while count > max(FEW_CHUNKS, partition_count) and (
        chunk_rows * row_bytes < LARGE_CHUNK_BYTES or count > spec.MOST_CHUNKS
    ):
        chunk_rows *= 2
        count = chunk_count(rows, partition_count, chunk_rows)
    return chunk_rows


def assumed_rows(rows: int, appended: int) -> int:
    """Return a number of rows after a stream that is long, but does not tell how long.

    The rows that have come by then usually fill 64 MiB. The number is so large that chunks, if they
    grow at all, become large.

    Parameters
    ----------
    rows : int
        Rows before.
    appended : int
        Those that have come so far.

    Examples
    --------
    >>> assumed_rows(100, 1000)
    16100
    """
    return min(rows + STREAM_TIMES * appended, spec.MAX_ROWS)
