"""Residency of a store in RAM: preload, resident limit, prefetch, and the statistics."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.reading import residence, workers
from embstore.reading.mapped import MappedRecords
from embstore.reading.mapping import AddressSpace
from embstore.reading.resident_limit import resident_file_bytes
from embstore.reading.slices import SliceGather
from embstore.syscalls import huge_mapped_bytes
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES

ROWS, DIMENSION = 200_000, 256
ROW_BYTES = DIMENSION * 4
# More ids than the short path takes: it does not ask the kernel for the reads that it causes.
MANY = 1000


def expected_rows(ids: np.ndarray) -> np.ndarray:
    """Return the rows that `big_store` has at ``ids``."""
    return ids[:, np.newaxis].astype(np.float32) + np.arange(DIMENSION, dtype=np.float32)


@pytest.fixture(scope="module")
def big_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 200 MB, over two partitions."""
    path = tmp_path_factory.mktemp("residence") / "big.embstore"
    with embstore.StoreWriter(
        path, row_shape=(DIMENSION,), dtype="float32", partitions=2, rows=ROWS
    ) as writer:
        for start in range(0, ROWS, 20_000):
            writer.write(expected_rows(np.arange(start, start + 20_000)))
    return path


def chill(path: Path) -> None:
    """Drop the chunk files of a store from the page cache."""
    for file in path.rglob("c/*/*"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fdatasync(descriptor)  # Only what is on disk can be dropped.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def cached_share(store: embstore.EmbeddingStore, ids: np.ndarray) -> float:
    """Return the share of rows whose first page is in the page cache, 0 to 1."""
    records = store._records
    assert isinstance(records, MappedRecords)
    space, found = records._space, ctypes.c_ubyte()
    libc = ctypes.CDLL(None)
    libc.mincore.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    cached = 0
    for address in records.addresses.of(store._numbering.rows_of(ids)).tolist():
        page = space.address + address // PAGE_BYTES * PAGE_BYTES
        assert libc.mincore(page, PAGE_BYTES, ctypes.byref(found)) == 0
        cached += found.value & 1
    return cached / len(ids)


def free_huge_pages_bytes() -> int:
    """Return the bytes of free memory in pieces of 2 MiB or more."""
    free = 0
    for line in Path("/proc/buddyinfo").read_text().splitlines():
        counts = map(int, line.split()[4:])
        free += sum(PAGE_BYTES * n << order for order, n in enumerate(counts) if order >= 9)
    return free


def device_reads_are_counted(path: Path) -> bool:
    """Return whether reading a cold row moves the kernel's counter (on tmpfs it does not)."""
    for _ in range(10):  # Reads of an earlier test may still be in flight.
        chill(path)
        with embstore.open(path) as store:
            store.lookup([0] * MANY)
            if store.stats().bytes_read:
                return True
        time.sleep(0.2)
    return False


def test_preload_gives_the_rows_and_reports_progress(big_store: Path) -> None:
    seen: list[embstore.Progress] = []
    with embstore.open(big_store, preload=True, progress=seen.append) as store:
        ids = np.random.default_rng(0).integers(0, ROWS, 1000)
        np.testing.assert_array_equal(store.lookup(ids), expected_rows(ids))
        assert store.stats().bytes_read == 0
    assert seen[-1].done_bytes == seen[-1].total_bytes >= ROWS * ROW_BYTES


def test_preload_maps_huge_pages(big_store: Path) -> None:
    script = f"""
    import embstore
    from embstore.syscalls import huge_mapped_bytes
    store = embstore.open({str(big_store)!r}, preload=True)
    space = store._records._space
    print(huge_mapped_bytes(space.address, len(space.data)) or 0)
    """
    size = ROWS * ROW_BYTES
    scarce = Path("/proc/buddyinfo").exists() and free_huge_pages_bytes() < 4 * size
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    if int(done.stdout) == 0:
        pytest.skip("this kernel and file system do not map files by huge pages")
    if int(done.stdout) <= 0.9 * size and scarce:
        pytest.skip("the free memory of this machine is in small pieces")
    assert int(done.stdout) > 0.9 * size


def test_preload_removes_its_advice(big_store: Path) -> None:
    """After a preload, a row that has become cold must not read 2 MiB."""
    if not device_reads_are_counted(big_store):
        pytest.skip("this file system does not count reads")
    with embstore.open(big_store, preload=True) as store:
        space = store._records._space  # type: ignore[union-attr]
        space.advise(0, len(space.data), 4)  # MADV_DONTNEED
        chill(big_store)
        before = store.stats().bytes_read
        store.lookup([ROWS // 2] * MANY)
        assert 0 < store.stats().bytes_read - before <= 16 << 10


def test_without_a_limit_the_mapping_grows(big_store: Path) -> None:
    """The growth that the next test limits does happen without a limit."""
    for file in big_store.rglob("c/*/*"):
        file.read_bytes()  # Or a slow disk takes so long that the first pages are evicted.
    with embstore.open(big_store) as store:
        before = resident_file_bytes()
        store.lookup(np.arange(ROWS))
        assert resident_file_bytes() - before > 150 << 20


def resident_bytes(store: embstore.EmbeddingStore) -> int:
    """Return the resident bytes of a store's mapping, without the process's other mappings."""
    space = store._records._space  # type: ignore[union-attr]
    first, last = space.address // PAGE_BYTES, -(-(space.address + len(space.data)) // PAGE_BYTES)
    pages = np.fromfile("/proc/self/pagemap", "<u8", last - first, offset=8 * first)
    return int(np.count_nonzero(pages >> np.uint64(63))) * PAGE_BYTES  # Bit 63: in RAM.


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="shows no pages")
def test_resident_limit_is_kept(big_store: Path) -> None:
    limit = 64 << 20
    with embstore.open(big_store, resident_limit="64MiB") as store:
        store[5]
        assert resident_bytes(store) > 0
        highest = (
            0  # It stays 0 if each lookup maps so much that everything is unmapped at its end.
        )
        generator = np.random.default_rng(1)
        for _ in range(200):
            ids = generator.integers(0, ROWS, 500)
            np.testing.assert_array_equal(store.lookup(ids), expected_rows(ids))
            highest = max(highest, resident_bytes(store))
        assert highest <= limit


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="shows no pages")
def test_resident_limit_is_kept_during_a_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread gathers thousands of short rows before it looks; each may map 64 KiB."""
    rows = np.random.default_rng(0).integers(0, 255, (1 << 20, 128), np.uint8)
    path = tmp_path / "short.embstore"
    embstore.build(rows, path).close()
    calls, seen = count(), [0]
    whole = SliceGather._take

    def take(self: SliceGather, *some: Any, **options: Any) -> None:
        whole(self, *some, **options)
        if next(calls) % 16 == 0:
            seen.append(resident_bytes(store))

    ids = np.random.default_rng(1).integers(0, len(rows), 4000)
    with embstore.open(path, resident_limit="64MiB") as store:
        monkeypatch.setattr(SliceGather, "_take", take)
        np.testing.assert_array_equal(store.lookup(ids), rows[ids])
    assert 0 < max(seen) <= 64 << 20


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="shows no pages")
def test_resident_limit_is_kept_when_another_store_is_closed(big_store: Path) -> None:
    other = embstore.open(big_store, preload=True)
    with embstore.open(big_store, resident_limit="64MiB") as store:
        other.close()
        highest = 0
        for start in range(0, ROWS, 500):
            store.lookup(np.arange(start, start + 500))
            highest = max(highest, resident_bytes(store))
    assert highest <= 64 << 20


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="shows no pages")
def test_resident_limit_holds_after_a_preload(big_store: Path) -> None:
    with embstore.open(big_store, resident_limit="64MiB", preload=True) as store:
        assert resident_bytes(store) <= 64 << 20


def test_wrong_resident_limits_are_refused(big_store: Path) -> None:
    with pytest.raises(ValueError, match="64MiB or more"):
        embstore.open(big_store, resident_limit=0)
    with pytest.raises(ValueError, match="64MiB or more"):
        embstore.open(big_store, resident_limit=HUGE_PAGE_BYTES)
    with pytest.raises(ValueError, match="2GiB"):
        embstore.open(big_store, resident_limit="two")


def test_prefetched_rows_are_not_read_again(big_store: Path) -> None:
    if not device_reads_are_counted(big_store):
        pytest.skip("this file system does not count reads")
    chill(big_store)
    ids = np.random.default_rng(2).integers(0, ROWS, 2000)
    with embstore.open(big_store) as store:
        store.prefetch(ids)
        for _ in range(3000):
            if cached_share(store, ids) > 0.95:
                break
            time.sleep(0.02)
        np.testing.assert_array_equal(store.lookup(ids), expected_rows(ids))
        # Some kernels soon reclaim pages that no process has mapped yet (DAMON).
        stats = store.stats()
        assert stats.bytes_read < stats.bytes_needed / 10


@pytest.mark.parametrize("ids", [[], 5, [[1, 2], [3, 3]]])
def test_prefetch_takes_ids_of_any_shape(big_store: Path, ids: object) -> None:
    with embstore.open(big_store) as store:
        store.prefetch(ids)  # type: ignore[arg-type]
        with pytest.raises(embstore.IdRangeError):
            store.prefetch([ROWS])


def test_cold_rows_mixed_with_warm_ones(big_store: Path) -> None:
    if not device_reads_are_counted(big_store):
        pytest.skip("this file system does not count reads")
    chill(big_store)
    generator = np.random.default_rng(3)
    with embstore.open(big_store) as store:
        for _ in range(4):
            ids = generator.permutation(
                np.concatenate([np.arange(3000), generator.integers(0, ROWS, 3000)])
            )
            np.testing.assert_array_equal(store.lookup(ids), expected_rows(ids))
        assert store.stats().cold_slices > 0


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
def test_stats_count_lookups(words_store: Path, reader: str) -> None:
    with embstore.open(words_store, reader=reader) as store:  # type: ignore[arg-type]
        store.lookup([[0, 5], [7, 7]])
        store["like"]
        store[3]
        stats = store.stats()
    assert (stats.lookups, stats.rows, stats.bytes_needed) == (3, 6, 6 * 32)
    assert stats.cold_slices + stats.warm_slices >= 3
    assert stats.seconds > 0


def test_stats_count_reads_from_the_device(big_store: Path) -> None:
    if not device_reads_are_counted(big_store):
        pytest.skip("this file system does not count reads")
    chill(big_store)
    with embstore.open(big_store) as store:
        ids = np.arange(0, ROWS, 100)
        store.lookup(ids)
        cold = store.stats()
        assert cold.bytes_read >= len(ids) * ROW_BYTES
        store.lookup(ids)
        # The kernel may have reclaimed some pages.
        assert store.stats().bytes_read - cold.bytes_read < cold.bytes_read / 10
        assert store.stats().warm_slices > cold.warm_slices


def test_huge_mapped_bytes_are_those_that_the_kernel_lists(big_store: Path) -> None:
    with embstore.open(big_store, preload=True) as store:
        space = store._records._space  # type: ignore[union-attr]
        found = huge_mapped_bytes(space.address, len(space.data))
        if found is None:
            pytest.skip("this kernel does not tell it for a range")
        listed, inside = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            first, _, rest = line.partition(" ")
            if not first.endswith(":"):
                begin = int(first.partition("-")[0], 16)
                inside = space.address <= begin < space.address + len(space.data)
            elif inside and first == "FilePmdMapped:":
                listed += int(rest.split()[0]) << 10
        assert found == listed


def test_preload_of_files_in_small_pages_reads_them_again(big_store: Path) -> None:
    files = [path for path in big_store.rglob("*") if path.is_file()]
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for start in range(0, path.stat().st_size, 4096):
                os.pread(file.fileno(), 4096, start)
    ids = np.random.default_rng(0).integers(0, ROWS, 1000)
    with embstore.open(big_store, preload=True) as store:
        np.testing.assert_array_equal(store.lookup(ids), expected_rows(ids))
        space = store._records._space  # type: ignore[union-attr]
        huge_bytes = huge_mapped_bytes(space.address, len(space.data)) or 0
    if not huge_bytes or free_huge_pages_bytes() < 4 * ROWS * ROW_BYTES:
        pytest.skip("this kernel and file system do not map these files by huge pages")
    assert huge_bytes > 0.9 * ROWS * ROW_BYTES


@pytest.mark.parametrize("helped", [True, False])
@pytest.mark.parametrize("small_after", [0, 1])
def test_each_file_is_dropped_once(
    big_store: Path, monkeypatch: pytest.MonkeyPatch, helped: bool, small_after: int
) -> None:
    """By a helper or not; and none after the first that is still in small pages."""
    seen: dict[str, int] = {}
    dropped: list[str] = []

    def in_small_pages(space: Any, file: Any) -> bool:
        seen[file.name] = seen.get(file.name, 0) + 1
        return seen[file.name] == 1 or bool(small_after)

    def drop(space: Any, file: Any) -> None:
        dropped.append(file.name)

    monkeypatch.setattr(residence, "_in_small_pages", in_small_pages)
    monkeypatch.setattr(AddressSpace, "drop_cache", drop)
    if not helped:
        monkeypatch.setattr(workers, "together", lambda works, stop: [works[0]()])
    with embstore.open(big_store, preload=True) as store:
        records = store._records
        assert isinstance(records, MappedRecords)
        names = [file.name for file in records._space.files]
        np.testing.assert_array_equal(store[:5], expected_rows(np.arange(5)))
    assert len(names) > 2
    assert dropped == (names[:1] if small_after else names)
