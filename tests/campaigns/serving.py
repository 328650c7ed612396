"""Servers that are killed and started again, under clients that look up all the time.

Three servers, processes of their own, have a table between them: one has the first half of the
partitions, one the second, and one all. A killer ends one with SIGKILL or SIGSTOP, at random, and
starts it again some time later, at the same port. Clients, processes of several threads, look up by
id and by word, submit, and read bags; some with a short time-out, some pickled or connected again.

1. Each row, id and word is compared with the model: a wrong one ends the campaign.
2. Each call ends within its time-out, and some seconds that a busy machine takes.
3. A call that fails raises RemoteError, and nothing else; the next one may.
4. At the end, with all servers up, the same connections answer.

The small size counts calls instead of seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tools.make_table import table_rows

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS, PARTITIONS = 48, 4
SHARES = ((0, 1), (2, 3), (0, 1, 2, 3))
ASKED = 4  # Calls of a store in one of ours, at most.
SPARE_SECONDS = 60.0  # More than their time-outs: the machine may be busy.
HANG_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Size:
    """Clients, threads in each, rows of the table, and how long each thread goes on.

    It ends after ``calls`` calls or ``seconds`` seconds, and not before ``kills`` servers were
    killed.
    """

    clients: int
    threads: int
    rows: int
    calls: int
    seconds: float
    kills: int


SMALL = Size(clients=2, threads=2, rows=2_000, calls=20, seconds=60, kills=2)
FULL = Size(clients=8, threads=2, rows=50_000, calls=1 << 60, seconds=60, kills=5)


def run(folder: Path, seed: int, size: Size) -> str:
    """Look up while servers are killed; return what happened."""
    path = folder / "t.embstore"
    write_table(path, size.rows)
    spawn = multiprocessing.get_context("spawn")
    killed, results = spawn.Value("q", 0), spawn.SimpleQueue()
    servers = [_Server(path, share) for share in SHARES]
    clients: list[Any] = []
    try:
        addresses = [server.start() for server in servers]
        for number in range(size.clients):
            arguments = (seed * 1000 + number, addresses, size, killed, results)
            clients.append(spawn.Process(target=_client, args=arguments))
            clients[-1].start()
        kills = _kill(servers, clients, random.Random(seed), killed)
        return _told(size, kills, _sum(results, clients))
    finally:
        for process in clients:
            process.kill()
        for server in servers:
            server.kill()


def write_table(path: Path, rows: int) -> None:
    """Build the table: each row and word tells its id."""
    with embstore.StoreWriter(
        path, row_shape=(COLUMNS,), dtype="float32", partitions=PARTITIONS, rows=rows
    ) as writer:
        writer.write(table_rows(np.arange(rows), COLUMNS, 0), [f"w{n}" for n in range(rows)])


class _Server:
    """A server in a process of its own, which keeps its port when it starts again."""

    def __init__(self, path: Path, share: tuple[int, ...]) -> None:
        self._path, self._share = path, share
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = found.getsockname()[1]
        self._process: Any = None

    def start(self) -> str:
        """Start it; return its address once it takes calls."""
        spawn = multiprocessing.get_context("spawn")
        told = spawn.SimpleQueue()
        self._process = spawn.Process(
            target=_serve, args=(self._path, self._share, self._port, told), daemon=True
        )
        self._process.start()
        while told.empty():
            if not self._process.is_alive():
                raise AssertionError(f"a server ended with {self._process.exitcode}")
            time.sleep(0.02)
        address: str = told.get()
        return address

    def stop_for(self, seconds: float) -> None:
        """Have it stand still for some time."""
        os.kill(self._process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _serve(path: Path, share: tuple[int, ...], port: int, told: Any) -> None:
    while True:
        try:
            server = embstore.serve(path, partitions=share, port=port)
        except embstore.RemoteError:  # Connections of the last one may hold the port a little.
            time.sleep(0.05)
        else:
            break
    told.put(server.address)
    server.wait()


def _kill(servers: list[_Server], clients: list[Any], numbers: random.Random, killed: Any) -> int:
    """Kill servers and start them again until all clients have ended; return how many."""
    end = time.monotonic() + HANG_SECONDS
    while any(client.is_alive() for client in clients):
        if time.monotonic() > end:
            raise AssertionError("clients hang")
        time.sleep(numbers.uniform(0, 0.5))
        server = numbers.choice(servers)
        if numbers.random() < 0.2:
            server.stop_for(numbers.uniform(0, 1))
            continue
        server.kill()
        killed.value += 1
        time.sleep(numbers.uniform(0, 1))
        server.start()
    return int(killed.value)


def _client(seed: int, addresses: list[str], size: Size, killed: Any, results: Any) -> None:
    """Look up on several threads; report what was counted, or the tracebacks."""
    counts: Counter[str] = Counter()
    problems: list[str] = []
    lock = threading.Lock()
    late_ms = [0]

    def work(number: int) -> None:
        try:
            found = _Worker(random.Random(seed * 100 + number), addresses, size.rows)
            found.run(size, killed, problems)
        except BaseException:
            problems.append(traceback.format_exc())
        else:
            with lock:
                counts.update(found.counts)
                late_ms.append(int(1000 * found.late))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(size.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put("\n".join(problems) if problems else (dict(counts), max(late_ms)))


class _Worker:
    """A thread that looks up, and compares."""

    def __init__(self, numbers: random.Random, addresses: list[str], rows: int) -> None:
        self._numbers, self._addresses, self._rows = numbers, addresses, rows
        self._ids = np.random.default_rng(numbers.randrange(1 << 32))
        self._store: embstore.ConnectedStore | None = None
        self.counts: Counter[str] = Counter()
        self.late = -1.0  # Seconds that the latest call took more than its time-outs.

    def run(self, size: Size, killed: Any, problems: list[str]) -> None:
        """Call until there is enough; then, once more, with all servers up."""
        end = time.monotonic() + size.seconds
        while not problems:
            enough = self.counts["calls"] >= size.calls or time.monotonic() > end
            if enough and killed.value >= size.kills:
                break
            self._once()
        for _ in range(100):
            if self._store is not None and self._call(_Worker._lookup, self._store):
                return
        raise AssertionError("a connection does not work again")

    def _once(self) -> None:
        store = self._store
        if store is None or self._numbers.random() < 0.02:
            self._connect()
            return
        self._call(self._numbers.choice(CALLS), store)

    def _connect(self) -> None:
        timeout = self._numbers.choice((0.5, 5.0, 20.0))
        arranged: Any = self._addresses
        if self._numbers.random() < 0.5:
            both = self._addresses[2]
            arranged = {part: [self._addresses[part // 2], both] for part in range(PARTITIONS)}
        with suppress(embstore.RemoteError):
            fresh = self._bounded(timeout, lambda: embstore.connect(arranged, timeout=timeout))
            if self._numbers.random() < 0.3:
                fresh = self._bounded(timeout, lambda: pickle.loads(pickle.dumps(fresh)))
            if self._store is not None:
                self._store.close()
            self._store = fresh

    def _call(self, call: Any, store: embstore.ConnectedStore) -> bool:
        """Do one call; return whether it gave an answer."""
        timeout = store._remote.calls.seconds
        self.counts["calls"] += 1
        try:
            self.counts["rows"] += self._bounded(ASKED * timeout, lambda: call(self, store))
        except embstore.RemoteError as error:
            late = "late" if " within " in str(error) else "refused"
            self.counts[late] += 1
            return False
        return True

    def _bounded(self, seconds: float, call: Any) -> Any:
        start = time.monotonic()
        try:
            return call()
        finally:
            took = time.monotonic() - start
            self.late = max(self.late, took - seconds)
            if took > seconds + SPARE_SECONDS:
                raise AssertionError(f"a call of {seconds} s took {took} s")

    def _some(self) -> Any:
        count = self._numbers.choice((1, 7, 300, 4000))
        return self._ids.integers(0, self._rows, count)

    def _lookup(self, store: embstore.ConnectedStore) -> int:
        ids = self._some()
        _compare(store.lookup(ids), ids)
        return len(ids)

    def _submit(self, store: embstore.ConnectedStore) -> int:
        batches = [self._some() for _ in range(3)]
        futures = [store.submit(ids) for ids in batches]
        failed: embstore.RemoteError | None = None
        for future, ids in zip(futures, batches, strict=True):
            try:
                _compare(future.result(), ids)
            except embstore.RemoteError as error:
                failed = error
        if failed is not None:
            raise failed
        return sum(map(len, batches))

    def _words(self, store: embstore.ConnectedStore) -> int:
        ids = self._some()[:300]
        words = [f"w{number}" for number in ids.tolist()]
        if not np.array_equal(store.ids(words), ids) or store.words(ids) != words:
            raise AssertionError("words or ids of others")
        _compare(store.lookup_words(words), ids)
        return len(ids)

    def _bags(self, store: embstore.ConnectedStore) -> int:
        ids = self._some()
        bags = embstore.RaggedIds(ids, [0, len(ids) // 2, len(ids)])
        sums = embstore.embedding_lookup_sparse(store, bags, None, combiner="sum")
        rows = table_rows(ids, COLUMNS, 0).astype(np.float64)
        expected = [rows[: len(ids) // 2].sum(0), rows[len(ids) // 2 :].sum(0)]
        if not np.allclose(sums, expected, rtol=1e-3, atol=1e-3):
            raise AssertionError("sums of other rows")
        return len(ids)


CALLS = (_Worker._lookup, _Worker._lookup, _Worker._submit, _Worker._words, _Worker._bags)


def _compare(rows: Any, ids: Any) -> None:
    if not np.array_equal(rows, table_rows(ids, COLUMNS, 0)):
        raise AssertionError("wrong rows")


def _sum(results: Any, clients: list[Any]) -> Counter[str]:
    """Return what all clients counted."""
    counts: Counter[str] = Counter()
    late_ms = [0]
    for _ in clients:
        if results.empty():
            codes = [client.exitcode for client in clients]
            raise AssertionError(f"a client died: exit statuses {codes}")
        found = results.get()
        if isinstance(found, str):
            raise AssertionError(found)
        counts.update(found[0])
        late_ms.append(found[1])
    counts["late_ms"] = max(late_ms)
    return counts


def _told(size: Size, kills: int, counts: Counter[str]) -> str:
    return (
        f"{len(SHARES)} servers, killed {kills} times, {size.clients} clients x {size.threads} "
        f"threads: {counts['calls']:,} calls of {counts['rows']:,} rows, {counts['late']:,} "
        f"RemoteErrors at their time-out and {counts['refused']:,} others; 0 wrong rows, every "
        f"call ended, the latest {counts['late_ms'] / 1000:.1f} s after its time-out"
    )
