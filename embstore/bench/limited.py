"""Lookups in a child process whose memory is limited by a cgroup.

The child has no room for the rows that its lookups must return. It sends back a hash of the rows of
each call, which the parent compares with the hash of the same rows in RAM.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_64_intdigest

import embstore
from embstore.bench import work
from embstore.bench.timing import Call, Limits, Turn, time_calls

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CHILD = "from embstore.bench import limited; limited.serve()"


@dataclass(frozen=True, slots=True)
class Limited:
    """Turns of lookups in a memory cgroup, after one turn that fills the group's memory.

    Parameters
    ----------
    path, group : Path
        The store, and the ``cgroup.procs`` of the group.
    rows, known_rows : int
        Rows of the store, and how many of them the parent has in RAM.
    """

    path: Path
    group: Path
    rows: int
    known_rows: int
    case: work.Case
    limits: Limits
    rounds: int
    seed: int

    def turns(self, matrix: NDArray[Any]) -> list[Turn]:
        """Start the child, and compare its rows with those of ``matrix``.

        Raises
        ------
        ChildProcessError
            If the child fails or is killed.
        ValueError
            If it looked up a wrong row.
        """
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=pickle.dumps(self),
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
        if done.returncode:
            raise ChildProcessError(f"the child process ended with status {done.returncode}")
        turns, hashes = pickle.loads(done.stdout)
        last = max(hashes)
        for number, ids in enumerate(work.fresh(self.case, self.rows, self.seed)):
            known = ids[ids < len(matrix)]
            if number in hashes and hashes[number] != _hash(matrix[known]):
                raise ValueError(f"embstore returned wrong rows for ids {ids.tolist()}")
            if number == last:
                break
        return list(turns)

    def run(self) -> tuple[list[Turn], dict[int, int]]:
        """Join the group and time the turns; return them with the hashes by number of the batch."""
        with self.group.open("w") as file:
            file.write(str(os.getpid()))
        hashes: dict[int, int] = {}

        def check(number: int, ids: NDArray[np.int64], rows: NDArray[Any]) -> int:
            known = ids < self.known_rows
            hashes[number] = _hash(rows[known])
            return int(known.sum())

        with embstore.open(self.path) as store:
            calls = (
                Call(partial(store.lookup, ids), len(ids), partial(check, number, ids))
                for number, ids in enumerate(work.fresh(self.case, self.rows, self.seed))
            )
            turns = [time_calls(calls, self.limits) for _ in range(self.rounds + 1)]
        return turns[1:], hashes


def serve() -> None:
    """Do in the child what the parent sent to stdin; answer on stdout."""
    sys.stdout.buffer.write(pickle.dumps(pickle.load(sys.stdin.buffer).run()))


def _hash(rows: NDArray[Any]) -> int:
    return xxh3_64_intdigest(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
