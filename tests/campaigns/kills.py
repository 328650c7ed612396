"""Works killed at each step and at random times, under a process that reads the store."""

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
from tests.campaigns import cases, tables
from tests.campaigns.cases import Case
from tests.campaigns.faults import Killer, steps
from tests.campaigns.processes import fork, in_child, in_spawned
from tests.campaigns.tables import STORE
from tests.campaigns.works import STEP, Build, Snapshot, without_waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.campaigns.faults import Syncs, When

LARGER = tables.Shape(rows=20_000, columns=32, partitions=3, chunk_rows=4096)


@dataclass(frozen=True, slots=True)
class Size:
    """Works are killed at each ``stride``-th step, and ``kills`` builds at random times."""

    stride: int
    kills: int
    cases: tuple[Case, ...]


SMALL = Size(stride=40, kills=2, cases=cases.FEW)
FULL = Size(stride=1, kills=200, cases=cases.EVERY)


def run(folder: Path, seed: int, size: Size) -> str:
    """Kill works; return how many."""
    return str(in_spawned(_kill, folder, seed, size))


def _kill(folder: Path, seed: int, size: Size) -> str:
    """Kill works at each step, and builds at random times; return how many."""
    count = reads = 0
    for number, case in enumerate(size.cases):
        # Import everything a work needs, so that children need not.
        path = folder / f"first-{number}" / STORE
        path.parent.mkdir()
        case.work.start(path, 0)
        case.work.do_next(path, 1)
        path = folder / f"killed-{number}" / STORE
        path.parent.mkdir()
        try:
            with case.system():
                found = _kill_at_each_step(path, size.stride, case)
        except Exception as error:
            raise AssertionError(f"{case}: {error}") from error
        count, reads = count + found[0], reads + found[1]
    path = folder / "random" / STORE
    path.parent.mkdir()
    reads += _kill_at_random_times(path, random.Random(seed), size.kills)
    return (
        f"{count:,} works killed at a step and {size.kills:,} at random times, under a "
        f"reader that opened the store {reads:,} times"
    )


def _kill_at_each_step(path: Path, stride: int, case: Case) -> tuple[int, int]:
    """Kill a work at its first step, the next at its second, and so on; count kills and reads."""
    work = case.work
    if case.old:
        in_child(partial(_start, case, path, 0))
    with _Reader(path, work) if case.old else contextlib.nullcontext() as reader:
        base = count = 0
        reached = True
        while reached:
            in_child(partial(_start, case, path, base))
            dying = partial(work.do, path, base + 1)
            reached = killed(dying, when=1 + count * stride, syncs=case.syncs)
            allowed = {base if case.old else None, base + 1}
            in_child(partial(_check_and_go_on, work, path, allowed, base + 2))
            base += STEP
            count += reached
            if not case.old:
                shutil.rmtree(path)
    return count, 0 if reader is None else reader.opens


def _start(case: Case, path: Path, base: int) -> None:
    with without_waiting():
        if case.old:
            case.work.start(path, base)
        elif isinstance(case.work, Snapshot):
            case.work.prepare(path, base)


def killed(build: Callable[[], None], when: When, *, syncs: Syncs = False) -> bool:
    """Build in a fork of this process that dies at a step; return whether it reached the step."""

    def dying() -> None:
        with steps(Killer(when), syncs=syncs):
            build()

    return in_child(dying) == -signal.SIGKILL


def _check_and_go_on(work: Build, path: Path, allowed: set[int | None], number: int) -> None:
    work.expect(path, allowed)
    work.do_next(path, number)


def _kill_at_random_times(path: Path, random_numbers: random.Random, kills: int) -> int:
    """Kill builds of some megabytes, each of which replaces a store."""
    in_child(partial(tables.write, path, LARGER, 0))
    start = time.monotonic()
    in_child(partial(tables.write, path, LARGER, 0))
    seconds = time.monotonic() - start
    generation, work = 0, Build(LARGER)
    with _Reader(path, work) as reader:
        for _ in range(kills):
            pid = fork(partial(tables.write, path, LARGER, generation + 1))
            time.sleep(random_numbers.uniform(0, 1.1 * seconds))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            allowed: set[int | None] = {generation, generation + 1}
            in_child(partial(_check_and_go_on, work, path, allowed, generation + 2))
            generation += 2
    return reader.opens


class _Reader:
    """A process that opens the store again and again, and compares all of it.

    Attributes
    ----------
    opens : int
        How often it opened the store; known once it has ended.
    """

    def __init__(self, path: Path, work: Build) -> None:
        self.opens = 0
        self._path = path
        self._work = work
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
                    generation = self._work.compare(store)
                if generation < last:
                    raise AssertionError(f"table {generation} after {last}")
                last, opens = generation, opens + 1
                time.sleep(0.005)  # Leave the processor to the works.
            os.write(output, str(opens).encode())
        except BaseException:
            os.write(output, traceback.format_exc().encode())
            raise
