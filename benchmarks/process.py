"""A peer in another process, which answers pickled messages through two pipes.

The other end is `benchmarks.worker`; the messages are those of `benchmarks.orders`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from benchmarks.orders import BenchError, DiskTurn, Failure, Order, Start

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.base import Peer


class Process:
    """A peer in a process of its own; a context manager.

    Parameters
    ----------
    peer : Peer
        The peer.
    group : Path, optional
        The ``cgroup.procs`` of its memory cgroup.
    prepare : bool
        Whether it only writes its files.

    Attributes
    ----------
    opened : DiskTurn
        How long opening (or writing) took.
    """

    def __init__(self, peer: Peer, group: Path | None = None, *, prepare: bool = False) -> None:
        self._name = peer.name
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._requests: IO[bytes] = _pipe(self._process.stdin)
        self._answers: IO[bytes] = _pipe(self._process.stdout)
        try:
            self.opened = self._ask(Start(peer, group, prepare))
        except BaseException:
            self.close()
            raise

    def turn(self, order: Order) -> DiskTurn:
        """Return the turn of an order.

        Raises
        ------
        BenchError
            If the peer fails or its process ends.
        """
        return self._ask(order)

    def close(self) -> None:
        """End the process, and wait until it has closed its files."""
        for pipe in (self._requests, self._answers):
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, request: Start | Order) -> DiskTurn:
        try:
            pickle.dump(request, self._requests)
            self._requests.flush()
            answer = pickle.load(self._answers)
        except (EOFError, BrokenPipeError) as error:
            status = self._process.wait()
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise BenchError(f"the process of {self._name} {how}") from error
        if isinstance(answer, Failure):
            raise BenchError(answer.message)
        turn: DiskTurn = answer
        return turn


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise BenchError("the process has no pipe")
    return pipe
