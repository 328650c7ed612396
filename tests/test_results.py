"""Memory of results: it is reused when no reference to it is left, and never before."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import textwrap
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import embstore
from embstore.reading.results import (
    KEPT_COUNT,
    MAX_POOLED_BYTES,
    POOL,
    POOLED_BYTES,
    ResultPool,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (1024, 512)
FLOAT = np.dtype(np.float32)


class User:
    """A user of a pool."""


def address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


USER = User()


def used_pool() -> ResultPool:
    """Return a pool with a user."""
    pool = ResultPool()
    pool.join(USER)
    return pool


def test_freed_memory_is_reused():
    pool = used_pool()
    array = pool.empty((2000, 512), FLOAT)
    assert (array.shape, array.dtype) == ((2000, 512), FLOAT)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    first = address(array)
    del array
    smaller = pool.empty((1500, 512), FLOAT)
    assert address(smaller) == first
    del smaller
    # A result that would waste most of it does not get it.
    assert address(pool.empty((POOLED_BYTES,), np.dtype(np.uint8))) != first
    assert address(pool.empty((2000, 512), FLOAT)) == first


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array[5:7],
        lambda array: array[3],
        lambda array: array.reshape(-1)[10:20],
        lambda array: array.view(np.uint8)[:9],
        lambda array: array.T,
        memoryview,
        lambda array: np.asarray(memoryview(array))[2:4],
        lambda array: np.lib.stride_tricks.as_strided(array[1:3]),
        iter,
    ],
)
def test_memory_of_a_view_is_not_reused(keep: Callable[[NDArray[Any]], object]):
    pool = used_pool()
    array = pool.empty(SHAPE, FLOAT)
    first = address(array)
    kept = keep(array)
    del array
    gc.collect()
    others = [pool.empty(SHAPE, FLOAT) for _ in range(3)]
    assert first not in map(address, others)
    del kept, others
    gc.collect()


def test_closed_store_keeps_no_memory(words_store: Path):
    store = embstore.open(words_store)
    rows = store.lookup(np.zeros(POOLED_BYTES // 8, np.int64))
    owner: Any = rows.base
    assert owner is not None
    memory = weakref.ref(owner.base.obj)
    del rows, owner
    assert memory() is not None
    store.close()
    assert memory() is None


def test_two_freed_results_are_kept():
    pool = used_pool()
    arrays = [pool.empty(SHAPE, FLOAT) for _ in range(5)]
    addresses = {address(array) for array in arrays}
    assert len(addresses) == 5
    del arrays
    again = [pool.empty(SHAPE, FLOAT) for _ in range(5)]
    assert len(addresses & {address(array) for array in again[:KEPT_COUNT]}) == KEPT_COUNT


def test_kept_results_take_at_most_256_mib():
    pool = ResultPool()
    user = User()
    leave = pool.join(user)
    sizes = [MAX_POOLED_BYTES // 2, MAX_POOLED_BYTES // 2, MAX_POOLED_BYTES, POOLED_BYTES]
    for size in sizes:
        del_later = [pool.empty((size,), np.dtype(np.uint8)) for _ in range(2)]
        del del_later
        assert pool.kept_bytes <= MAX_POOLED_BYTES
    assert pool.kept_bytes > 0
    leave()
    assert pool.kept_bytes == 0


def test_nothing_is_kept_without_users():
    pool = ResultPool()
    one, other = User(), User()
    leave = pool.join(one)
    pool.join(other)
    array = pool.empty(SHAPE, FLOAT)
    del array
    assert pool.kept_bytes
    leave()
    leave()  # A second call does nothing.
    assert pool.kept_bytes
    del other  # Collected without a call.
    assert not pool.kept_bytes
    array = pool.empty(SHAPE, FLOAT)
    del array
    assert not pool.kept_bytes


def test_last_open_store_frees_the_shared_pool(tmp_path: Path):
    table = np.zeros((2000, 512), np.float32)
    stores = []
    for name in "ab":
        embstore.build(table, tmp_path / name).close()
        stores.append(embstore.open(tmp_path / name))
    for store in stores * 2:
        assert store.lookup(np.arange(2000)).shape == (2000, 512)
    assert 0 < POOL.kept_bytes <= MAX_POOLED_BYTES
    stores[0].close()
    assert POOL.kept_bytes
    stores[1].close()
    assert not POOL.kept_bytes


@pytest.mark.parametrize("dtype", ["float16", "int8", "float64", ml_dtypes.bfloat16])
def test_other_dtypes(dtype: Any):
    pool = ResultPool()
    for _ in range(2):
        array = pool.empty((1000, 2048), np.dtype(dtype))
        assert (array.dtype, array.shape) == (np.dtype(dtype), (1000, 2048))
        array[...] = 1
        del array


@pytest.mark.parametrize("size", [0, POOLED_BYTES - 1, MAX_POOLED_BYTES + 1])
def test_other_sizes_are_numpys(size: int):
    array = ResultPool().empty((size,), np.dtype(np.uint8))
    assert array.base is None


def test_lookups_from_many_threads_keep_their_rows(tmp_path: Path):
    table = np.random.default_rng(0).random((5000, 300), np.float32)
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(300,), dtype="float32") as writer:
        writer.write(table)

    def look_up(seed: int) -> bool:
        random = np.random.default_rng(seed)
        held: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
        for _ in range(30):
            ids = random.integers(0, 5000, int(random.integers(900, 4000)))
            rows = store.lookup(ids)
            held.append((ids[-100:], rows[-100:]))
            del held[: -int(random.integers(1, 5))]
            if not all(np.array_equal(some, table[which]) for which, some in held):
                return False
        return True

    with embstore.open(path) as store, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(look_up, range(16)))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is measured")
def test_small_results_are_not_faulted_in_each_time(tmp_path):
    """Without the pool's remedy, each of these lookups takes some 75 page faults."""
    embstore.build(np.zeros((256, 300), np.float32), tmp_path / "s.embstore").close()
    code = """
        import resource, sys
        import embstore

        def faults():
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

        with embstore.open(sys.argv[1]) as store:
            kept = [store.lookup(range(256)) for _ in range(16)]
            del kept
            before = faults()
            for _ in range(20):
                kept = [store.lookup(range(256)) for _ in range(8)]
                del kept
            print(faults() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "s.embstore")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 1600
