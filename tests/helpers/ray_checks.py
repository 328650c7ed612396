"""A program that checks tables on a Ray cluster of two nodes, and prints how each check ended.

It runs in namespaces of its own (see `tests.helpers.namespaces`). Starting Ray takes seconds, so
one run does all checks, in their order here; the last ones remove a node and end the cluster. Each
check is a function; its docstring does not matter, its name is the name of a test.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import json
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.interop.ray import Lookup, deploy
from tests.helpers.namespaces import ADDRESSES
from tests.helpers.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = ROOT / "docs" / "ray.md"
ROWS = 403
TIMEOUT_SECONDS = 240.0  # Of lookups here; the machine may be busy with other tests.
WORDS = [f"w{number}" for number in range(ROWS)]
NUMBERS = np.random.default_rng(7).standard_normal((ROWS, 12)).astype(np.float32)
CUBES = NUMBERS.reshape(ROWS, 2, 3, 2)
CHECKS: list[Callable[[Any], None]] = []


def check(function: Callable[[Any], None]) -> Callable[[Any], None]:
    CHECKS.append(function)
    return function


@dataclass
class Place:
    """Where checks run.

    Attributes
    ----------
    folder : Path
        For stores.
    logs : Path
        Where Ray writes all of its files; also the temporary directory of everything here.
    cluster, ray : Any
        The cluster of two nodes, and the module.
    """

    folder: Path
    logs: Path
    cluster: Any
    ray: Any
    handles: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> Any:
        """The handle of a table with words: four partitions, two for each actor, two replicas."""
        if "words" not in self.handles:
            path = self.folder / "words.embstore"
            embstore.build(NUMBERS, path, words=WORDS, unk="w3", partitions=4).close()
            self.handles["words"] = deploy(
                path, replicas=2, partitions_per_actor=2, timeout=TIMEOUT_SECONDS
            )
        return self.handles["words"]

    def actors(self, handle: Any) -> list[Any]:
        return [
            self.ray.get_actor(actor.name, namespace=actor.namespace)
            for actor in handle._deployment.actors
        ]

    def places(self, handle: Any) -> list[dict[str, Any]]:
        asked = [actor.place.remote() for actor in self.actors(handle)]
        found: list[dict[str, Any]] = self.ray.get(asked, timeout=TIMEOUT_SECONDS)
        return found

    def kill(self, handle: Any, number: int) -> None:
        """Kill the process of an actor."""
        port = int(self.places(handle)[number]["address"].rpartition(":")[2])
        os.kill(process_of(port), signal.SIGKILL)


def hosts_of(place: Place, handle: Any) -> set[str]:
    """Return the nodes where actors are."""
    return {one["address"].split("/")[2].rpartition(":")[0] for one in place.places(handle)}


def actor_processes() -> list[int]:
    """Return the processes of actors with servers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if "ray::ServerActor" in path.read_text():
                found.append(int(path.parts[2]))
    return found


