"""Submitted lookups and prefetched rows: futures, cancellation, threads, forks, the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.bench.state import evict, files_of
from embstore.reading import submitted
from embstore.reading.known_pages import MOST_MISSES, ROWS_PER_MISS, KnownPages
from embstore.reading.mapped import MappedRecords
from embstore.reading.read_ahead import CALLER_ROWS
from embstore.reading.stats import MAX_COLD_WAITS, NOTED_AT_ONCE, StatsCounter
from embstore.syscalls import MADV_DONTNEED
from embstore.table.addresses import PAGE_BYTES
from tests.helpers.programs import ROOT, environment, run_program, run_python
from tests.helpers.stores import make_store

TABLE = np.arange(3000 * 5, dtype=np.float32).reshape(3000, 5)
LONG_TABLE = np.arange(40 * 3000, dtype=np.float32).reshape(40, 3000)
SECONDS = 300  # The most to wait: a test must not fail because a machine is slow.

READERS: dict[str, dict[str, Any]] = {
    "mapped": {"reader": "mapped"},
    "chunked": {"reader": "chunked"},
    "limited": {"resident_limit": "64MiB"},
    "preloaded": {"preload": True},
    "cached": {"row_cache": "1MiB"},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("submit") / "t.embstore"
    make_store(path, TABLE, partitions=3, chunk_rows=64).close()
    return path


@pytest.fixture(params=READERS)
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[embstore.EmbeddingStore]:
    with embstore.open(path, **READERS[request.param]) as store:
        yield store


@contextmanager
def busy() -> Iterator[None]:
    """Keep the background thread waiting."""
    started, free = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        free.wait(SECONDS)

    submitted._background.get().submit(hold)
    assert started.wait(SECONDS)
    try:
        yield
    finally:
        free.set()


RANKS = {
    "scalar": 7,
    "numpy scalar": np.int32(7),
    "list": [5, 0, 2999],
    "empty list": [],
    "empty": np.zeros((3, 0, 2), np.int64),
    "nested": [[1, 2], [2, 1]],
    "three axes": np.arange(24).reshape(2, 3, 4),
    "uint64": np.array([3, 1], np.uint64),
    "int8": np.array([3, 1], np.int8),
    "strided": np.arange(3000)[::-7],
    "transposed": np.arange(20).reshape(4, 5).T,
    "many": np.random.default_rng(0).integers(0, 3000, 5000),
    "range": range(10),
}


@pytest.mark.parametrize("ids", RANKS.values(), ids=RANKS)
def test_same_as_lookup(store, ids):
    expected = TABLE[np.asarray(ids, np.int64)]
    out = np.full_like(expected, -1)
    for _ in range(3):  # The pages are known from the second time on.
        rows = store.submit(ids).result(SECONDS)
        assert type(rows) is np.ndarray
        assert rows.dtype == TABLE.dtype
        assert rows.shape == expected.shape
        assert np.array_equal(rows, expected)
        assert store.submit(ids, out).result(SECONDS) is out
        assert np.array_equal(out, expected)
        out[...] = -1
        assert store.prefetch(ids).wait(SECONDS)
        assert np.array_equal(store.lookup(ids), expected)


@pytest.mark.parametrize(
    "table",
    [LONG_TABLE, TABLE[:, 0], TABLE.reshape(1500, 2, 5)],
    ids=["long", "numbers", "matrices"],
)
def test_rows_of_any_shape(tmp_path, table):
    make_store(tmp_path / "s", table).close()
    np.save(tmp_path / "s.npy", table)
    ids = np.random.default_rng(0).integers(0, len(table), (100, 2))
    for name, options in itertools.product(("s", "s.npy"), READERS.values()):
        with embstore.open(tmp_path / name, **options) as store:
            assert store.prefetch(ids).wait(SECONDS)
            assert np.array_equal(store.submit(ids).result(SECONDS), table[ids])
            assert np.array_equal(store.submit(3).result(SECONDS), table[3])


BAD_IDS = {
    "negative": [1, -1],
    "too large": [[0], [3000]],
    "huge": [2**64],
    "float": [1.0],
    "bool": [True],
    "bool array": np.array([True]),
    "masked": np.ma.array([1, 2], mask=[False, True]),
    "word": "like",
    "ragged": [[1], [2, 3]],
    "none": None,
}


@pytest.mark.parametrize("ids", BAD_IDS.values(), ids=BAD_IDS)
def test_bad_ids_raise_at_once_as_in_lookup(store, ids):
    with pytest.raises((embstore.IdTypeError, embstore.IdRangeError)) as expected:
        store.lookup(ids)
    for call in (store.submit, store.prefetch):
        with pytest.raises(type(expected.value)) as found:
            call(ids)
        assert str(found.value) == str(expected.value)


def frozen() -> np.ndarray:
    array = np.zeros((2, 5), np.float32)
    array.flags.writeable = False
    return array


BAD_OUTS = {
    "shape": np.zeros((3, 5), np.float32),
    "flat": np.zeros(10, np.float32),
    "dtype": np.zeros((2, 5), np.float64),
    "order": np.zeros((5, 2), np.float32).T,
    "strided": np.zeros((4, 5), np.float32)[::2],
    "read-only": frozen(),
    "list": [[0.0] * 5] * 2,
}


@pytest.mark.parametrize("out", BAD_OUTS.values(), ids=BAD_OUTS)
def test_bad_out_raises_at_once_as_in_lookup(store, out):
    with pytest.raises((TypeError, ValueError)) as expected:
        store.lookup([1, 2], out=out)
    with pytest.raises(type(expected.value)) as found:
        store.submit([1, 2], out)
    assert str(found.value) == str(expected.value)


def test_ids_are_copied(store):
    ids = np.array([1, 2, 3])
    with busy():
        future, coming = store.submit(ids), store.prefetch(ids)
        ids[:] = 10**6
    assert np.array_equal(future.result(SECONDS), TABLE[[1, 2, 3]])
    assert coming.wait(SECONDS)


def test_out_may_be_a_tensor(store):
    torch = pytest.importorskip("torch")
    out = torch.zeros(2, 5)
    assert store.submit([1, 2], out).result(SECONDS) is out
    assert np.array_equal(out.numpy(), TABLE[[1, 2]])
    with pytest.raises(TypeError, match="dtype"):
        store.submit([1, 2], out.double())


def test_out_cannot_be_resized_meanwhile(store):
    out = np.zeros((2, 5), np.float32)
    with busy():
        future = store.submit([1, 2], out)
        with pytest.raises(ValueError, match="resize"):
            out.resize((200, 5))
    assert future.result(SECONDS) is out
    assert np.array_equal(out, TABLE[[1, 2]])


def test_out_may_overlap_ids(tmp_path):
    table = np.arange(30, dtype=np.int64).reshape(30, 1)[::-1]
    with make_store(tmp_path / "s", table) as store:
        ids = np.array([3, 1, 29])
        out = ids.reshape(3, 1)
        assert store.submit(ids, out).result(SECONDS) is out
        assert out[:, 0].tolist() == [26, 28, 0]


def test_it_is_a_future_of_concurrent_futures(store):
    futures = [store.submit([number]) for number in range(50)]
    assert all(isinstance(future, Future) for future in futures)
    finished = {future.result()[0, 0] for future in concurrent.futures.as_completed(futures)}
    assert finished == {number * 5.0 for number in range(50)}
    assert concurrent.futures.wait(futures, SECONDS).not_done == set()
    assert futures[0].done()
    assert futures[0].exception() is None
    assert not futures[0].cancel()


def test_asyncio(store):
    async def use() -> None:
        batches: list[Any] = [[1, 2], [[3]], 4]
        rows = await asyncio.gather(
            *(asyncio.wrap_future(store.submit(batch)) for batch in batches)
        )
        for batch, found in zip(batches, rows, strict=True):
            assert np.array_equal(found, TABLE[batch])
        with pytest.raises(embstore.IdRangeError):
            await asyncio.wrap_future(store.submit([3000]))

    asyncio.run(use())


def test_cancelled_futures_do_no_work(store):
    out = np.full((2, 5), -1, np.float32)
    with busy():
        cancelled, kept = store.submit([1, 2], out), store.submit([3])
        assert cancelled.cancel()
        assert cancelled.cancelled()
    assert np.array_equal(kept.result(SECONDS), TABLE[[3]])
    assert (out == -1).all()
    with pytest.raises(concurrent.futures.CancelledError):
        cancelled.result()


def test_cancelled_task_of_asyncio_cancels_the_lookup(store):
    out = np.full((2, 5), -1, np.float32)

    async def use() -> None:
        with busy():
            waiting = asyncio.wrap_future(store.submit([1, 2], out))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(waiting, 0.01)
        await asyncio.wrap_future(store.submit([3]))

    asyncio.run(use())
    assert (out == -1).all()


def test_pending_futures_of_a_closed_store_finish(store):
    with busy():
        futures = [store.submit([number] * 3) for number in range(20)]
        coming = store.prefetch(np.arange(3000))
        store.close()
        for call in (store.submit, store.prefetch):
            with pytest.raises(embstore.StoreClosedError):
                call([1])
    for number, future in enumerate(futures):
        assert np.array_equal(future.result(SECONDS), TABLE[[number] * 3])
    assert coming.wait(SECONDS)


def test_errors_of_reading_are_in_the_future(tmp_path):
    path = tmp_path / "t.embstore"
    make_store(path, TABLE).close()
    with embstore.open(path, reader="chunked") as store:
        make_store(path, TABLE[:10], overwrite=True).close()
        future = store.submit([1])
        assert isinstance(future.exception(SECONDS), embstore.StoreNotFoundError)
        with pytest.raises(embstore.StoreNotFoundError, match="was replaced or removed since"):
            future.result()


def test_thousands_of_pending_lookups(store):
    count = 5000 if store.mapped else 300
    futures = [store.submit([number % 3000, 1]) for number in range(count)]
    for number, future in enumerate(futures):
        assert future.result(SECONDS)[0, 0] == number % 3000 * 5


def test_many_threads(store):
    def use(seed: int) -> bool:
        random = np.random.default_rng(seed)
        ids = [random.integers(0, 3000, size) for size in random.integers(0, 400, 30)]
        futures = [store.submit(some) for some in ids]
        same = [
            np.array_equal(future.result(SECONDS), TABLE[some])
            for future, some in zip(futures, ids, strict=True)
        ]
        return all(same) and all(store.prefetch(some).wait(SECONDS) for some in ids)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))


def test_dropped_futures_keep_nothing(path):
    with embstore.open(path) as store:
        future = store.submit(np.arange(3000).repeat(100))  # A pooled result.
        rows = weakref.ref(future.result(SECONDS))
        future_alive = weakref.ref(future)
        del future
        store.submit([1]).result(SECONDS)  # The thread has turned to something else.
        gc.collect()
        assert rows() is None
        assert future_alive() is None
        for _ in range(100):
            store.submit([1])
            store.prefetch(np.arange(100))
        alive = weakref.ref(store)
    store.submit  # noqa: B018
    del store
    gc.collect()
    assert alive() is None


def test_failed_futures_keep_nothing(path, monkeypatch):
    with embstore.open(path) as store:
        monkeypatch.setattr(submitted, "_look_up", lambda *_: 1 / 0)
        future = store.submit([1])
        assert isinstance(future.exception(SECONDS), ZeroDivisionError)
        monkeypatch.undo()
        store.submit([1]).result(SECONDS)
        gc.disable()
        try:
            alive = weakref.ref(future)
            del future
            assert alive() is None  # Without a cycle through its traceback.
        finally:
            gc.enable()


def test_close_releases_the_mapping(path):
    store = embstore.open(path)
    batches: list[Any] = [[1], np.arange(3000)]
    kept = [store.prefetch(ids) for ids in batches]
    for ids, coming in zip(batches, kept, strict=True):
        store.submit(ids).result(SECONDS)
        assert coming.wait(SECONDS)
    store.submit([1]).result(SECONDS)
    alive = weakref.ref(store._records)
    gc.disable()
    try:
        store.close()
        assert alive() is None
        assert all(coming.done() for coming in kept)
    finally:
        gc.enable()


def test_wait_in_a_callback_is_an_error_and_not_a_deadlock(store):
    found: list[BaseException] = []

    def wait(_: object) -> None:
        try:
            later.result(SECONDS)
        except RuntimeError as error:
            found.append(error)

    with busy():
        store.submit([0]).add_done_callback(wait)
        later = store.submit([1])
    assert np.array_equal(later.result(SECONDS), TABLE[[1]])
    assert "call store.lookup" in str(found[0])


def test_callback_may_submit(store):
    rows: list[np.ndarray] = []
    done = threading.Event()

    def follow(future: Future[Any]) -> None:
        rows.append(future.result())
        if len(rows) < 2000:
            store.submit([len(rows)]).add_done_callback(follow)
        else:
            done.set()

    if store.mapped:
        store.submit([0]).add_done_callback(follow)
        assert done.wait(SECONDS)
        assert np.array_equal(np.concatenate(rows), TABLE[:2000])


def test_prefetch_with_few_and_many_unknown_rows(store):
    for count in (0, 1, CALLER_ROWS, CALLER_ROWS + 1, 3000):
        coming = store.prefetch(np.arange(count))
        assert coming.wait(SECONDS) is True
        assert coming.wait(0) is True
        assert coming.done() is True
    if not store.mapped:
        assert store.prefetch([1]).done()


def test_prefetch_times_out(path):
    free = threading.Event()
    with embstore.open(path) as store:
        coming = submitted.Prefetch([lambda: free.wait(SECONDS)], store._records.stats)  # type: ignore[union-attr, list-item]
        assert not coming.done()
        assert coming.wait(0) is False
        assert coming.wait(timeout=0.01) is False
        free.set()
        assert coming.wait() is True
        assert store.stats().cold_wait_p99_seconds > 0


def test_error_of_a_prefetch_is_raised_by_wait(path):
    def fail() -> None:
        raise MemoryError("no memory")

    with embstore.open(path) as store:
        coming = submitted.Prefetch([fail], store._records.stats)  # type: ignore[union-attr]
        for _ in range(2):
            with pytest.raises(MemoryError, match="no memory"):
                coming.wait()
        assert coming.done()


def test_prefetch_in_a_scan_of_many_blocks(path, small_blocks):
    """All helper threads may be in the callback, so none is left to wait for the rows."""
    with embstore.open(path) as store:

        def visit(ids: range, _: object) -> None:
            fresh.prefetch(np.arange(3000)).wait()
            assert np.array_equal(fresh.submit([ids[0]]).result(), TABLE[ids[0] : ids[0] + 1])

        with embstore.open(path) as fresh:
            store.scan(visit)


# Other processes, and ends.

FORK = """
import os, signal, sys
import numpy as np
import embstore

