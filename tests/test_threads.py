"""Builds, lookups, scans, exports and checks where threads are few, replaced, or at their end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import pytest

from embstore.reading.pipeline import ahead, in_order
from embstore.threads import Pool, start
from tests.helpers.programs import environment

EVERYTHING = """
import pathlib
import sys
import threading

import numpy as np

import embstore
import embstore.interop.keyedvectors


def everything(name):
    folder = pathlib.Path(sys.argv[1], name)
    folder.mkdir()
    rows = np.random.default_rng(0).standard_normal((6000, 64)).astype("f4")
    words = [f"w{number}" for number in range(len(rows))]
    path = folder / "a.embstore"
    store = embstore.build(rows, path, words=words, partitions=3, memory_limit=4 << 20)
    ids = np.random.default_rng(1).permutation(len(rows)).repeat(4)
    coming = store.prefetch(ids)
    futures = [store.submit(some) for some in (ids, ids[:20])]
    assert (store.lookup(ids) == rows[ids]).all()
    assert coming.wait()
    assert coming.done()
    assert (futures[0].result() == rows[ids]).all()
    assert (futures[1].result() == rows[ids[:20]]).all()
    assert (store.to_numpy() == rows).all()
    assert embstore.verify(path).ok
    bags = embstore.RaggedIds(np.arange(6000), np.arange(0, 6001, 100))
    sums = embstore.embedding_lookup_sparse(store, bags, None, combiner="sum")
    assert np.allclose(sums, rows.reshape(60, 100, 64).sum(1), atol=1e-3)
    assert embstore.interop.keyedvectors.KeyedVectors(store).most_similar("w3", topn=1)
    for options in ({"preload": True}, {"resident_limit": "64MiB"}, {"reader": "chunked"}):
        with embstore.open(path, verify="full", **options) as other:
            assert (other.lookup(ids) == rows[ids]).all(), options
    for suffix in ("vec", "bin", "parquet", "npy"):
        file = folder / f"b.{suffix}"
        embstore.export(store, file)
        with embstore.build(file, folder / f"{suffix}.embstore") as again:
            assert (again[:] == rows).all(), suffix
    print(name, flush=True)
"""
FAILING = '''
begin = threading.Thread.start

def failing(count):
    """Let only some more threads start, as a process does that may have few."""
    started = []

    def start(self):
        if len(started) >= count:
            raise RuntimeError("can't start new thread")
        started.append(self)
        begin(self)

    threading.Thread.start = start
'''
AT_END = """
import atexit
"""

PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "no thread, then one, then three more": (
        f"{EVERYTHING}{FAILING}\nfor name, count in zip('abc', (0, 1, 3)):\n"
        "    failing(count)\n    everything(name)",
        ["a", "b", "c"],
    ),
    "no more threads": (
        f"{EVERYTHING}{FAILING}\neverything('a')\nfailing(0)\neverything('b')",
        ["a", "b"],
    ),
    "at exit": (f"{EVERYTHING}{AT_END}\natexit.register(everything, 'a')", ["a"]),
    "again at exit": (
        f"{EVERYTHING}{AT_END}\neverything('a')\natexit.register(everything, 'b')",
        ["a", "b"],
    ),
    "without threads at exit": (  # As Python 3.12 has it.
        f"{EVERYTHING}{AT_END}{FAILING}\natexit.register(everything, 'a')\n"
        "atexit.register(failing, 0)",
        ["a"],
    ),
    "in a thread that outlives the main one": (
        f"{EVERYTHING}\ndef late():\n    threading.main_thread().join()\n    everything('a')\n"
        "threading.Thread(target=late).start()",
        ["a"],
    ),
    "in such a thread, without more of them": (
        f"{EVERYTHING}{FAILING}\ndef late():\n    threading.main_thread().join()\n    failing(0)\n"
        "    everything('a')\nthreading.Thread(target=late).start()",
        ["a"],
    ),
}
PATCH = "from gevent import monkey\nmonkey.patch_all({})\n"
GEVENT: dict[str, tuple[str, list[str]]] = {
    "before": (f"{PATCH.format('')}{EVERYTHING}\neverything('a')", ["a"]),
    "after the import": (f"{EVERYTHING}{PATCH.format('')}\neverything('a')", ["a"]),
    "after the first build": (
        f"{EVERYTHING}\neverything('a')\n{PATCH.format('')}\neverything('b')",
        ["a", "b"],
    ),
    "without threads": (f"{PATCH.format('thread=False')}{EVERYTHING}\neverything('a')", ["a"]),
    "without queues": (f"{PATCH.format('queue=False')}{EVERYTHING}\neverything('a')", ["a"]),
    "in greenlets": (
        f"{PATCH.format('')}{EVERYTHING}\nimport gevent\n"
        "gevent.joinall([gevent.spawn(everything, name) for name in 'ab'], raise_error=True)",
        ["a", "b"],
    ),
    "in its pool of threads": (
        f"{PATCH.format('')}{EVERYTHING}\nimport gevent\n"
        "gevent.get_hub().threadpool.apply(everything, ('a',))",
        ["a"],
    ),
}
# As eventlet does: functions of its own take the place of those that start threads.
REPLACED = """
import _thread, threading, queue

