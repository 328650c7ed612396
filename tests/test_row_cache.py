"""Stores with a row cache give the rows of the table, whatever the cache holds meanwhile."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore import syscalls, threads
from embstore.reading import readers
from embstore.reading.files import ForeignFiles
from embstore.reading.mapped import MappedRecords
from embstore.reading.mapping import AddressSpace
from embstore.reading.memory import free_bytes
from embstore.reading.resident_limit import ResidentLimit
from embstore.reading.row_cache import cache as row_cache
from embstore.reading.row_cache.cache import RowCache
from embstore.table.addresses import PAGE_BYTES
from embstore.table.extents import Column, Extent
from tests.helpers.programs import run_program

ROWS = 20_000
TABLE = np.random.default_rng(0).integers(0, 1 << 30, (ROWS, 12)).astype(np.uint32)
# What the maps and counts of some hundred rows take, and 300 rows of 48 bytes.
BUDGET = ROWS + (ROWS >> 6) * 24 + 300 * 56


def save_npy(path: Path) -> None:
    np.save(path, TABLE)


def save_store(path: Path) -> None:
    options: Any = {"partitions": 3, "chunk_rows": 1024}
    with embstore.StoreWriter(path, row_shape=(12,), dtype="uint32", **options) as writer:
        writer.write(TABLE)


SAVES = [save_npy, save_store]


@pytest.fixture(params=SAVES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    where = tmp_path / ("t.npy" if request.param is save_npy else "t")
    request.param(where)
    return where


def cache_of(store: embstore.EmbeddingStore) -> RowCache:
    found = store._records.cache  # type: ignore[union-attr]
    assert isinstance(found, RowCache)
    return found


def skewed(generator: np.random.Generator, count: int, shift: int = 0) -> Any:
    """Return ids, low ones more often, moved by ``shift``."""
    return ((generator.random(count) ** 6 * ROWS).astype(np.int64) + shift) % ROWS


def test_rows_are_the_same_while_the_cache_learns(path: Path) -> None:
    generator = np.random.default_rng(1)
    with embstore.open(path, row_cache=BUDGET) as store:
        for number in range(120):
            ids = skewed(generator, 1000, shift=number // 40 * 5000)
            assert np.array_equal(store.lookup(ids), TABLE[ids])
            some = ids[:: number + 5].astype(np.uint16)
            assert np.array_equal(store[some], TABLE[some])
            assert np.array_equal(store[int(ids[0])], TABLE[ids[0]])
            cache_of(store).learn()
        store.prefetch(ids)
        assert np.array_equal(store[:], TABLE)
        seen = np.zeros(ROWS, bool)

        def visit(ids: range, rows: Any) -> None:
            assert np.array_equal(rows, TABLE[ids.start : ids.stop : ids.step])
            seen[ids.start : ids.stop : ids.step] = True

        store.scan(visit)
        assert seen.all()
        stats, held = store.stats(), store.residency()
    assert stats.row_cache_hits > stats.row_cache_rows / 4
    assert stats.row_cache_rows == stats.rows
    assert 0 < held.row_cache_rows <= 1000
    assert 0 < held.row_cache_bytes <= BUDGET


def test_records_on_no_grid(tmp_path: Path) -> None:
    """They are gathered by address, those of the cache, too."""
    data = TABLE.view(np.uint8)
    (tmp_path / "f").write_bytes(b"x" * 5 + data[:9000].tobytes() + b"yy" + data[9000:].tobytes())
    extents = Extent("f", 5, 9000), Extent("f", 7 + 9000 * 48, ROWS - 9000)
    records = MappedRecords(
        Column(extents, 48),
        ForeignFiles(tmp_path, ("f",)),
        *(np.dtype(np.uint32), (12,)),
        cache_rows=500,
    )
    assert records.addresses.grid is None
    assert records.cache is not None
    generator = np.random.default_rng(1)
    out = np.empty((2000, 12), np.uint32)
    for number in range(60):
        rows = skewed(generator, 2000, shift=number // 30 * 8000)
        records.take(rows, out)
        assert np.array_equal(out, TABLE[rows])
        assert np.array_equal(records.take_one(int(rows[0])), TABLE[rows[0]])
        for work in records.ahead.fetch(rows):
            work()
        records.cache.learn()
    assert records.cache.lookups()[1] > 0
    assert records.residency(ROWS).row_cache_rows == 500


def test_rows_are_the_same_for_readers_on_many_threads(path: Path) -> None:
    """Readers check every row while two threads change the whole cache again and again."""
    stop, wrong = threading.Event(), list[str]()

    def read(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for number in count():
            if stop.is_set():
                return
            ids = generator.integers(0, 2000, 3 + number % 7 * 900)
            if not np.array_equal(store.lookup(ids), TABLE[ids]):
                wrong.append(f"reader {seed}, lookup {number}")

    def change(seed: int) -> None:
        generator = np.random.default_rng(seed)
        while not stop.is_set():
            store.warm(generator.integers(0, 2000, 200))
            cache_of(store).learn()

    with embstore.open(path, row_cache=BUDGET) as store:
        assert store.warm(np.arange(200)) == 200
        store.lookup(np.arange(200))
        workers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        workers += [threading.Thread(target=change, args=(seed,)) for seed in range(2)]
        for worker in workers:
            worker.start()
        time.sleep(2)
        stop.set()
        for worker in workers:
            worker.join()
        assert store.stats().row_cache_hits > 0
    assert not wrong


def test_slots_are_not_written_to_while_a_reader_may_use_them(path: Path, monkeypatch) -> None:
    with embstore.open(path, row_cache=BUDGET) as store:
        cache = cache_of(store)
        every = cache.slot_count
        assert store.warm(np.arange(every)) == every
        cached = cache._published[0]
        spots = cache.spots(np.arange(0, ROWS, 7))
        piece = spots[3:20:2]
        del spots  # A piece of the spots keeps the lease.
        expected, out = np.empty((len(piece), 48), np.uint8), np.empty((len(piece), 48), np.uint8)
        cache.take(piece, expected)
        monkeypatch.setattr(row_cache, "MAX_WAIT_SECONDS", 0.01)
        # The old rows leave the map, but none of their slots is written to.
        assert store.warm(np.arange(5000, 5000 + every)) == 0
        for _ in range(30):
            ids = skewed(np.random.default_rng(0), 2000)
            assert np.array_equal(store.lookup(ids), TABLE[ids])
            cache.learn()
        assert cache._published[0] is not cached
        assert len(cache._published[0]) == 0
        cache.take(piece, out)
        assert np.array_equal(out, expected)
        del piece
        monkeypatch.undo()
        assert store.warm(np.arange(5000, 5000 + every)) == every


@pytest.mark.parametrize("given", ["order", "counts"])
def test_warm_takes_the_most_wanted_rows(path: Path, given: str) -> None:
    ids = np.random.default_rng(2).permutation(ROWS)[:3000]
    with embstore.open(path, row_cache=BUDGET) as store:
        most = cache_of(store).slot_count
        if given == "order":
            held = store.warm(np.concatenate([ids, ids[:50]]).reshape(-1, 2))
        else:
            mixed = np.random.default_rng(3).permutation(3000)
            held = store.warm(ids[mixed], counts=(3000 - mixed) / 7)
        assert held == most < 3000
        before = store.stats()
        assert np.array_equal(store.lookup(ids), TABLE[ids])
        store.lookup(ids[:most])
        after = store.stats()
        assert after.row_cache_hits - before.row_cache_hits == 2 * most
        # Fewer rows leave the others where they are.
        assert store.warm([ids[-1], ids[0]]) == 2
        assert store.residency().row_cache_rows == most
        assert store.warm([]) == 0
        assert store.warm(5) == 1


@pytest.mark.parametrize("highest", [5e-324, 1.0, 1.7e308])
def test_warm_takes_counts_of_any_size(path: Path, highest: float) -> None:
    ids = np.arange(ROWS)
    counts = np.zeros(ROWS)
    counts[5000:5100] = highest
    with embstore.open(path, row_cache=BUDGET) as store:
        store.warm(ids, counts=counts)
        cache, rows = cache_of(store), store._rows_of(ids)
        assert len(cache._published[0].missing(rows[5000:5100])) == 0
        noted = cache._admission.sketch.counts(rows)
        assert np.median(noted[:5000]) <= 1 < noted[5000:5100].min()


def test_warm_waits_for_no_reader_if_all_rows_are_there(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(row_cache, "MAX_WAIT_SECONDS", 0.0)
    with embstore.open(path, row_cache=BUDGET) as store:
        most = cache_of(store).slot_count
        assert store.warm(np.arange(most)) == most
        spots = cache_of(store).spots(np.arange(10))
        assert store.warm([ROWS - 1]) == 0  # Its slot is still read.
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits"))
        assert store.warm([1, 2]) == 2
        del spots


def test_warm_without_a_row_cache_reads_rows(path: Path) -> None:
    with embstore.open(path) as store:
        assert store.warm([[1, 2], [2, ROWS - 1]], counts=[[1, 2], [3, 4]]) == 3
        assert store.warm(np.arange(ROWS)) == ROWS
        assert store.warm([]) == 0
        found = store.residency()
        assert found.page_cache_bytes >= TABLE.nbytes
        assert found.mapped_bytes <= found.page_cache_bytes
        assert found.row_cache_rows == found.row_cache_bytes == store.stats().row_cache_rows == 0
    with embstore.open(path, reader="chunked") as store:
        assert store.warm([1, 2]) == 0
        assert store.residency() == embstore.Residency(TABLE.nbytes)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"ids": [ROWS]}, embstore.IdRangeError, "out of range"),
    ({"ids": [1.0]}, embstore.IdTypeError, "integers"),
    ({"ids": [1, 2], "counts": [1]}, ValueError, r"counts has shape \(1,\), expected \(2,\)"),
    ({"ids": [1, 2], "counts": [1, -1]}, ValueError, "counts must be 0 or more and finite, not -1"),
    ({"ids": [1], "counts": [np.nan]}, ValueError, "0 or more and finite, not nan at position 0"),
    ({"ids": [1], "counts": [True]}, TypeError, "counts must be integers or floats, not bool"),
    ({"ids": [1, 2], "counts": [3, True]}, TypeError, "numbers, but one of them is a bool"),
    ({"ids": [1], "counts": np.array([np.longdouble("1e400")])}, ValueError, "finite, not inf"),
    ({"ids": [1], "counts": ["1"]}, TypeError, "counts must be integers or floats, not <U1"),
    ({"ids": [1], "counts": np.ma.masked_array([1], [True])}, TypeError, "masked"),
    ({"ids": [1, 2], "counts": [[1], [1, 2]]}, TypeError, "counts must be an array of numbers"),
]


@pytest.mark.parametrize(("arguments", "kind", "says"), WRONG)
@pytest.mark.parametrize("budget", [None, BUDGET])
def test_warm_refuses(tmp_path: Path, arguments, kind, says, budget) -> None:
    save_npy(tmp_path / "t.npy")
    with (
        embstore.open(tmp_path / "t.npy", row_cache=budget) as store,
        pytest.raises(kind, match=says),
    ):
        store.warm(**arguments)


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"row_cache": 0}, ValueError, "row_cache must be 1 or more, not 0"),
    ({"row_cache": -1}, ValueError, "row_cache must be 1 or more"),
    ({"row_cache": True}, TypeError, "row_cache must be a size"),
    ({"row_cache": "much"}, ValueError, "row_cache must be a size"),
    ({"row_cache": 47}, ValueError, "or more for this table, which one row and the map of 2"),
    ({"row_cache": "500TB"}, ValueError, "row_cache must leave 100MiB of memory to the page cache"),
    ({"row_cache": BUDGET, "preload": True}, ValueError, "preload=True keeps all rows in RAM"),
    ({"row_cache": BUDGET, "reader": "chunked"}, ValueError, "in front of a mapping"),
    ({"row_cache": "20MiB", "resident_limit": "64MiB"}, ValueError, "64MiB or more must remain"),
]


@pytest.mark.parametrize(("options", "kind", "says"), OPTIONS)
def test_open_refuses(path: Path, options, kind, says) -> None:
    with pytest.raises(kind, match=says):
        embstore.open(path, **options)


def test_open_refuses_what_a_reader_cannot_map(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(readers, "can_map", lambda: False)
    with pytest.raises(ValueError, match="in front of a mapping"):
        embstore.open(path, row_cache=BUDGET)


def test_the_smallest_and_the_largest_cache(path: Path) -> None:
    ids = np.arange(0, ROWS, 3)
    with pytest.raises(ValueError, match="row_cache must be") as error:
        embstore.open(path, row_cache=1)
    least = int(str(error.value).split()[3])
    for budget, held in ((least, 1), ("20MiB", len(ids))):
        with embstore.open(path, row_cache=budget) as store:
            assert store.warm(ids) == held
            assert np.array_equal(store.lookup(ids), TABLE[ids])
    with pytest.raises(ValueError, match="row_cache must be"):
        embstore.open(path, row_cache=least - 1)


def test_resident_limit_holds_for_the_rest(path: Path, monkeypatch) -> None:
    seen: list[int] = []

    def limited(_: object, limit_bytes: int) -> ResidentLimit:  # Of a small table, too.
        seen.append(limit_bytes)
        return ResidentLimit(limit_bytes)

    monkeypatch.setattr(readers, "_limit_of", limited)
    with embstore.open(path, row_cache="1MiB", resident_limit="100MiB") as store:
        assert seen == [99 << 20]
        ids = np.arange(0, ROWS, 3)
        store.warm(ids)
        assert np.array_equal(store.lookup(ids), TABLE[ids])


def test_long_rows_need_one_of_the_two_limits(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(3 << 20, dtype=np.uint8).reshape(1, -1))
    with pytest.raises(ValueError, match="too long for both row_cache and resident_limit"):
        embstore.open(tmp_path / "t.npy", row_cache="8MiB", resident_limit="1GiB")
    with embstore.open(tmp_path / "t.npy", row_cache="8MiB") as store:
        assert store.warm(0) == 1
        assert np.array_equal(store[0], np.load(tmp_path / "t.npy")[0])


def test_empty_table(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros((0, 3), np.float32))
    with embstore.open(tmp_path / "t.npy", row_cache=4096) as store:
        assert store.warm([]) == 0
        assert store.lookup([]).shape == (0, 3)
        assert store.residency().row_cache_rows == 0


@pytest.mark.parametrize("way", [copy.copy, lambda store: pickle.loads(pickle.dumps(store))])
def test_copies_have_a_cache_of_their_own(path: Path, way) -> None:
    with embstore.open(path, row_cache=BUDGET) as store:
        store.warm([1, 2, 3])
        with way(store) as twin:
            assert cache_of(twin).slot_count == cache_of(store).slot_count
            assert twin.residency().row_cache_rows == 0


def test_wrong_lookups_are_refused(path: Path) -> None:
    ids = np.arange(5)
    with embstore.open(path, row_cache=BUDGET) as store:
        store.warm(ids)
        for wrong in ([True], [1.5], np.ma.masked_array([1], [True])):
            with pytest.raises(embstore.IdTypeError):
                store.lookup(wrong)
        for outside in ([-1], [ROWS], ROWS):
            with pytest.raises(embstore.IdRangeError):
                store.lookup(outside)
        with pytest.raises(TypeError, match="out has dtype"):
            store.lookup(ids, out=np.empty((5, 12), np.float32))
        out = np.zeros((5, 12), np.uint32)
        overlapping = out.reshape(-1).view(np.int64)[:5]
        overlapping[:] = ids
        assert np.array_equal(store.lookup(overlapping, out=out), TABLE[:5])
    with pytest.raises(embstore.StoreClosedError):
        store.warm(ids)
    with pytest.raises(embstore.StoreClosedError):
        store.residency()


def test_lookups_learn_where_threads_cannot_be_started(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(threads, "start", lambda work, name: None)
    monkeypatch.setattr(row_cache, "_learner", threads.LazyPool(1, "learner"))
    generator = np.random.default_rng(1)
    with embstore.open(path, row_cache=BUDGET) as store:
        for _ in range(60):
            ids = skewed(generator, 1000)
            assert np.array_equal(store.lookup(ids), TABLE[ids])
        assert store.residency().row_cache_rows > 0


def test_interrupt_while_a_lookup_learns(path: Path, monkeypatch) -> None:
    def interrupt(_: RowCache) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "start", lambda work, name: None)
    monkeypatch.setattr(row_cache, "_learner", threads.LazyPool(1, "learner"))
    monkeypatch.setattr(RowCache, "learn", interrupt)
    with embstore.open(path, row_cache=BUDGET) as store, pytest.raises(KeyboardInterrupt):
        store.lookup(np.arange(row_cache.LEARNED_ROWS))


def test_empty_lookups_leave_nothing(path: Path) -> None:
    with embstore.open(path, row_cache=BUDGET) as store:
        for _ in range(100):
            assert len(store.lookup([])) == len(store.submit([]).result()) == 0
        assert not cache_of(store)._waiting
        assert store.stats().lookups == 200


def test_a_signal_handler_may_ask_for_statistics(path: Path) -> None:
    with embstore.open(path, row_cache=BUDGET) as store:
        cache = cache_of(store)
        found: list[tuple[int, int]] = []

        class Interrupted(list[tuple[int, int]]):
            def __len__(self) -> int:
                if not found:
                    found.append((0, 0))
                    cache._noted.append((3, 1))
                    found.append(cache.lookups())  # The handler.
                return super().__len__()

        cache._noted = Interrupted([(5, 2)])
        # It would wait forever for a lock of its own.
        thread = threading.Thread(target=lambda: found.append(cache.lookups()), daemon=True)
        thread.start()
        thread.join(60)
        assert found[1:] == [(8, 3), (8, 3)]


def test_huge_pages_are_for_slots_only(path: Path, monkeypatch) -> None:
    advised = []
    monkeypatch.setattr(
        AddressSpace, "advise", lambda self, at, size, advice: advised.append((size, advice))
    )
    for budget in (BUDGET, 1 << 20):
        with embstore.open(path, row_cache=budget) as store:
            slots_bytes = cache_of(store).slot_count * 48 + PAGE_BYTES
            sizes = [size for size, advice in advised if advice == syscalls.MADV_HUGEPAGE]
            assert sum(sizes) <= slots_bytes


def test_rows_that_wait_for_a_late_learner_are_bounded(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(RowCache, "learn", lambda self: None)
    with embstore.open(path, row_cache=BUDGET) as store:
        for _ in range(300):
            store.lookup(np.arange(1000))
            waiting = cache_of(store)._waiting
            assert sum(len(rows) for rows, _ in waiting) <= row_cache.MAX_WAITING_ROWS + 1000


FORKS = """
import os, signal, sys, threading
import numpy as np
import embstore

