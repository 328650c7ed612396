"""How is one peer timed? In a process of its own, call by call, every row checked.

Run as ``python -m embstore.bench.worker``; it reads and writes the values of
`embstore.bench.orders`.

1. It joins the memory cgroup, if there is one, before it has any memory worth mentioning.
2. It opens the peer, and answers how long that took.
3. For each order it draws the ids, times calls, and compares what they returned. A few calls are
   timed one after the other before their rows are compared, so that small lookups are measured as
   they are, and not as they are after the processor's caches have been emptied; and many cold ones,
   so that the disk is measured at work, and not after a rest.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from embstore.bench import device, work
from embstore.bench.orders import Failure, Order, Start, Turn
from embstore.bench.state import flush
from embstore.bench.table import files_under

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from embstore.bench.peers import Peer

GROUP_ROWS = 4096
MAX_GROUP = 256
WARM_UP_CALLS = 8
BLOCK_BYTES = 512  # The unit of ru_inblock.


@dataclass(frozen=True, slots=True)
class Batch:
    """One call to come: what to ask, and what must be answered (None: found out afterwards)."""

    ids: NDArray[np.int64]
    words: list[str] | None
    expected: NDArray[Any] | None


class Worker:
    """Carries out orders with one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._streams: dict[tuple[str, int, int], tuple[NDArray[np.int64], NDArray[Any]]] = {}
        self._batches: dict[Order, Iterator[Batch]] = {}
        self._device = device.block_device(peer.table.path)

    def turn(self, order: Order) -> Turn:
        """Carry out one order."""
        batches = self._batches.get(order)
        if batches is None:
            batches = self._repeated(order) if order.again else self._fresh(order)
            self._batches[order] = batches
            if order.again:
                for batch in islice(batches, WARM_UP_CALLS):
                    self._call(batch, order)()
            else:
                # What a package does only once, such as importing parts of itself, is not timed.
                self._peer.lookup(np.zeros(1, np.int64))
        samples: list[int] = []
        rows = bytes_read = device_reads = 0
        group = max(min(order.rows_together // order.case.batch, MAX_GROUP), 1)
        if self._peer.reuse:
            group = 1  # The next call overwrites the rows.
        end = time.perf_counter() + order.seconds
        while not samples or (
            time.perf_counter() < end
            and len(samples) < order.max_calls
            and bytes_read < order.bytes_read
        ):
            todo = [next(batches) for _ in range(group)]
            calls = [self._call(batch, order) for batch in todo]
            blocks_before, reads_before = _blocks(), device.reads_completed(self._device)
            answers = []
            for call in calls:
                begin = time.perf_counter_ns()
                answer = call()
                samples.append(time.perf_counter_ns() - begin)
                answers.append(answer)
                if not order.again and (
                    time.perf_counter() > end
                    or bytes_read + (_blocks() - blocks_before) * BLOCK_BYTES > order.bytes_read
                ):
                    break
            bytes_read += (_blocks() - blocks_before) * BLOCK_BYTES
            device_reads += device.reads_completed(self._device) - reads_before
            for batch, answer in zip(todo, answers, strict=False):
                self._check(batch, answer)
                rows += len(batch.ids)
        return Turn(samples, rows, rows, bytes_read, device_reads if self._device else None)

    def _call(self, batch: Batch, order: Order) -> Callable[[], NDArray[Any]]:
        if batch.words is not None:
            return partial(self._peer.lookup_words, batch.words)
        if order.case.batch == 1 and order.case.work in work.WARM_ONLY:
            return partial(self._peer.one, int(batch.ids[0]))
        return partial(self._peer.lookup, batch.ids)

    def _check(self, batch: Batch, answer: NDArray[Any]) -> None:
        expected = batch.expected
        if expected is None:
            expected = self._peer.table.expected(batch.ids)
        got = np.asarray(answer).reshape(expected.shape)
        if got.dtype != expected.dtype or not _same(got, expected):
            differ = (got != expected).reshape(len(expected), -1).any(axis=1)
            wrong = batch.ids[differ]
            raise ValueError(
                f"{self._peer.name} returned other rows than the table has: "
                f"{len(wrong)} of {len(expected)}, the first for id {wrong[:1].tolist()}"
            )

    def _repeated(self, order: Order) -> Iterator[Batch]:
        """Yield batches of a stream whose ids come again."""
        name, batch = order.case.work, order.case.batch
        length = max(order.stream_rows // batch, 1) * batch
        key = (work.RANDOM if name == work.ONE else name, length, order.seed)
        if key not in self._streams:
            ids = work.draw_ids(name, self._peer.rows, length, order.seed)
            self._streams[key] = ids, self._peer.table.expected(ids)
            # Everything that comes has been looked up once, so it is in RAM and mapped.
            for start in range(0, length, GROUP_ROWS):
                self._peer.lookup(ids[start : start + GROUP_ROWS])
        ids, expected = self._streams[key]
        words = self._peer.table.words(ids) if name == work.WORDS else None
        for start in count(0, batch):
            at = start % length
            piece = slice(at, at + batch)
            yield Batch(ids[piece], None if words is None else words[piece], expected[piece])

    def _fresh(self, order: Order) -> Iterator[Batch]:
        """Yield batches that never end; ids come again only as chance has it."""
        name, batch = order.case.work, order.case.batch
        at_once = max(GROUP_ROWS // batch, 1) * batch
        for step in count():
            seed = order.seed * 1_000_003 + step
            ids = work.draw_ids(name, self._peer.rows, at_once, seed)
            words = self._peer.table.words(ids) if name == work.WORDS else None
            for start in range(0, at_once, batch):
                piece = slice(start, start + batch)
                yield Batch(ids[piece], None if words is None else words[piece], None)


def _same(got: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Compare bits: nan is equal to itself, 0 is not -0."""
    kind = np.dtype(f"u{expected.dtype.itemsize}")
    return np.array_equal(got.view(kind), expected.view(kind))


def _blocks() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock


def _prepare(peer: Peer) -> Turn:
    begin = time.perf_counter_ns()
    peer.prepare()
    flush(peer.files() if peer.directory is None else files_under(peer.directory))
    return Turn([time.perf_counter_ns() - begin], rows=peer.rows)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    def answer(value: Turn | Failure) -> None:
        pickle.dump(value, answers)
        answers.flush()

    try:
        start: Start = pickle.load(requests)
        if start.group is not None:
            with start.group.open("w") as file:
                file.write(str(os.getpid()))
        if start.prepare:
            answer(_prepare(start.peer))
            return
        worker = Worker(start.peer)
        begin = time.perf_counter_ns()
        start.peer.open()
        answer(Turn([time.perf_counter_ns() - begin]))
        while True:
            try:
                order: Order = pickle.load(requests)
            except EOFError:
                return
            answer(worker.turn(order))
    except Exception as error:  # Whatever it is, the bench must hear of it.
        answer(Failure(f"{type(error).__name__}: {error}", traceback.format_exc()))


if __name__ == "__main__":
    # What a package prints must not get between the answers.
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, _answers)