store = embstore.open(sys.argv[1])
rows = store[:]
futures = [store.submit(np.arange(3000).repeat(30)) for _ in range(30)]
coming = store.prefetch(np.arange(3000))
done = store.submit([1])
done.result()
child = os.fork()
if child == 0:
    signal.alarm(300)
    assert np.array_equal(done.result(), rows[[1]])
    for call in (futures[-1].result, futures[-1].exception):
        try:
            call()
        except RuntimeError as error:
            assert "before a fork" in str(error)
    try:
        coming.wait()
    except RuntimeError as error:
        assert "before a fork" in str(error)
    assert np.array_equal(store.submit([2, 3]).result(), rows[[2, 3]])
    assert store.prefetch(np.arange(3000)).wait()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert all(np.array_equal(future.result(), rows.repeat(30, 0)) for future in futures)
print("same")
"""
EXIT = """
import sys
import numpy as np
import embstore

store = embstore.open(sys.argv[1])
futures = [store.submit(np.arange(3000).repeat(100)) for _ in range(40)]
coming = store.prefetch(np.arange(3000))
if sys.argv[2] == "late":
    class Late:
        def __del__(self):
            try:
                futures[-1].result()
            except RuntimeError:
                pass
    sys.late = Late()
if sys.argv[2] == "atexit":
    import atexit
    atexit.register(lambda: print(futures[-1].result().shape, store.submit([1]).result().shape))
