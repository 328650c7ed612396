"""Rows from servers on this machine, ``serve_rows``: several client processes, one to four servers.

======== =======================================================================================
embstore `embstore.connect` to ``embstore serve`` processes; each serves its share of partitions
flight   the limit: Arrow Flight's ``DoGet`` of as many rows, which its servers have at hand, into
         an array
local    `embstore.open` of the same store in each client
======== =======================================================================================

All clients of a turn begin at the same time. Rows a second are the sum over the clients. Every row
of embstore's last calls is compared with the generator's, outside of the timing.

As a program, this module is a client, or a server of the limit.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.orders import BenchError
from benchmarks.table import GeneratedTable
from embstore.bench.timing import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

OWN, LIMIT, LOCAL = WAYS = ("embstore", "flight", "local")
WARM_UP_CALLS = 8
CHECKED_CALLS = 2
PIECE_BYTES = 1 << 20  # Of a record batch, as embstore's servers have it.
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Client:
    """A process that looks up rows.

    Parameters
    ----------
    way : str
        One of `WAYS`.
    store : str
        The store.
    addresses : sequence of str
        The servers.
    batch : int
        Rows in a call.
    seconds : float
        How long it looks up rows.
    seed : int
        Of its ids.
    """

    way: str
    store: str
    addresses: Sequence[str]
    batch: int
    seconds: float
    seed: int

    def run(self, started: Callable[[], None]) -> list[int]:
        """Return the nanoseconds of each call; ``started`` waits until all clients are ready."""
        table = GeneratedTable.at(Path(self.store))
        random = np.random.default_rng(self.seed)
        with ExitStack() as stack:
            lookup = self._lookup(table, stack)
            for _ in range(WARM_UP_CALLS):
                lookup(random.integers(0, table.rows, self.batch))
            started()
            times: list[int] = []
            last: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
            end = perf_counter() + self.seconds
            while not times or perf_counter() < end:
                ids = random.integers(0, table.rows, self.batch)
                start = perf_counter_ns()
                rows = lookup(ids)
                times.append(perf_counter_ns() - start)
                last = [*last[-CHECKED_CALLS + 1 :], (ids, rows)]
        for ids, rows in last if self.way != LIMIT else ():
            check_rows(self.way, ids, rows, table.expected(ids))
        return times

    def _lookup(
        self, table: GeneratedTable, stack: ExitStack
    ) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
        if self.way == LIMIT:
            return _FlightReader(self.addresses, table, self.batch, stack).read
        if self.way == LOCAL:
            store: Any = stack.enter_context(embstore.open(self.store))
        else:
            store = stack.enter_context(embstore.connect(list(self.addresses)))
        return store.lookup  # type: ignore[no-any-return]


class _FlightReader:
    """Reads as many rows from each server as its share of a call, all at the same time."""

    def __init__(
        self, addresses: Sequence[str], table: GeneratedTable, batch: int, stack: ExitStack
    ) -> None:
        from pyarrow import flight  # noqa: PLC0415

        self._clients = [stack.enter_context(flight.FlightClient(one)) for one in addresses]
        self._table = table
        bounds = np.linspace(0, batch, len(addresses) + 1).astype(int)
        self._shares = [slice(*pair) for pair in pairwise(bounds)]
        self._tickets = [
            flight.Ticket(str(share.stop - share.start).encode()) for share in self._shares
        ]
        self._pool = stack.enter_context(ThreadPoolExecutor(len(addresses)))

    def read(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return as many rows as there are ids."""
        out = np.empty((len(ids), *self._table.row_shape), self._table.dtype)
        flat = out.reshape(len(ids), -1).view(np.uint8)
        targets = [flat[share] for share in self._shares]
        list(self._pool.map(self._fill, self._clients, self._tickets, targets))
        return out

    def _fill(self, client: Any, ticket: Any, target: NDArray[np.uint8]) -> None:
        done = 0
        for chunk in client.do_get(ticket):
            column = chunk.data.column(0)
            rows = np.frombuffer(column.buffers()[1], np.uint8, len(column) * target.shape[1])
            target[done : done + len(column)] = rows.reshape(len(column), -1)
            done += len(column)
        if done != len(target):
            raise BenchError(f"the server sent {done} rows instead of {len(target)}")


