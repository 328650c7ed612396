"""Resources of the system: given back after use, and a clear error when they run out.

1. Opening, looking up and closing, again and again, leaves no descriptor, mapping or thread.
2. A thousand stores are open at once, and each gives its rows.
3. With 64 descriptors, a store of more chunk files than that is written, opened, looked up in and
   verified.
4. A process that runs out of mappings (``vm.max_map_count``) gets a `StoreMappingError` if it asks
   for one, else a store that is read file by file; its open stores still give rows, and closing
   some makes room again. Where the limit is too high to be reached in reasonable time, this part is
   skipped, and the outcome says so.

The last two run in processes of their own, because limits are for a whole process.
"""

from __future__ import annotations

import mmap
import resource
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import embstore
from tests.campaigns.processes import in_spawned

if TYPE_CHECKING:
    from embstore.opener import ReaderName

COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Size:
    """Cycles of open and close, stores to open at once, chunk files of a large store.

    ``free`` is the number of mappings left for stores.
    """

    cycles: int
    stores: int
    chunks: int
    free: int


SMALL = Size(cycles=60, stores=40, chunks=200, free=4000)
FULL = Size(cycles=10_000, stores=1000, chunks=3000, free=1 << 16)
# Linux allows 65,530, some distributions 1,048,576, and a few the largest number there is.
MAX_MAPPINGS = 1 << 20


def run(folder: Path, seed: int, size: Size) -> str:
    """Run all parts; return how much was done. Nothing here is random."""
    path = folder / "t.embstore"
    _write(path, rows=500, chunk_rows=32)
    _cycles(path, size.cycles)
    _many_at_once(path, size.stores)
    large = folder / "large.embstore"
    _write(large, rows=size.chunks, chunk_rows=1)
    few = in_spawned(_few_descriptors, folder / "few.embstore")
    maps = in_spawned(_mappings_run_out, large, size.free)
    return (
        f"{size.cycles} cycles without a leak, {size.stores} stores open at once, {few}, {maps} "
        f"(seed {seed} unused)"
    )


def _table(rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.arange(rows * COLUMNS, dtype=np.float32).reshape(rows, COLUMNS)


def _write(path: Path, rows: int, chunk_rows: int) -> None:
    with embstore.StoreWriter(
        path, row_shape=(COLUMNS,), dtype="float32", partitions=3, chunk_rows=chunk_rows
    ) as writer:
        writer.write(_table(rows), [f"w{number}" for number in range(rows)])


def _held() -> tuple[int, int, int]:
    """Return the numbers of descriptors, mappings and threads of this process."""
    mappings = Path("/proc/self/maps").read_text().count(".embstore")
    # Helper threads of large lookups stay once started.
    threads = [t for t in threading.enumerate() if not t.name.startswith("embstore_")]
    return len(list(Path("/proc/self/fd").iterdir())), mappings, len(threads)


def _check_held(before: tuple[int, int, int]) -> None:
    """Raise if more is held than before, after time for running prefetches to end."""
    for _ in range(2000):
        if all(now <= then for now, then in zip(_held(), before, strict=True)):
            return
        time.sleep(0.05)
    raise AssertionError(f"descriptors, mappings, threads: {before} grew to {_held()}")


def _cycles(path: Path, count: int) -> None:
    table = _table(500)
    ids = np.arange(499, 0, -5)
    before = _held()
    for cycle in range(count):
        with embstore.open(path, resident_limit="64MiB" if cycle % 3 == 0 else None) as store:
            if not np.array_equal(store.lookup(ids), table[ids]) or store.ids("w7") != 7:
                raise AssertionError("wrong rows")
            store.prefetch(ids)
        del store
    _check_held(before)


def _many_at_once(path: Path, count: int) -> None:
    table = _table(500)
    before = _held()
    stores = [embstore.open(path) for _ in range(count)]
    _check_held((before[0], _held()[1], before[2]))  # Mappings are what an open store has.
    for number, store in enumerate(stores):
        if not np.array_equal(store[number % 500], table[number % 500]):
            raise AssertionError("wrong rows")
    for store in stores:
        store.close()
    stores.clear()
    del store
    _check_held(before)


def _few_descriptors(path: Path) -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    _write(path, rows=400, chunk_rows=1)
    readers: tuple[ReaderName, ...] = ("mapped", "chunked")
    for reader in readers:
        with embstore.open(path, reader=reader) as store:
            if not np.array_equal(store[:200], _table(400)[:200]):
                raise AssertionError("wrong rows")
    if not embstore.verify(path).ok:
        raise AssertionError("verify finds problems")
    return "64 descriptors for 400 chunk files"


def hold_mappings(free: int) -> list[mmap.mmap]:
    """Return mappings, so many that about ``free`` are left to this process."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    used = Path("/proc/self/maps").read_text().count("\n")
    # The kernel would merge neighbours of the same protection.
    return [
        mmap.mmap(
            *(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
            mmap.PROT_READ | (mmap.PROT_WRITE if number % 2 else 0),
        )
        for number in range(limit - free - used)
    ]


def _mappings_run_out(path: Path, free: int) -> str:
    where = Path("/proc/sys/vm/max_map_count")
    limit = int(where.read_text()) if where.exists() else sys.maxsize
    if limit > MAX_MAPPINGS:
        return "too many mappings to run out of here"
    held = hold_mappings(free)
    stores: list[embstore.EmbeddingStore] = []
    rows = len(embstore.open(path))
    try:
        while len(stores) * rows <= limit + rows:
            stores.append(embstore.open(path, reader="mapped"))
    except embstore.StoreMappingError as error:
        message = str(error)
    else:
        raise AssertionError(f"{len(stores)} stores of {rows} chunk files were mapped")
    if "max_map_count" not in message or 'reader="chunked"' not in message:
        raise AssertionError(f"the error does not say what to do: {message}")
    for store in stores:
        if not np.array_equal(store[:5], _table(5)):
            raise AssertionError("wrong rows")
    count = len(stores)
    with embstore.open(path) as read:
        if read.mapped or not np.array_equal(read[:5], _table(5)) or read.ids("w7") != 7:
            raise AssertionError("wrong rows without a mapping")
    stores.pop().close()
    del store
    with embstore.open(path, reader="mapped") as again:
        if not np.array_equal(again[:5], _table(5)):
            raise AssertionError("wrong rows")
    return (
        f"a clear error after {count} stores of {rows} chunk files and {len(held)} mappings "
        f"(the limit is {limit})"
    )
