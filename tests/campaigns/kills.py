"""Builds killed at each step and at random times, under a process that reads the store."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import embstore
from tests.campaigns import tables
from tests.campaigns.faults import Killer, in_one_step, in_two_steps, steps
from tests.campaigns.processes import fork, in_child, in_spawned
from tests.campaigns.tables import STORE, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.campaigns.faults import When

LARGER = tables.Shape(rows=20_000, columns=32, partitions=3, chunk_rows=4096)


@dataclass(frozen=True, slots=True)
class Size:
    """Builds are killed at each ``stride``-th step, and ``kills`` of them at random times."""

    stride: int
    kills: int


SMALL = Size(stride=40, kills=2)
FULL = Size(stride=1, kills=200)


def run(folder: Path, seed: int, size: Size) -> str:
    """Kill builds; return how many."""
    return str(in_spawned(_kill, folder, seed, size))


def _kill(folder: Path, seed: int, size: Size) -> str:
    """Kill builds at each step and at random times; return how many."""
    # Import everything a build needs, so that children need not.
    tables.write(folder / "first", TINY, 0)
    tables.check(folder / "first", TINY)
    count = reads = 0
    for old, way in [(False, in_one_step), (True, in_one_step), (True, in_two_steps)]:
        with way():
            path = folder / f"killed-{old}-{way.__name__}" / STORE
            path.parent.mkdir()
            found = _kill_at_each_step(path, size.stride, old=old)
            count, reads = count + found[0], reads + found[1]
    path = folder / "random" / STORE
    path.parent.mkdir()
    reads += _kill_at_random_times(path, random.Random(seed), size.kills)
    return (
        f"{count:,} builds killed at a step and {size.kills:,} at random times, under a "
        f"reader that opened the store {reads:,} times"
    )


def _kill_at_each_step(path: Path, stride: int, *, old: bool) -> tuple[int, int]:
    """Kill a build at its first step, the next at its second, and so on; count kills and reads."""
    if old:
        in_child(partial(tables.write, path, TINY, 0))
    with _Reader(path, TINY) if old else contextlib.nullcontext() as reader:
        generation = count = 0
        reached = True
        while reached:
            build = partial(tables.write, path, TINY, generation + 1)
            reached = killed(build, when=1 + count * stride)
            allowed = {generation if old else None, generation + 1}
            in_child(partial(_check_and_build, path, TINY, allowed, generation + 2))
            generation += 2
            count += reached
            if not old:
                shutil.rmtree(path)
    return count, 0 if reader is None else reader.opens


def killed(build: Callable[[], None], when: When) -> bool:
    """Build in a fork of this process that dies at a step; return whether it reached the step."""

    def dying() -> None:
        with steps(Killer(when)):
            build()

    return in_child(dying) == -signal.SIGKILL


def _check_and_build(
    path: Path, shape: tables.Shape, allowed: set[int | None], generation: int
) -> None:
    tables.expect(path, shape, allowed)
    tables.build_next(path, shape, generation)


def _kill_at_random_times(path: Path, random_numbers: random.Random, kills: int) -> int:
    """Kill builds of some megabytes, each of which replaces a store."""
    in_child(partial(tables.write, path, LARGER, 0))
    start = time.monotonic()
    in_child(partial(tables.write, path, LARGER, 0))
    seconds = time.monotonic() - start
    generation = 0
    with _Reader(path, LARGER) as reader:
        for _ in range(kills):
            pid = fork(partial(tables.write, path, LARGER, generation + 1))
            time.sleep(random_numbers.uniform(0, 1.1 * seconds))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            allowed: set[int | None] = {generation, generation + 1}
            in_child(partial(_check_and_build, path, LARGER, allowed, generation + 2))
            generation += 2
    return reader.opens


class _Reader:
    """A process that opens the store again and again, and compares all of it.

    Attributes
    ----------
    opens : int
        How often it opened the store; known once it has ended.
    """

    def __init__(self, path: Path, shape: tables.Shape) -> None:
        self.opens = 0
        self._path = path
        self._shape = shape
        self._stop = path.parent.with_name("stop")

    def __enter__(self) -> _Reader:
        self._input, output = os.pipe()
        self._pid = fork(lambda: self._read(output))
        os.close(output)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.touch()
        with os.fdopen(self._input) as file:
            text = file.read()
        status = os.waitpid(self._pid, 0)[1]
        self._stop.unlink()
        if kind is None and (status or not text.isdigit()):
            raise AssertionError(f"the reader: exit status {status}: {text}")
        self.opens = int(text) if text.isdigit() else 0

    def _read(self, output: int) -> None:
        last = opens = 0
        try:
            while not self._stop.exists():
                with embstore.open(self._path) as store:
                    generation = tables.compare(store, self._shape)
                if generation < last:
                    raise AssertionError(f"table {generation} after {last}")
                last, opens = generation, opens + 1
                time.sleep(0.001)
            os.write(output, str(opens).encode())
        except BaseException:
            os.write(output, traceback.format_exc().encode())
            raise
