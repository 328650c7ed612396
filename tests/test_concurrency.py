"""Forks during lookups on other threads, and forks while locks are held."""

from __future__ import annotations

from tests.helpers.programs import run_python

FORK = """
import os, signal, sys, threading, time
import numpy as np
import embstore

store = embstore.open(sys.argv[1], resident_limit="64MiB")
expected = store[:]
ids = np.arange(len(store)).repeat(40)
stop = threading.Event()

def look_up():
    while not stop.is_set():
        store[3], store.lookup(ids[:5]), store.lookup(ids), store.prefetch(ids)
        store.submit(ids[:5]).result(), store.submit(ids)

threads = [threading.Thread(target=look_up) for _ in range(6)]
for thread in threads:
    thread.start()
for _ in range(25):
    child = os.fork()
    if child == 0:
        signal.alarm(300)  # Ends a child that waits for a lock for ever.
        store[3]
        store.prefetch(ids).wait()
        assert np.array_equal(store.submit(ids).result(), expected[ids])
        same = np.array_equal(store.lookup(ids), expected[ids]) and store.ids("like") == 1
        store.stats()
        os._exit(0 if same else 1)
    status = os.waitpid(child, 0)[1]
    if status:
        stop.set()
        sys.exit(f"a child ended with {status}")
stop.set()
for thread in threads:
    thread.join()
print("same")
"""

LOCKED = """
import os, signal, sys, threading
from contextlib import ExitStack
import embstore

store = embstore.open(sys.argv[1], resident_limit="64MiB")
store.lookup([1, 2])
names = [name for name in sys.modules if name.partition(".")[0] == "embstore"]
held = {type(threading.Lock()), type(threading.RLock())}
locks = [x for name in names for x in vars(sys.modules[name]).values() if type(x) in held]
assert locks
with ExitStack() as stack:  # Hold every lock of a module, as another thread may do.
    for lock in {id(lock): lock for lock in locks}.values():
        stack.enter_context(lock)
    child = os.fork()
    if child == 0:
        signal.alarm(300)
        store.lookup([1, 2])
        store.submit([1, 2]).result()
        store.prefetch([1, 2]).wait()
        store.stats()
        os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


def test_fork_during_lookups_on_other_threads(words_store):
    assert run_python("-W", "ignore", "-c", FORK, words_store).stdout == "same\n"


def test_child_does_not_wait_for_locks_held_at_the_fork(words_store):
    run_python("-W", "ignore", "-c", LOCKED, words_store)
