"""Requests: how many are in flight, in which order results come, and what ends them."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from embstore import threads
from embstore.errors import RemoteError, StoreNotFoundError
from embstore.remote import requests
from embstore.remote.objects import Request
from embstore.remote.urls import objects_at
from tests import misbehaving as bad
from tests.helpers.programs import run_python

DATA = random.Random(4).randbytes(50_000)
PATIENCE = 120


@pytest.fixture(autouse=True)
def _need_obstore():
    pytest.importorskip("obstore")


@pytest.fixture
def store():
    with bad.misbehaving({"a": DATA}) as made:
        yield made


@pytest.fixture
def objects(store, no_credentials):
    no_credentials.setattr(requests, "_FIRST_PAUSE", 0.001)
    no_credentials.setenv("AWS_ENDPOINT_URL", store.url)
    return objects_at("s3://bucket", timeout=PATIENCE)


def reads(count, size=10):
    return [Request("a", number, size) for number in range(count)]


def check(found, wanted):
    assert len(found) == len(wanted)
    for position, one in enumerate(wanted):
        assert found[position] == DATA[one.first : one.first + one.count]


class Gate:
    """A behaviour that answers when it is opened, and tells when a number of requests wait."""

    def __init__(self, count):
        self.arrived = threading.Semaphore(0)
        self.count = count
        self.opened = threading.Event()

    def __call__(self, answer, line):
        self.arrived.release()
        assert self.opened.wait(PATIENCE)
        return bad.honest(answer, line)

    def wait(self):
        for _ in range(self.count):
            assert self.arrived.acquire(timeout=PATIENCE)


def test_at_most_32_requests_are_in_flight_over_all_calls(store, objects):
    gate = store.always = Gate(requests.IN_FLIGHT)
    wanted = reads(60)
    with ThreadPoolExecutor(12) as callers:
        calls = [callers.submit(lambda: dict(objects.read_many(wanted))) for _ in range(4)]
        alone = [callers.submit(objects.read, "a", 0, 7) for _ in range(4)]
        heads = [callers.submit(objects.head, "a") for _ in range(4)]
        gate.wait()
        gate.opened.set()
        for call in calls:
            check(call.result(), wanted)
        assert {one.result() for one in alone} == {DATA[:7]}
        assert {one.result().size for one in heads} == {len(DATA)}
    assert store.most == requests.IN_FLIGHT


def test_results_come_as_they_arrive(store, objects):
    gate = Gate(1)
    store.script = [gate]
    found = objects.read_many(reads(10))
    first = [next(found)[0] for _ in range(9)]
    assert len(set(first)) == 9
    gate.opened.set()
    (last,) = found
    assert {*first, last[0]} == set(range(10))


def test_a_call_of_many_does_not_hold_up_another(store, objects):
    # The first call fills the threads; what it hands over beyond them is bounded.
    gate = Gate(requests.IN_FLIGHT)
    store.script = [gate] * requests.IN_FLIGHT
    with ThreadPoolExecutor(1) as callers:
        many = callers.submit(lambda: dict(objects.read_many(reads(2000))))
        gate.wait()
        gate.opened.set()
        assert dict(objects.read_many(reads(3))).keys() == {0, 1, 2}
        assert len(many.result()) == 2000


def test_after_an_error_the_rest_is_dropped(store, objects):
    wanted = [Request("missing", 0, 10), *reads(3000)]
    with pytest.raises(StoreNotFoundError, match="missing"):
        list(objects.read_many(wanted))
    assert len(store.asked) < 3000
    check(dict(objects.read_many(reads(40))), reads(40))


def test_a_caller_that_stops_early_drops_the_rest(store, objects):
    found = objects.read_many(reads(3000))
    next(found)
    found.close()
    assert len(store.asked) < 3000
    check(dict(objects.read_many(reads(40))), reads(40))


def test_dropped_requests_are_not_tried_again(store, objects, monkeypatch):
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(requests, name, 10.0 * PATIENCE)
    busy = bad.status(503)
    store.always = lambda answer, line: (busy if line.asked.key == "a" else bad.honest)(
        answer, line
    )
    patient = objects_at("s3://bucket", timeout=100 * PATIENCE)
    others = requests.IN_FLIGHT - 1
    with pytest.raises(StoreNotFoundError):
        list(patient.read_many([*reads(others), Request("missing", 0, 10)]))
    # All threads are free again, not in a pause.
    gate = store.always = Gate(requests.IN_FLIGHT)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(lambda: dict(objects.read_many(reads(40))))
        gate.wait()
        gate.opened.set()
        check(call.result(), reads(40))


@pytest.mark.parametrize("burst", [1, 20, 200])
def test_bursts_of_503_end_well(burst, store, objects, monkeypatch):
    monkeypatch.setattr(requests, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(requests, "_MAX_ATTEMPTS", 10_000)  # The time counts.
    store.script = [bad.status(503, "SlowDown")] * burst
    check(dict(objects.read_many(reads(100))), reads(100))
    assert len(store.asked) == 100 + burst


def test_a_mixture_of_everything_gives_right_bytes(store, objects):
    rng = random.Random(5)
    kinds = [bad.cut, bad.reset, bad.hang_up, bad.garbage, bad.fewer, bad.status(500)]
    store.script = [rng.choice([*kinds, *[bad.honest] * 6]) for _ in range(300)]
    wanted = [Request("a", rng.randrange(40_000), rng.randrange(1, 9000)) for _ in range(150)]
    try:
        check(dict(objects.read_many(wanted)), wanted)
    except RemoteError:  # A request that was unlucky three times.
        assert len(store.asked) > 10


def test_without_threads_the_caller_makes_the_requests(store, objects, monkeypatch):
    monkeypatch.setattr(requests, "_pool", threads.LazyPool(32, "none"))
    monkeypatch.setattr(threads, "start", lambda work, name: None)
    check(dict(objects.read_many(reads(50))), reads(50))
    assert store.most <= 2  # The server may note the end of an answer after the next request.
    with pytest.raises(StoreNotFoundError):
        list(objects.read_many([*reads(3), Request("missing", 0, 1)]))


def test_a_call_within_a_request_thread_ends(store, objects):
    found = requests.arrivals([lambda stop: dict(objects.read_many(reads(40)))] * 40)
    for _, one in found:
        check(one, reads(40))


FORK = """
import os, sys, pickle
from embstore.errors import RemoteError
from embstore.remote.objects import Request
from embstore.remote.urls import objects_at
if __name__ == "__main__":
    objects = objects_at("s3://bucket")
    used = sys.argv[1] == "used"
    if used:
        assert len(list(objects.read_many([Request("a", 0, 10)] * 40))) == 40
    pid = os.fork()
    if pid == 0:
        code = 1
        calls = [
            lambda: objects.read("a", 0, 10),
            lambda: list(objects.read_many([Request("a", 0, 10)] * 40)),
            lambda: objects.find(),
            lambda: objects.put("b", b"x"),
            lambda: objects_at("s3://bucket").head("a"),
            lambda: pickle.loads(pickle.dumps(objects)).head("a"),
        ]
        told = []
        for call in calls:
            try:
                call()
                told.append("done")
            except RemoteError as error:
                told.append("refused" if "spawn" in str(error) else str(error))
        print(*told, flush=True)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    print(len(objects.read("a", 0, 10)))
"""


@pytest.mark.parametrize("use", ["used", "unused"])
def test_a_forked_child_is_told(use, store, no_credentials, tmp_path):
    no_credentials.setenv("AWS_ENDPOINT_URL", store.url)
    program = tmp_path / "fork.py"
    program.write_text(FORK)
    told = run_python(program, use).stdout
    assert told.split() == ["refused" if use == "used" else "done"] * 6 + ["10"]


SPAWN = """
import multiprocessing
from embstore.remote.urls import objects_at
def read(objects):
    return objects.read("a", 0, 10)
if __name__ == "__main__":
    objects = objects_at("s3://bucket")
    here = read(objects)
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(read, (objects,)) == here
    print("same")
"""


def test_a_spawned_child_makes_a_client_of_its_own(store, no_credentials, tmp_path):
    no_credentials.setenv("AWS_ENDPOINT_URL", store.url)
    program = tmp_path / "spawned.py"
    program.write_text(SPAWN)
    assert run_python(program).stdout == "same\n"