table = np.load(sys.argv[1])
store = embstore.open(sys.argv[1], row_cache=int(sys.argv[2]))
stop = threading.Event()
np.random.default_rng(0)  # Imports modules, during which no child may be forked.

def check(generator, times):
    for _ in range(times):
        ids = generator.integers(0, 2000, 1500)
        if not np.array_equal(store.lookup(ids), table[ids]):
            os._exit(3)

def read(seed):
    while not stop.is_set():
        check(np.random.default_rng(seed), 3)

def change():
    generator = np.random.default_rng(9)
    while not stop.is_set():
        store.warm(generator.integers(0, 2000, 200))

threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
threads.append(threading.Thread(target=change))
for thread in threads:
    thread.start()
for seed in range(15):
    child = os.fork()
    if child == 0:
        signal.alarm(300)  # Ends a child that waits for a lock for ever.
        check(np.random.default_rng(seed), 20)
        store._records.cache.learn()
        check(np.random.default_rng(seed), 5)
        store.stats(), store.residency()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        os._exit(4)
stop.set()
for thread in threads:
    thread.join()
child = os.fork()
if child == 0:  # Without lookups under way, a child goes on learning.
    signal.alarm(300)
    os._exit(0 if store.warm(np.arange(3000, 3050)) == 50 else 5)
