"""The sizes of the work: in seconds, as a test runs it; in minutes; and in full."""

from __future__ import annotations

from dataclasses import dataclass

MIB, GIB = 1 << 20, 1 << 30
TB = 10**12


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of all work; by default those that take some minutes.

    Attributes
    ----------
    rounds : int
        How many turns each way takes.
    preload_bytes, preload_chunks : tuple of int
        Sizes of tables; and numbers of chunks, of a table of the first of these sizes.
    words, words_memory : tuple of int, int
        Numbers of words, and the ``memory_limit`` that building them has.
    lmdb_words : int
        The most words that LMDB gets.
    range_row_bytes, range_bytes : tuple of int, int
        Sizes of a row, and the size of the table.
    mapped_bytes, chunks, mapped_partitions : tuple of int
        Sizes of tables of sparse files; numbers of small chunks; numbers of partitions.
    partitions, partitioned_rows : tuple of int, int
        Numbers of partitions, and of rows of 64 bytes.
    threads, thread_seconds : tuple of int, float
        Numbers of threads, and for how long they run.
    limits, limited_bytes : tuple of int, int
        Resident limits, and the size of the table.
    tables : tuple of int
        Numbers of tables that are asked at once.
    call_rows, calls : int
        The rows of a table; and how often calls of each kind are timed.
    """

    rounds: int = 3
    preload_bytes: tuple[int, ...] = (256 * MIB, 512 * MIB, GIB)
    preload_chunks: tuple[int, ...] = (4, 16, 64)
    words: tuple[int, ...] = (300_000, 1_000_000, 3_000_000)
    words_memory: int = 64 * MIB
    lmdb_words: int = 3_000_000
    range_row_bytes: tuple[int, ...] = (16, 64, 160, 512)
    range_bytes: int = 64 * MIB
    mapped_bytes: tuple[int, ...] = (TB // 10, TB // 3, TB)
    chunks: tuple[int, ...] = (500, 2_000, 8_000)
    mapped_partitions: tuple[int, ...] = (250, 1_000, 4_000)
    partitions: tuple[int, ...] = (64, 512, 4_096)
    partitioned_rows: int = 500_000
    threads: tuple[int, ...] = (1, 4, 32)
    thread_seconds: float = 0.5
    limits: tuple[int, ...] = (64 * MIB, 128 * MIB, 256 * MIB)
    limited_bytes: int = 640_000_000
    tables: tuple[int, ...] = (4, 26, 100)
    call_rows: int = 200_000
    calls: int = 300


USUAL = Sizes()
FULL = Sizes(
    rounds=3,
    preload_bytes=(2 * GIB, 4 * GIB, 8 * GIB),
    preload_chunks=(32, 128, 512),
    words=(1_000_000, 10_000_000, 50_000_000),
    words_memory=GIB,
    lmdb_words=10_000_000,
    range_bytes=256 * MIB,
    mapped_bytes=(TB, 3 * TB, 10 * TB),
    chunks=(4_000, 16_000, 60_000),
    mapped_partitions=(2_000, 8_000, 33_000),
    partitions=(256, 4_096, 16_384),
    partitioned_rows=2_000_000,
    thread_seconds=1.0,
    limits=(64 * MIB, 256 * MIB, GIB),
    calls=1_000,
)
SMALL = Sizes(
    rounds=1,
    preload_bytes=(MIB, 2 * MIB, 4 * MIB),
    preload_chunks=(1, 2, 4),
    words=(1_000, 4_000, 16_000),
    words_memory=MIB,
    lmdb_words=4_000,
    range_row_bytes=(16, 64, 160),
    range_bytes=MIB,
    mapped_bytes=(TB // 1000, TB // 500, TB // 250),
    chunks=(5, 20, 80),
    mapped_partitions=(5, 20, 80),
    partitions=(2, 4, 8),
    partitioned_rows=2_000,
    thread_seconds=0.02,
    limits=(64 * MIB, 128 * MIB, 256 * MIB),
    limited_bytes=16 * MIB,
    tables=(2, 4, 8),
    call_rows=2_000,
    calls=10,
)