def start_new_thread(function, args=(), kwargs={}):
    raise AssertionError("a coroutine")

class Replaced:
    def __getattr__(self, name):
        raise AssertionError("a coroutine's queue")

_thread.start_new_thread = threading._start_new_thread = start_new_thread
queue.Queue = queue.SimpleQueue = Replaced
"""
REPLACEMENTS = {
    "before": (f"{REPLACED}{EVERYTHING}\neverything('a')", ["a"]),
    "after the import": (f"{EVERYTHING}{REPLACED}\neverything('a')", ["a"]),
    "after the first build": (
        f"{EVERYTHING}\neverything('a')\n{REPLACED}\neverything('b')",
        ["a", "b"],
    ),
}


def check(folder: Path, program: tuple[str, list[str]]) -> None:
    text, printed = program
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text, folder],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert not done.stderr, done.stderr
    assert sorted(done.stdout.split()) == printed
    assert done.returncode == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_few_threads(tmp_path, name):
    check(tmp_path, PROGRAMS[name])


@pytest.mark.parametrize("name", GEVENT)
def test_gevent(tmp_path, name):
    pytest.importorskip("gevent")
    check(tmp_path, GEVENT[name])


@pytest.mark.parametrize("name", REPLACEMENTS)
def test_replaced_threads(tmp_path, name):
    check(tmp_path, REPLACEMENTS[name])


@pytest.mark.parametrize("count", [0, 3])
def test_limit_of_processes(tmp_path, count):
    """The system itself refuses more threads to a user without privileges."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root can become another user")
    program = f"""{EVERYTHING}
import os, resource, zipfile  # No file is imported once this user cannot read the libraries.
import embstore.reading.mapped, embstore.sinks.npy, embstore.sinks.parquet, embstore.sinks.text
import embstore.sinks.word2vec_binary, embstore.sources.choose, embstore.sources.text.source
os.chmod(sys.argv[1], 0o777)
os.setgid(65534)
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, ({count}, {count}))
everything('a')
"""
    folder = Path("/tmp") / f"embstore-threads-{os.getpid()}-{count}"
    folder.mkdir()
    try:
        check(folder, (program, ["a"]))
    finally:
        subprocess.run(["rm", "-r", folder], check=True)


# The parts.


def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_start(monkeypatch):
    done = threading.Event()
    thread = start(done.set, "embstore-test")
    assert thread is not None
    assert done.wait(300)
    no_start(monkeypatch)
    assert start(done.set, "embstore-test") is None


@pytest.mark.parametrize("count", [0, 1, 4])
def test_pool(count):
    pool = Pool(count, "embstore-test")
    tasks = [pool.submit(partial(truediv, 6, 3 - number)) for number in range(5)]
    assert [pool.result(task) for task in tasks[:3]] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        pool.result(tasks[3])
    assert pool.result(tasks[4]) == -6
    pool.close()
    pool.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("embstore-test")]


def test_threads_of_a_dropped_pool_end():
    pool = Pool(2, "embstore-dropped")
    threads = [one for one in threading.enumerate() if one.name.startswith("embstore-dropped")]
    assert len(threads) == 2
    del pool
    gc.collect()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()


def test_results_are_not_kept():
    class Large:
        pass

    pool = Pool(1, "embstore-test")
    task = pool.submit(Large)
    kept = weakref.ref(pool.result(task))
    del task
    pool.result(pool.submit(int))
    gc.collect()
    assert kept() is None
    pool.close()


@pytest.mark.parametrize("kind", ["ahead", "in_order"])
def test_pipelines_without_threads(monkeypatch, kind):
    no_start(monkeypatch)
    taken: list[int] = []

    def items() -> Any:
        for number in range(20):
            taken.append(number)
            yield number

    results = ahead(items()) if kind == "ahead" else in_order(int, items(), thread_name="x")
    for number, result in enumerate(results):
        assert result == number
        assert len(taken) <= number + 2
    assert len(taken) == 20