assert os.waitpid(child, 0)[1] == 0
print("same")
"""


def test_forked_children(tmp_path: Path) -> None:
    save_npy(tmp_path / "t.npy")
    assert run_program(FORKS, tmp_path / "t.npy", BUDGET) == "same\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 7 kB\n"}, 7 << 10),
        ({"proc/meminfo": "MemTotal: 9 kB\n", "proc/self/cgroup": "junk\n"}, None),
        (
            {
                "proc/meminfo": "MemAvailable: 900 kB\n",
                "proc/self/cgroup": "0::/a/b\n",
                "cgroup/a/b/memory.max": "max\n",
                "cgroup/a/memory.max": "1000\n",
                "cgroup/a/memory.current": "800\n",
                "cgroup/a/memory.stat": "anon 500\nfile 300\nshmem 90\n",
            },
            410,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/x\n4:memory:/a\n0::/\n",
                "cgroup/memory/a/memory.limit_in_bytes": "1000\n",
                "cgroup/memory/a/memory.usage_in_bytes": "900\n",
                "cgroup/memory/a/memory.stat": "cache 1\ntotal_cache 20\ntotal_shmem 5\n",
                "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "cgroup/memory/memory.usage_in_bytes": "900\n",
                "cgroup/memory/memory.stat": "total_cache 20\n",
            },
            115,
        ),
    ],
)
def test_free_bytes(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    write(tmp_path, files)
    assert free_bytes(tmp_path / "proc", tmp_path / "cgroup") == expected


def test_memory_of_a_control_group_bounds_the_cache(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(readers, "free_bytes", lambda: 150 << 20)
    embstore.open(path, row_cache="50MiB").close()
    with pytest.raises(ValueError, match="150MiB are free, on this machine or in a control group"):
        embstore.open(path, row_cache=(50 << 20) + 1)
    monkeypatch.setattr(readers, "free_bytes", lambda: None)
    embstore.open(path, row_cache="50MiB").close()