def process_of(port: int) -> int:
    """Return the process that listens at a port."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in actor_processes():
        for link in Path(f"/proc/{process}/fd").glob("*"):
            with contextlib.suppress(OSError):
                if str(link.readlink()) in inodes:
                    return process
    raise AssertionError(f"no actor listens at port {port}")


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextlib.contextmanager
def raises(kind: type[BaseException], *texts: str) -> Iterator[list[BaseException]]:
    found: list[BaseException] = []
    try:
        yield found
    except kind as error:
        message = f"{error} {getattr(error, '__notes__', '')}"
        assert all(text in message for text in texts), message
        found.append(error)
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


@check
def rows_are_those_of_the_table(place: Place) -> None:
    handle = place.words
    several: list[Any] = [
        [3, 0, 402],
        [[1, 1], [2, 400]],
        7,
        [],
        np.array([5], np.uint8),
        np.arange(ROWS),
        [[[]]],
    ]
    for ids in several:
        wanted = NUMBERS[np.asarray(ids, np.int64)]
        found = handle.lookup(ids)
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    out = np.empty((2, 12), np.float32)
    assert handle.lookup([1, 2], out=out) is out
    np.testing.assert_array_equal(out, NUMBERS[[1, 2]])
    np.testing.assert_array_equal(handle.submit([4, 5]).result(), NUMBERS[[4, 5]])
    assert handle.lookup([9], dtype="float16").dtype == np.float16
    assert handle.store.shape == NUMBERS.shape
    assert handle.fingerprint == handle.store.fingerprint()


@check
def words_are_found(place: Place) -> None:
    handle = place.words
    np.testing.assert_array_equal(handle.lookup_words([["w9", "w0"]]), NUMBERS[[[9, 0]]])
    np.testing.assert_array_equal(handle.lookup_words("absent", missing="unk"), NUMBERS[3])
    assert handle.ids(["w5", "absent"], missing="none").tolist() == [5, -1]
    with raises(embstore.MissingWordError, "absent"):
        handle.lookup_words(["w1", "absent"])


@check
def bags_are_combined(place: Place) -> None:
    bags = embstore.RaggedIds([1, 2, 3, 402], [0, 2, 2, 4])
    for combiner in ("sum", "mean", "sqrtn"):
        found = embstore.embedding_lookup_sparse(place.words.store, bags, None, combiner=combiner)
        wanted = embstore.embedding_lookup_sparse(NUMBERS, bags, None, combiner=combiner)
        np.testing.assert_array_equal(found, wanted)


@check
def actors_have_their_partitions(place: Place) -> None:
    handle = place.words
    assert handle.partitions == ((0, 1), (0, 1), (2, 3), (2, 3))
    assert len(set(handle.names)) == 4
    assert hosts_of(place, handle) == set(ADDRESSES)  # Spread over both nodes.
    assert "403" in str(handle.store.explain(np.arange(ROWS)))


@check
def connections_between_machines_are_encrypted(place: Place) -> None:
    places = place.places(place.words)
    assert all(one["address"].startswith("grpc+tls://10.77.0.") for one in places)
    assert len({one["token"] for one in places}) == len(places)
    assert len({one["tls_root"] for one in places}) == len(places)
    for token, root in ((None, places[0]["tls_root"]), (places[0]["token"], places[1]["tls_root"])):
        with raises(embstore.RemoteError):  # Without the token, or with another's certificate.
            embstore.connect(places[0]["address"], token=token, tls_root=root)


@check
def tasks_and_actors_take_handles(place: Place) -> None:
    ray, handle = place.ray, place.words

    def look(handle: Any, ids: Any) -> Any:
        return handle.lookup(ids)

    class Model:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def rows(self, words: Any) -> Any:
            return self.handle.lookup_words(words)

    task = ray.remote(look)
    found = ray.get(task.remote(handle, [[1, 2], [3, 4]]), timeout=TIMEOUT_SECONDS)
    np.testing.assert_array_equal(found, NUMBERS[[[1, 2], [3, 4]]])
    model = ray.remote(Model).remote(handle)
    found = ray.get(model.rows.remote(["w8", "w7"]), timeout=TIMEOUT_SECONDS)
    np.testing.assert_array_equal(found, NUMBERS[[8, 7]])
    with raises(embstore.MissingWordError, "absent"):
        ray.get(model.rows.remote(["absent"]), timeout=TIMEOUT_SECONDS)
    with raises(embstore.IdRangeError, "id 403 at position 1"):
        ray.get(task.remote(handle, [1, 403]), timeout=TIMEOUT_SECONDS)
    with raises(embstore.IdTypeError):
        ray.get(task.remote(handle, [1.5]), timeout=TIMEOUT_SECONDS)
    ray.kill(model)


@check
def datasets_get_columns_of_rows(place: Place) -> None:
    ray, handle = place.ray, place.words
    rows = [
        {"id": n, "word": f"w{n}", "pair": [n, n + 1], "bag": list(range(n, n + n % 3)), "n": n}
        for n in range(60)
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=2)
    steps = [
        (Lookup(handle, "id", "row"), "numpy"),
        (Lookup(handle, "word", "word_row"), "pyarrow"),
        (Lookup(handle, "pair", "pair_rows"), "numpy"),
        (Lookup(handle, "bag", "bag_sum", combiner="sum"), "pyarrow"),
        (Lookup(handle, "pair", "pair_mean", combiner="mean", dtype="float64"), "pandas"),
    ]
    for step, batch_format in steps:
        dataset = dataset.map_batches(step, batch_format=batch_format, batch_size=16)
    found = dataset.take_all()
    assert len(found) == 60
    for one in found:
        n = one["n"]
        np.testing.assert_array_equal(one["row"], NUMBERS[n])
        np.testing.assert_array_equal(one["word_row"], NUMBERS[n])
        np.testing.assert_array_equal(one["pair_rows"], NUMBERS[[n, n + 1]])
        wanted = NUMBERS[n : n + n % 3].sum(0, dtype=np.float32)
        np.testing.assert_allclose(one["bag_sum"], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one["pair_mean"], NUMBERS[[n, n + 1]].mean(0), rtol=1e-5)


@check
def examples_of_the_page_run(place: Place) -> None:
    folder = place.folder / "page"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "data" / "words.txt", folder / "glove.txt")
    text = "\n".join(re.findall(r"^```pycon\n(.*?)^```", PAGE.read_text(), re.M | re.S))
    assert text.count(">>> ") > 30
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, PAGE.name, None, 0)
    failures: list[str] = []
    with contextlib.chdir(folder):
        found = doctest.DocTestRunner().run(test, out=failures.append, clear_globs=False)
    assert not found.failed, "".join(failures)


@check
def tables_of_other_kinds_are_served(place: Place) -> None:
    path = place.folder / "cubes.embstore"
    local = embstore.build(CUBES, path, partitions=3, strategy="div", encoding="float8_e4m3fn")
    ids = [[5, 402], [0, 5]]
    many: Any = np.int64(99)
    with deploy(str(path), partitions_per_actor=many, timeout=TIMEOUT_SECONDS) as handle:
        assert handle.partitions == ((0, 1, 2),)
        np.testing.assert_array_equal(handle.lookup(ids), local.lookup(ids))
        found = Lookup(handle, "ids", "rows")({"ids": np.array(ids)})["rows"]
        np.testing.assert_array_equal(found, local.lookup(ids))
    local.close()
    url = (place.folder / "bucket").as_uri()
    report = embstore.publish(place.folder / "words.embstore", url)
    cache = place.folder / "cache"
    with deploy(url, cache_dir=cache, cache_limit="1GiB", timeout=TIMEOUT_SECONDS) as handle:
        # A later version is not served, also not after a restart.
        other = place.folder / "other.embstore"
        embstore.build(NUMBERS + 1, other, partitions=4).close()
        embstore.publish(other, url)
        place.kill(handle, 0)
        np.testing.assert_array_equal(handle.lookup(ids), NUMBERS[ids])
    with deploy(url, version=report.version, timeout=TIMEOUT_SECONDS) as handle:
        np.testing.assert_array_equal(handle.lookup_words("w7"), NUMBERS[7])
    file = place.folder / "rows.npy"
    np.save(file, NUMBERS)
    with deploy(file, timeout=TIMEOUT_SECONDS) as handle:
        np.testing.assert_array_equal(handle.lookup(ids), NUMBERS[ids])


@check
def killed_actors_cost_no_answer(place: Place) -> None:
    handle, stop, problems = place.words, threading.Event(), []
    answers = [0, 0]

    def ask(number: int) -> None:
        random = np.random.default_rng(number)
        try:
            while not stop.is_set():
                ids = random.integers(0, ROWS, 50)
                np.testing.assert_array_equal(handle.lookup(ids), NUMBERS[ids])
                answers[number] += 1
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    # One replica of each group, then both replicas of one.
    for killed in ((0,), (3,), (0, 1)):
        before = sum(answers)
        processes = [process_of(_port(place, handle, number)) for number in killed]
        for process in processes:
            os.kill(process, signal.SIGKILL)
        wait_until(lambda: problems or sum(answers) > before + 20, "lookups hang")  # noqa: B023
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems, problems[0]
    assert handle.lookup([1]).shape == (1, 12)
    # New connections are made as well, in this process and in another.
    copied = handle.store.__copy__()
    np.testing.assert_array_equal(copied[[2]], NUMBERS[[2]])
    copied.close()


def _port(place: Place, handle: Any, number: int) -> int:
    return int(place.places(handle)[number]["address"].rpartition(":")[2])


@check
def secrets_are_nowhere(place: Place) -> None:
    handle = place.words
    handle.lookup([1])
    places = place.places(handle)
    secrets = [one["token"] for one in places] + [one["tls_root"].decode()[40:80] for one in places]
    assert len(set(secrets)) == 8
    lookup = Lookup(handle, "ids", "rows")
    shown = [repr(one) for one in (handle, lookup, handle.store, handle.store.source, places[:0])]
    shown += [repr(vars(handle)), repr(vars(lookup)), str(handle._deployment)]
    shown += [pickle.dumps(one).decode("latin-1") for one in (handle, lookup, handle.store)]
    shown += [json.dumps(place.ray._private.state.actors(), default=repr)]
    for pattern in ("[0-9]*/cmdline", "[0-9]*/environ"):
        for path in Path("/proc").glob(pattern):
            with contextlib.suppress(OSError):
                shown.append(path.read_bytes().decode("latin-1"))
    before = len(shown)
    for path in place.logs.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                shown.append(path.read_bytes().decode("latin-1"))
    assert before > 20
    assert len(shown) > before + 20
    assert any("ServerActor" in text for text in shown[before:])
    for text in shown:
        assert not any(secret in text for secret in secrets), text[:1000]
        assert "PRIVATE KEY" not in text, text[:1000]


@check
def actors_that_cannot_start_are_ended(place: Place) -> None:
    path = place.folder / "words.embstore"
    before = len(actor_processes())
    with raises(ValueError, "row_cache", "the actor embstore-words-embstore-"):
        deploy(path, row_cache="1000TiB")
    with raises(embstore.RemoteError, "2 of 2 actors have not started within 1 s"):
        deploy(path, replicas=2, partitions_per_actor=4, resources={"none": 1}, start_timeout=1)
    with raises(embstore.StoreNotFoundError):
        deploy(place.folder / "absent")
    wait_until(lambda: len(actor_processes()) <= before, "actors are left")


@check
def a_replaced_table_is_not_served(place: Place) -> None:
    path = place.folder / "changes.embstore"
    embstore.build(NUMBERS, path, partitions=2).close()
    handle = deploy(path, partitions_per_actor=2, timeout=TIMEOUT_SECONDS)
    handle.lookup([1])
    embstore.build(NUMBERS + 1, path, partitions=2, overwrite=True).close()
    np.testing.assert_array_equal(handle.lookup([1]), NUMBERS[[1]])  # The server has the old one.
    place.kill(handle, 0)
    with raises(embstore.RemoteError, "is another table than the one that was deployed"):
        handle.lookup([1])
    with raises(embstore.RemoteError, "is another table than the one that was deployed"):
        pickle.loads(pickle.dumps(handle)).store.__copy__()
    handle.close()


@check
def actors_that_may_not_restart_end(place: Place) -> None:
    path = place.folder / "words.embstore"
    handle = deploy(path, max_restarts=0, partitions_per_actor=4, timeout=TIMEOUT_SECONDS)
    np.testing.assert_array_equal(handle.lookup([1]), NUMBERS[[1]])
    place.kill(handle, 0)
    with raises(embstore.RemoteError, "deploy again"):
        handle.lookup([1])
    handle.close()


DETACHED = """
import pickle, sys
import ray
from embstore.interop.ray import deploy

