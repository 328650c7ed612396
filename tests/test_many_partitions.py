"""Tables of many short partitions: right rows, and no work for each partition of each block."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore import syscalls
from embstore.reading.consecutive import are_scattered, window_rows
from embstore.reading.mapped import MappedRecords
from embstore.reading.ranged import RangedRecords
from embstore.row_blocks import row_blocks
from embstore.table.numbering import Numbering
from embstore.writing.arrays import ArrayWriter
from embstore.writing.collected_rows import CollectedRows
from embstore.writing.disk import files

STRATEGIES: list[Any] = ["mod", "div"]
WORDS = [f"word {number}" for number in range(3000)]
# Partitions, rows, the shape of a row, and options of the build.
CASES: list[tuple[int, int, tuple[int, ...], dict[str, Any]]] = [
    (1, 3000, (4,), {}),
    (2, 3000, (3,), {}),
    (7, 3000, (), {}),
    (300, 3000, (2, 3), {}),
    (300, 299, (), {}),
    (300, 301, (1, 2, 2), {}),
    (300, 1, (5,), {}),
    (300, 0, (5,), {}),
    (40, 3000, (16,), {"compression": "zstd"}),
    (40, 3000, (16,), {"encoding": "int8"}),
    (40, 3000, (16,), {"encoding": "int8:8", "compression": "zstd"}),
    (100, 3000, (4,), {"words": WORDS}),
    (1100, 1500, (2,), {}),  # More than files that are open at a time.
]


def made(count: int, shape: tuple[int, ...], seed: int = 3) -> Any:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def gathered(store: embstore.EmbeddingStore, start: int = 0, stop: int | None = None) -> Any:
    """Return rows as a scan passes them on."""
    rows = np.full(store.shape, np.nan, store.dtype)

    def visit(ids: range, block: Any) -> None:
        assert not block.flags.writeable
        assert np.isnan(rows[ids.start : ids.stop : ids.step]).all()
        rows[ids.start : ids.stop : ids.step] = block

    store.scan(visit, start, stop)
    return rows[start:stop]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("count", "rows", "shape", "options"), CASES)
def test_every_walk_gives_the_rows_in_order(tmp_path, strategy, count, rows, shape, options):
    given = made(rows, shape)
    path = tmp_path / "t.embstore"
    embstore.build(given, path, partitions=count, strategy=strategy, **options).close()
    embstore.verify(path)
    for reader in ("mapped", "chunked"):
        with embstore.open(path, reader=reader) as store:
            expected = store.lookup(np.arange(rows))
            if "encoding" not in options:
                np.testing.assert_array_equal(expected, given)
            np.testing.assert_array_equal(np.asarray(store), expected)
            np.testing.assert_array_equal(np.asarray(store, np.float64), expected)
            np.testing.assert_array_equal(gathered(store), expected)
            np.testing.assert_array_equal(gathered(store, rows // 3, rows), expected[rows // 3 :])
            if rows:
                np.testing.assert_array_equal(list(store), expected)
                np.testing.assert_array_equal(list(reversed(store)), expected[::-1])
            raw = [block.rows for block in row_blocks(store, 999, raw=True)]
            empty = np.empty((0, store.record_bytes), np.uint8)
            lookup = store.lookup(np.arange(rows), raw=True)
            np.testing.assert_array_equal(np.concatenate([empty, *raw]), lookup)
            if "encoding" not in options:
                embstore.export(store, tmp_path / f"{reader}.npy")
                np.testing.assert_array_equal(np.load(tmp_path / f"{reader}.npy"), expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("count", "rows", "shape", "options"), CASES[2:-1])
def test_repartition(tmp_path, strategy, count, rows, shape, options):
    given = made(rows, shape)
    with embstore.build(given, tmp_path / "one.embstore", **options) as one:
        expected = np.asarray(one)
        path = tmp_path / "many.embstore"
        kept = {"compression": options["compression"]} if "compression" in options else {}
        with embstore.build(one, path, partitions=count, strategy=strategy, **kept) as many:
            np.testing.assert_array_equal(np.asarray(many), expected)
            assert many.has_words == ("words" in options)
            other = embstore.build(many, tmp_path / "few.embstore", partitions=3, strategy="div")
            with other:
                np.testing.assert_array_equal(np.asarray(other), expected)
                assert other.encoding == one.encoding
                if "words" in options:
                    assert other.words([0, rows - 1]) == [WORDS[0], WORDS[rows - 1]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_mapped_walk_does_not_visit_each_partition_for_each_block(
    tmp_path, strategy, monkeypatch
):
    given = made(6000, (8,))
    scans: list[int] = []
    scan_ranges = MappedRecords.scan_ranges

    def counting(self: MappedRecords, ranges: Any, visit: Any) -> None:
        scans.append(len(ranges))
        scan_ranges(self, ranges, visit)

    path = tmp_path / "t.embstore"
    with embstore.build(given, path, partitions=500, strategy=strategy) as store:
        monkeypatch.setattr(MappedRecords, "scan_ranges", counting)
        blocks = list(row_blocks(store, 32 * 100))
        np.testing.assert_array_equal(np.concatenate([block.rows for block in blocks]), given)
        assert len(blocks) == 60
        np.testing.assert_array_equal(gathered(store), given)
        # A block of 100 consecutive ids is in 100 partitions, or in 9.
        assert sum(scans) == 0
        assert store.stats().lookups == 0
        assert store.stats().rows == 0


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_other_readers_read_several_blocks_at_a_time(tmp_path, compression, monkeypatch):
    given = made(6000, (8,))
    options = {"partitions": 50, "compression": compression}
    calls: list[int] = []
    with embstore.build(given, tmp_path / "t.embstore", **options) as store:
        store.close()
    with embstore.open(tmp_path / "t.embstore", reader="chunked") as store:
        records: Any = type(store._records)
        scan_ranges = records.scan_ranges

        def counting(self: Any, ranges: Any, visit: Any) -> None:
            calls.append(len(ranges))
            scan_ranges(self, ranges, visit)

        monkeypatch.setattr(records, "scan_ranges", counting)
        blocks = list(row_blocks(store, 32 * 100))
        np.testing.assert_array_equal(np.concatenate([block.rows for block in blocks]), given)
        assert [len(block.rows) for block in blocks] == [100] * 60
        # All at once: 50 partitions of 32 KiB are more than the table.
        assert sum(calls) == 50


@pytest.mark.parametrize(
    ("numbering", "start", "stop", "expected"),
    [
        (Numbering(1 << 20, 1), 0, 1 << 20, False),
        (Numbering(1 << 20, 2), 0, 1 << 20, False),
        (Numbering(1 << 20, 4096), 0, 1 << 20, True),
        (Numbering(1 << 20, 4096), 5, 6, False),
        (Numbering(1 << 20, 4096), 7, 7, False),
        (Numbering(1 << 20, 4096, "div"), 0, 1 << 20, True),
        (Numbering(1 << 20, 4096, "div"), 0, 256, False),
        (Numbering(1 << 20, 4096, "div"), 0, 257, True),
        (Numbering(0, 4096, "div"), 0, 0, False),
        (Numbering(3, 4096, "div"), 0, 3, True),
    ],
)
def test_scattered_ids(numbering, start, stop, expected):
    assert are_scattered(numbering, start, stop, 64) == expected


def test_long_rows_are_scanned():
    assert not are_scattered(Numbering(1 << 20, 4096), 0, 1 << 20, 128 << 10)


@pytest.mark.parametrize("rows", [0, 1, 1 << 20])
@pytest.mark.parametrize("count", [1, 2, 50, 1 << 14, 1 << 20])
@pytest.mark.parametrize("block_rows", [1, 100, 1 << 16])
def test_windows_are_whole_blocks_in_bounded_memory(rows, count, block_rows):
    found = window_rows(Numbering(rows, count), block_rows, 64)
    assert found % block_rows == 0
    assert block_rows <= found <= max((32 << 20) // 64, block_rows)
    if count == 1:
        assert found == block_rows


@pytest.mark.parametrize("block_rows", [1, 3, 10, 64])
def test_collected_rows(block_rows):
    sizes = [0, 1, 5, 2, 64, 0, 3, 10, 130, 1, 1]
    given = np.arange(2 * sum(sizes)).reshape(-1, 2)
    collected = CollectedRows((2,), given.dtype, block_rows)
    found: list[Any] = []
    start = 0
    for size in sizes:
        batch = given[start : start + size].copy()
        for rows, first in collected.add(batch, start):
            assert first == sum(len(some) for some in found)
            assert len(rows) == block_rows or rows is batch
            found.append(rows.copy())
        batch[...] = -1  # The caller may change it.
        start += size
    found += [rows.copy() for rows, _ in collected.rest()]
    assert list(collected.rest()) == []
    if block_rows > 1:
        np.testing.assert_array_equal(np.concatenate(found), given)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_build_does_not_split_each_batch_among_all_partitions(tmp_path, strategy, monkeypatch):
    given, appended = made(6000, (4,)), []
    append = ArrayWriter.append

    def counting(self: ArrayWriter, rows: Any, *, copy: bool = True) -> None:
        appended.append(len(rows))
        append(self, rows, copy=copy)

    monkeypatch.setattr(ArrayWriter, "append", counting)
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(
        path, row_shape=(4,), dtype="float32", partitions=100, strategy=strategy, rows=6000
    ) as writer:
        for start in range(0, 6000, 50):
            writer.write(given[start : start + 50])
    assert sum(appended) == 6000
    assert len(appended) <= 100 + 120  # A batch of `div` may end one partition and begin another.
    with embstore.open(path) as store:
        np.testing.assert_array_equal(np.asarray(store), given)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_flushes_do_not_grow_with_partitions(tmp_path, strategy, monkeypatch):
    flushes: list[int] = []
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", flushes.append)
    monkeypatch.setattr(syscalls, "can_sync", lambda _: True)
    monkeypatch.setattr(syscalls, "sync_file_system", syncs.append)
    monkeypatch.setattr(files, "_unwritten_bytes", lambda: 0)
    monkeypatch.setattr(files, "max_open_files", lambda: 128)
    embstore.build(
        made(2000, (4,)), tmp_path / "t.embstore", partitions=500, strategy=strategy
    ).close()
    # 500 chunks and 502 other files in batches of 128, and the directories.
    assert len(syncs) <= 10
    assert len(flushes) <= 2 * len(syncs) + 5


def test_each_partition_of_div_is_written_once(tmp_path, monkeypatch):
    """A partition is complete before the next one begins, so no file is opened again."""
    opened: list[Path] = []
    monkeypatch.setattr(files, "max_open_files", lambda: 4)
    monkeypatch.setattr(files, "reopen", opened.append)
    given = made(3000, (64,))
    options: dict[str, Any] = {"partitions": 20, "strategy": "div", "memory_limit": "3MiB"}
    with embstore.build(given, tmp_path / "t.embstore", **options) as store:
        np.testing.assert_array_equal(np.asarray(store), given)
    assert opened == []


def test_unchecked_ranges_are_not_read_for_each_block(tmp_path, monkeypatch):
    """The portable reader checks a whole chunk file for each range that it reads."""
    read: list[int] = []
    read_whole = RangedRecords._read_whole

    def counting(self: RangedRecords, number: int) -> bytes:
        read.append(number)
        return read_whole(self, number)

    monkeypatch.setattr(RangedRecords, "_read_whole", counting)
    given = made(4000, (8,))
    embstore.build(given, tmp_path / "t.embstore", partitions=40).close()
    with embstore.open(tmp_path / "t.embstore", reader="chunked") as store:
        blocks = list(row_blocks(store, 32 * 100))
        np.testing.assert_array_equal(np.concatenate([block.rows for block in blocks]), given)
    assert len(read) == len(set(read)) == 40