def run_limit(row_bytes: int) -> None:
    """Serve rows that are at hand, until the process is ended."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import flight  # noqa: PLC0415

    rows = max(PIECE_BYTES // row_bytes, 1)
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(row_bytes), rows, [None, pa.py_buffer(bytes(rows * row_bytes))]
    )
    piece = pa.record_batch([column], names=["rows"])

    class Server(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types.
        def do_get(self, context: Any, ticket: Any) -> Any:
            wanted = int(ticket.ticket)
            pieces = [piece] * (wanted // rows)
            if wanted % rows:
                pieces.append(piece.slice(0, wanted % rows))
            return flight.RecordBatchStream(pa.Table.from_batches(pieces, piece.schema))

    server = Server("grpc://127.0.0.1:0")
    print(f"serving the limit at grpc://127.0.0.1:{server.port}", flush=True)
    server.wait()


@contextmanager
def servers(way: str, table: GeneratedTable, count: int) -> Iterator[list[str]]:
    """Run servers, each with its share of the partitions; yield their addresses."""
    if way == LOCAL:
        yield []
        return
    with embstore.open(table.path) as store:
        partitions = np.array_split(np.arange(store.partition_count), count)
    with ExitStack() as stack:
        running = [
            stack.enter_context(_program(_server_command(way, table, some.tolist())))
            for some in partitions
        ]
        yield [_line(one).rpartition(" at ")[2] for one in running]


def time_turn(
    way: str, table: GeneratedTable, addresses: Sequence[str], batch: int, plan: Plan, seed: int
) -> Turn:
    """Let all clients look up rows at the same time; return the times of their calls."""
    with ExitStack() as stack:
        running = []
        for number in range(plan.clients):
            client = Client(
                way, str(table.path), addresses, batch, plan.seconds, seed * 1000 + number
            )
            command = ["-m", "benchmarks.served", "client", json.dumps(asdict(client))]
            running.append(stack.enter_context(_program(command)))
        for one in running:
            _line(one)
        for one in running:
            assert one.stdin is not None
            one.stdin.write("begin\n")
            one.stdin.flush()
        times = [json.loads(_line(one)) for one in running]
    rate = sum(len(each) * batch / (sum(each) / 1e9) for each in times)
    return Turn(rate, [value / 1e9 for each in times for value in each])


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: counts of servers, ids in a call, clients, and the length of turns."""

    servers: Sequence[int] = (1, 2, 4)
    batches: Sequence[int] = (256, 4096, 65536)
    clients: int = 2
    rounds: int = 3
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Rows a second of all clients together, and the seconds of their calls."""

    rate: float
    seconds: list[float]


# The turns, by (batch, servers, way).
Found = dict[tuple[int, int, str], list[Turn]]


def measure(table: GeneratedTable, plan: Plan, progress: Callable[[str], None]) -> Found:
    """Return what was measured; all ways take turns."""
    found: Found = {}
    for turn in range(plan.rounds):
        for count in plan.servers:
            for way in WAYS if count == plan.servers[0] else (OWN, LIMIT):
                progress(f"turn {turn + 1} of {plan.rounds}: {shown(way, count)}")
                with servers(way, table, count) as addresses:
                    for batch in plan.batches:
                        key = batch, 0 if way == LOCAL else count, way
                        timed = time_turn(way, table, addresses, batch, plan, turn)
                        found.setdefault(key, []).append(timed)
    return dict(sorted(found.items()))


def shown(way: str, count: int) -> str:
    """Return a way with its count of servers."""
    return way if way == LOCAL else f"{way}, {count} server{'s' if count > 1 else ''}"


def _server_command(way: str, table: GeneratedTable, partitions: list[int]) -> list[str]:
    if way == LIMIT:
        return ["-m", "benchmarks.served", "limit", str(table.row_bytes)]
    chosen = ",".join(map(str, partitions))
    command = ["-m", "embstore.cli", "serve", str(table.path), "--port", "0"]
    return [*command, "--partitions", chosen]


@contextmanager
def _program(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program of Python, and end it."""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError(f"a process ended with status {process.wait()}: {process.args!r}")
    return line.rstrip("\n")


def main() -> None:
    """Be a client or a server of the limit."""
    role, text = sys.argv[1:]
    if role == "limit":
        run_limit(int(text))
        return

    def started() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    print(json.dumps(Client(**json.loads(text)).run(started)), flush=True)


if __name__ == "__main__":
    main()
