"""The process that runs one peer, times its calls and compares every row.

Run as ``python -m benchmarks.worker``; it reads and writes the messages of `benchmarks.orders`.

1. It joins the memory cgroup, if there is one, before it holds rows.
2. It opens the peer, and answers how long that took.
3. For each order it draws the ids, times calls, and compares their rows with the table's.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from benchmarks.device import flush, reads_completed
from benchmarks.orders import WORDS, DiskTurn, Failure, Order, Start
from embstore.bench import work
from embstore.bench.machine import block_device
from embstore.bench.state import files_under
from embstore.bench.timing import Call, check_rows, time_calls, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.peers.base import Peer

    # Ids, their words in a lookup by words, and the rows that they must give, if known already.
    Batch = tuple[NDArray[np.int64], list[str] | None, NDArray[Any] | None]

GROUP_ROWS = 4096


class DeviceReads:
    """Counts the reads that a device completes during calls, but not during their checks.

    `time_calls` takes the calls that it times together, times them, and then checks each.
    """

    def __init__(self, device: Path) -> None:
        self._device = device
        self._before: int | None = None
        self.reads = 0

    def around(self, call: Call) -> Call:
        """Count from the first call that is taken to the first that is checked."""
        if self._before is None:
            self._before = reads_completed(self._device)
        return replace(call, check=partial(self._check, call.check))

    def _check(self, check: Callable[[Any], int], rows: Any) -> int:
        if self._before is not None:
            self.reads += reads_completed(self._device) - self._before
            self._before = None
        return check(rows)


class Worker:
    """Takes turns with one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._streams: dict[tuple[str, int, int], NDArray[Any]] = {}
        self._calls: dict[Order, Iterator[Call]] = {}
        self._device = block_device(peer.table.path)

    def turn(self, order: Order) -> DiskTurn:
        """Return the turn of one order."""
        calls = self._calls.get(order)
        if calls is None:
            in_ram = order.limits.bytes_read is None
            calls = self._calls_on(order, self._repeated(order) if in_ram else self._fresh(order))
            self._calls[order] = calls
            if in_ram:
                warm_up(calls)
            else:
                # What a package does only once, such as importing parts of itself, is not timed.
                self._peer.lookup(np.zeros(1, np.int64))
        counter = None if self._device is None else DeviceReads(self._device)
        turn = time_calls(calls if counter is None else map(counter.around, calls), order.limits)
        reads = None if counter is None else counter.reads
        return DiskTurn(turn.nanoseconds, turn.rows, turn.checked_rows, turn.bytes_read, reads)

    def _calls_on(self, order: Order, batches: Iterable[Batch]) -> Iterator[Call]:
        single = order.case.batch == 1 and order.case.work in work.WARM_ONLY
        for ids, words, expected in batches:
            if words is not None:
                run = partial(self._peer.lookup_words, words)
            elif single:
                run = partial(self._peer.one, int(ids[0]))
            else:
                run = partial(self._peer.lookup, ids)
            yield Call(run, len(ids), partial(self._check, ids, expected))

    def _check(
        self, ids: NDArray[np.int64], expected: NDArray[Any] | None, rows: NDArray[Any]
    ) -> int:
        if expected is None:
            expected = self._peer.table.expected(ids)
        return check_rows(self._peer.name, ids, rows, expected)

    def _repeated(self, order: Order) -> Iterator[Batch]:
        """Yield batches of ids that repeat, with the rows that they must give."""
        case, peer = order.case, self._peer
        ids = work.stream_ids(case, peer.table.rows, order.stream_rows, order.seed)
        key = (work.RANDOM if case.work == work.ONE else case.work, len(ids), order.seed)
        if key not in self._streams:
            self._streams[key] = peer.table.expected(ids)
            # Each row is looked up once first, so that it is in RAM and mapped.
            for start in range(0, len(ids), GROUP_ROWS):
                peer.lookup(ids[start : start + GROUP_ROWS])
        expected = self._streams[key]
        words = peer.table.words(ids) if case.work == WORDS else None
        for start in cycle(range(0, len(ids), case.batch)):
            piece = slice(start, start + case.batch)
            yield ids[piece], None if words is None else words[piece], expected[piece]

    def _fresh(self, order: Order) -> Iterator[Batch]:
        """Yield batches of new ids; what they must give is computed when it is compared."""
        for ids in work.fresh(order.case, self._peer.table.rows, order.seed):
            yield ids, self._peer.table.words(ids) if order.case.work == WORDS else None, None


def _prepare(peer: Peer) -> DiskTurn:
    start = time.perf_counter_ns()
    peer.prepare()
    flush(peer.files() if peer.directory is None else files_under(peer.directory))
    return DiskTurn([time.perf_counter_ns() - start], rows=peer.table.rows)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    def answer(value: DiskTurn | Failure) -> None:
        pickle.dump(value, answers)
        answers.flush()

    try:
        start: Start = pickle.load(requests)
        start.peer.load()
        if start.group is not None:
            with start.group.open("w") as file:
                file.write(str(os.getpid()))
        if start.prepare:
            answer(_prepare(start.peer))
            return
        worker = Worker(start.peer)
        opening = time.perf_counter_ns()
        start.peer.open()
        answer(DiskTurn([time.perf_counter_ns() - opening]))
        while True:
            try:
                order: Order = pickle.load(requests)
            except EOFError:
                return
            answer(worker.turn(order))
    except Exception as error:  # Any error is reported to the comparison.
        answer(Failure(f"{type(error).__name__}: {error}", traceback.format_exc()))


if __name__ == "__main__":
    # Standard output becomes standard error, so that a package's prints don't mix with the answers.
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, _answers)