ray.init(address=sys.argv[1], log_to_driver=False, _node_ip_address=sys.argv[2])
handle = deploy(sys.argv[3], detached=True, partitions_per_actor=4, timeout=float(sys.argv[4]))
print("handle", pickle.dumps(handle).hex())
"""


@check
def detached_actors_outlive_their_job(place: Place) -> None:
    path = place.folder / "words.embstore"
    arguments = [place.cluster.address, ADDRESSES[0], str(path), str(TIMEOUT_SECONDS)]
    done = subprocess.run(
        [sys.executable, "-c", DETACHED, *arguments], capture_output=True, text=True, check=True
    )
    told = next(line for line in done.stdout.splitlines() if line.startswith("handle "))
    handle = pickle.loads(bytes.fromhex(told.removeprefix("handle ")))
    np.testing.assert_array_equal(handle.lookup([1, 2]), NUMBERS[[1, 2]])
    handle.close()
    with raises(embstore.RemoteError, "deploy again"):
        handle.lookup([1])


@check
def a_forked_child_is_refused(place: Place) -> None:
    handle = place.words
    handle.lookup([1])
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        told = "nothing"
        try:
            handle.lookup([1])
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    assert told.startswith("RemoteError: "), told
    assert "fork" in told


@check
def actors_move_when_their_node_is_lost(place: Place) -> None:
    handle = place.words
    node = place.cluster.worker_nodes.copy().pop()
    place.cluster.remove_node(node, allow_graceful=False)
    np.testing.assert_array_equal(handle.lookup(np.arange(ROWS)), NUMBERS)
    with raises(embstore.IdRangeError):
        handle.lookup(ROWS)

    def have_moved() -> bool:
        with contextlib.suppress(place.ray.exceptions.ActorUnavailableError):
            return hosts_of(place, handle) == {ADDRESSES[0]}
        return False

    wait_until(have_moved, "actors are not at the other node")


@check
def nothing_is_left(place: Place) -> None:
    handle = place.words
    store, other = handle.store, pickle.loads(pickle.dumps(handle))
    handle.close()
    handle.close()  # Again.
    with raises(embstore.StoreClosedError):
        store.lookup([1])
    with raises(embstore.RemoteError, "deploy again"):
        other.lookup([1])
    wait_until(lambda: not actor_processes(), "actors are left")
    place.ray.shutdown()
    with raises(embstore.RemoteError, "call ray.init first"):
        other.lookup([1])
    with raises(embstore.RemoteError, "call ray.init first"):
        deploy(place.folder / "words.embstore")
    place.cluster.shutdown()
    assert not [name for name in _commands() if "ray" in name.split("\0")[0]]


def _commands() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.parts[2] != str(os.getpid()):
            with contextlib.suppress(OSError):
                yield path.read_text()


def main() -> None:
    ray: Any = importlib.import_module("ray")
    cluster_utils: Any = importlib.import_module("ray.cluster_utils")
    folder = Path(tempfile.gettempdir())
    options: dict[str, Any] = {"object_store_memory": 100 << 20, "include_dashboard": False}
    logs = folder / "ray"  # Ray keeps the address of the cluster there in any case.
    logs.mkdir()
    options |= {"temp_dir": str(logs), "num_cpus": 2}
    head = {"node_ip_address": ADDRESSES[0], **options}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(node_ip_address=ADDRESSES[1], **options)
    ray.init(
        address=cluster.address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=ADDRESSES[0],
    )
    place = Place(folder, logs, cluster, ray)
    for function in CHECKS:
        begin, problem = time.monotonic(), ""
        try:
            function(place)
        except BaseException:
            problem = traceback.format_exc()
        seconds = round(time.monotonic() - begin, 1)
        print(json.dumps([function.__name__, problem, seconds]), flush=True)


if __name__ == "__main__":
    main()