"""


def test_fork(path):
    assert run_python("-W", "ignore", "-c", FORK, path).stdout == "same\n"


@pytest.mark.parametrize(
    ("way", "printed"), [("plain", ""), ("late", ""), ("atexit", "(300000, 5) (1, 5)\n")]
)
def test_pending_futures_do_not_hold_up_the_end(path, way, printed):
    done = run_python("-c", EXIT, path, way)
    assert done.stderr == ""
    assert done.stdout == printed


def test_without_threads(path):
    program = """
    import sys, threading
    import embstore

    def start(self):
        raise RuntimeError("can't start new thread")

    threading.Thread.start = start
    store = embstore.open(sys.argv[1])
    future = store.submit([1, 2])
    assert future.done()
    assert future.result().tolist() == store[[1, 2]].tolist()
    called = []
    future.add_done_callback(called.append)
    assert called == [future]
    for ids in ([1], range(3000), []):
        assert store.prefetch(ids).done()
        assert store.prefetch(ids).wait()
    print("same")
    """
    assert run_program(program, path) == "same\n"


def test_interrupt_while_the_caller_does_the_work(path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(submitted, "are_replaced", lambda: True)
    monkeypatch.setattr(submitted, "_look_up", interrupt)
    with embstore.open(path) as store, pytest.raises(KeyboardInterrupt):
        store.submit([1])


def test_small_lookup_of_known_rows_is_done_at_once(path):
    with embstore.open(path) as store:
        first = store.submit([5, 0, 7]).result()
        with busy():
            again = store.submit([7, 5])
            assert again.done()
            assert np.array_equal(again.result(), first[[2, 0]])


# The parts.


def test_known_pages():
    pages = KnownPages(100 * PAGE_BYTES, 1200)
    crossing = PAGE_BYTES - 100
    offsets = np.array([0, crossing, 5 * PAGE_BYTES])
    assert pages.unknown(offsets).tolist() == [True, True, True]
    pages.add(offsets[:1])
    assert pages.unknown(offsets).tolist() == [False, True, True]  # The next page is not known.
    pages.add(offsets)
    assert not pages.unknown(offsets).any()
    pages.forget()
    assert pages.unknown(offsets).all()
    assert pages.unknown(np.zeros(0, np.int64)).tolist() == []
    pages.add(np.array([100 * PAGE_BYTES - 1200]))  # The last record.


def test_pages_are_forgotten_after_too_many_reads():
    pages = KnownPages(100 * PAGE_BYTES, 1200)
    offsets = np.array([0])
    pages.add(offsets)
    for _ in range(100):
        pages.note(ROWS_PER_MISS, 1)  # As many as are expected.
    assert not pages.unknown(offsets).any()
    assert not pages.note(32, MOST_MISSES)
    assert not pages.unknown(offsets).any()
    assert pages.note(32, 1)
    assert pages.unknown(offsets).all()


def test_dropped_pages_are_announced_again(tmp_path):
    table = np.arange(8000 * 1024, dtype=np.float32).reshape(8000, 1024)
    ids = np.random.default_rng(0).permutation(len(table))
    with make_store(tmp_path / "s", table) as store:
        assert isinstance(store._records, MappedRecords)
        pages = store._records._known_pages
        for _ in range(2):
            for part in np.split(ids, 4):
                assert np.array_equal(store.submit(part).result(SECONDS), table[part])
        assert not pages.unknown(store._records.gather.offsets(ids)).any()
        before = store.stats().bytes_read
        space = store._records._space
        space.advise(0, len(space.data), MADV_DONTNEED)
        evict(files_of(store))
        for part in np.split(ids, 4):
            assert np.array_equal(store.submit(part).result(SECONDS), table[part])
        stats = store.stats()
        if stats.bytes_read == before:
            pytest.skip("this file system does not count reads")
        assert stats.bytes_read - before >= table.nbytes * 0.9
        assert stats.lookups == 12
        assert stats.cold_wait_p99_seconds >= stats.cold_wait_p50_seconds > 0


def test_cold_waits_of_the_stats():
    counter = StatsCounter(8)
    stats = counter.snapshot()
    assert (stats.cold_wait_p50_seconds, stats.cold_wait_p99_seconds) == (0, 0)
    for number in range(1, 101):
        counter.add(1, 4096, 1, 0, number / 100)
        counter.add(1, 0, 0, 1, 1000.0)  # Warm.
    stats = counter.snapshot()
    assert (stats.cold_wait_p50_seconds, stats.cold_wait_p99_seconds) == (0.5, 0.99)
    for _ in range(NOTED_AT_ONCE + MAX_COLD_WAITS):
        counter.add_wait(2.0)
    stats = counter.snapshot()
    assert (stats.cold_wait_p50_seconds, stats.cold_wait_p99_seconds) == (2, 2)
    assert len(counter._cold_waits) == MAX_COLD_WAITS


def test_example():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "serve_async.py"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    lines = done.stdout.splitlines()
    assert lines[3].startswith("[12.0, 13.0, 14.0, 15.0] [12.0, 13.0, 14.0, 15.0] id 10000 ")
    assert lines[-1] == "30 rows for 10 clients"
    assert not done.stderr
