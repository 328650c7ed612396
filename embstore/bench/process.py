"""How does the bench talk to a peer in another process? Values pickled through two pipes.

The other end is `embstore.bench.worker`; the values are those of `embstore.bench.orders`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from embstore.bench.orders import BenchError, Failure, Order, Start, Turn

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.bench.peers import Peer


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
    opened : Turn
        How long opening (or writing) took.
    """

    def __init__(self, peer: Peer, group: Path | None = None, *, prepare: bool = False) -> None:
        self._name = peer.name
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embstore.bench.worker"],
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

    def turn(self, order: Order) -> Turn:
        """Have an order carried out."""
        return self._ask(order)

    def close(self) -> None:
        """End the process, and wait until it has let go of its files."""
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

    def _ask(self, request: Start | Order) -> Turn:
        try:
            pickle.dump(request, self._requests)
            self._requests.flush()
            answer = pickle.load(self._answers)
        except (EOFError, BrokenPipeError) as error:
            status = self._process.wait()
            how = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise BenchError(f"the process of {self._name} was {how}") from error
        if isinstance(answer, Failure):
            raise BenchError(answer.message)
        turn: Turn = answer
        return turn


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise BenchError("the process has no pipe")
    return pipe
