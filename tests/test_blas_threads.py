"""Matrix products have one thread each during a search of a batch, and their own number after."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import embstore
from embstore.search.blas_threads import one_thread_each


def counts() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def three():
    with threadpool_limits(3, user_api="blas"):
        if counts() != {3}:
            pytest.skip("NumPy's products have no threads here")
        yield
        assert counts() == {3}


@pytest.fixture
def store(tmp_path):
    rows = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    with embstore.build(rows, tmp_path / "t.embstore") as opened:
        yield opened


def test_a_batch_has_one_thread_for_each_product(store):
    seen: list[set[int]] = []
    store.most_similar(np.arange(9), progress=lambda _: seen.append(counts()))
    assert seen
    assert set.union(*seen) == {1}
    store.most_similar(4, progress=lambda _: seen.append(counts()))
    assert seen[-1] == {3}


def test_an_error_ends_the_limit(store):
    def stop(_: Any) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        store.most_similar(np.arange(9), progress=stop)


def test_searches_that_overlap(store):
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_thread_each())
    second.enter_context(one_thread_each())
    first.close()
    assert counts() == {1}
    second.close()
    assert counts() == {3}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own_limit(store):
    with one_thread_each():
        child = os.fork()
        if not child:
            fine = counts() == {3} and len(store.most_similar(np.arange(9))) == 9
            os._exit(0 if fine and counts() == {3} else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert counts() == {1}


SEARCH_AND_FORK = """
import os, sys, threading
import numpy as np
import embstore

store = embstore.open(sys.argv[1])
vector = store[0]
expected = store.most_similar(vector, 3)
ended, searches = threading.Event(), 0

def search():
    global searches
    while not ended.is_set():
        assert store.most_similar(vector, 3) == expected
        searches += 1

thread = threading.Thread(target=search)
thread.start()
for fork in range(40):
    before = searches
    while thread.is_alive() and searches < before + 2:
        pass
    child = os.fork()
    if not child:
        os._exit(0 if store.most_similar(vector, 3) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
ended.set()
thread.join()
print("ended")
"""


def test_a_fork_waits_for_a_product_that_threads_share(tmp_path):
    rows = np.random.default_rng(0).standard_normal((60_000, 128)).astype(np.float32)
    embstore.build(rows, tmp_path / "t.embstore").close()
    command = [sys.executable, "-W", "ignore", "-c", SEARCH_AND_FORK, str(tmp_path / "t.embstore")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)
