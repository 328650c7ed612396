"""Does a crash at any point of a build leave the old store, or the new one, or none: never a part?

Builds of small tables, a new one, one over an older one, by exchange and by two renames:

1. Killed at each step that changes the disk (`tools.campaigns.faults`), a write by half. While a
   store is replaced so, another process opens it and compares every row, all the time.
2. The power is cut at each step, and the disk holds anything that it may hold then
   (`tools.campaigns.disks`); and again in the build that follows a killed one.
3. A larger build is killed at random times, without any stand-ins.

After each: there is no store where none was, or the old one, or the new one, and it verifies; the
next build succeeds, and nothing is left beside the store. When a build has returned, its store
stays, whatever the power does.
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import random
import shutil
import signal
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import embstore
from embstore import syscalls
from tools.campaigns import tables
from tools.campaigns.disks import Disk, write_tree
from tools.campaigns.faults import Killer, Recorder, Step, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tools.campaigns.disks import Tree

TINY = tables.Shape(rows=7, columns=2, partitions=2, chunk_rows=2)
LARGER = tables.Shape(rows=20_000, columns=32, partitions=3, chunk_rows=4096)
STORE = "t.embstore"


@dataclass(frozen=True, slots=True)
class Size:
    """Random disks to try for each step at which the power is cut, and how many to build on.

    ``again`` is how many steps a build is killed at whose successor loses power; builds are killed
    at each ``stride``-th step, and ``kills`` of them at random times.
    """

    cuts: int
    builds: float
    again: int
    stride: int
    kills: int


SMALL = Size(cuts=1, builds=0.02, again=0, stride=20, kills=2)
FULL = Size(cuts=6, builds=0.3, again=5, stride=1, kills=200)


def run(folder: Path, seed: int, size: Size) -> str:
    """Crash in every way; return how often."""
    cuts, step_count = cut_power(folder, random.Random(seed), size)
    spawn: Any = multiprocessing.get_context("spawn")
    results: Any = spawn.SimpleQueue()
    # A process of its own, without threads, that may fork.
    process = spawn.Process(target=_kill, args=(folder, seed, size, results))
    process.start()
    process.join()
    done = f"an exit status of {process.exitcode}" if results.empty() else results.get()
    if process.exitcode:
        raise AssertionError(done)
    return f"{cuts:,} disks after a power cut at one of {step_count:,} steps, {done}"


# Power cuts.


def cut_power(folder: Path, random_numbers: random.Random, size: Size) -> tuple[int, int]:
    """Cut the power at each step of builds; return how many disks were looked at, and the steps."""
    cuts = step_count = 0
    for old, way in [(False, in_one_step), (True, in_one_step), (True, in_two_steps)]:
        with way():
            work = folder / "recorded"
            work.mkdir()
            if old:
                tables.write(work / STORE, TINY, 0)
            disk = Disk(work)
            trial = _Trial(folder / "cut", TINY, random_numbers, size)
            log = _record(work, 1)
            trial.follow(copy.deepcopy(disk), log, {0} if old else {None}, 1)
            shutil.rmtree(work)
            step_count += len(log)
            for number in _points(log, random_numbers, size.again):
                killed = copy.deepcopy(disk)
                for step in log[:number]:
                    killed.do(step)
                write_tree(killed.root.most(), work)
                again = _record(work, 2)
                trial.follow(killed, again, {0 if old else None, 1}, 2)
                shutil.rmtree(work)
                step_count += len(again)
            cuts += trial.count
    return cuts, step_count


def _points(log: list[Step], random_numbers: random.Random, count: int) -> list[int]:
    """Return after how many steps to kill a build: some, and right after it took a name."""
    renamed = [n for n, step in enumerate(log, 1) if step.kind in ("rename", "exchange")]
    return sorted({*renamed, *random_numbers.sample(range(len(log)), count)})


def _record(work: Path, generation: int) -> list[Step]:
    recorder = Recorder(work)
    with steps(recorder):
        tables.write(work / STORE, TINY, generation)
    return recorder.log


class _Trial:
    """Looks at disks as a power cut may leave them, once at those that are alike."""

    def __init__(
        self, folder: Path, shape: tables.Shape, random_numbers: random.Random, size: Size
    ) -> None:
        self.count = 0
        self._seen: set[int] = set()
        self._folder = folder
        self._shape = shape
        self._random = random_numbers
        self._size = size

    def follow(self, disk: Disk, log: list[Step], before: set[int | None], after: int) -> None:
        """Cut the power before each step of a log, and after the last one."""
        for number in range(len(log) + 1):
            if number:
                disk.do(log[number - 1])
            allowed = (before if number < len(log) else set()) | {after}
            trees = [disk.root.least(), disk.root.most()]
            trees += [disk.root.cut(self._random) for _ in range(self._size.cuts)]
            for tree in trees:
                try:
                    self._check(tree, allowed, after + 1)
                except Exception as error:
                    where = f"power cut at step {number} of {len(log)}"
                    raise AssertionError(f"{where}: {error!r}: {log[:number][-3:]}") from error

    def _check(self, tree: Tree, allowed: set[int | None], following: int) -> None:
        build_on = self._random.random() < self._size.builds
        # What is beside a store does not matter to a reader, only to the next build.
        matters = {STORE: tree[STORE]} if STORE in tree and not build_on else tree
        key = hash((frozenset(allowed), build_on, _frozen(matters)))
        if key in self._seen:
            return
        self._seen.add(key)
        self.count += 1
        write_tree(tree, self._folder)
        path = self._folder / STORE
        found = tables.check(path, self._shape)
        if found not in allowed:
            raise AssertionError(f"table {found} instead of one of {allowed}")
        if build_on:
            _build_next(path, self._shape, following)
        shutil.rmtree(self._folder)


def _frozen(tree: Tree) -> frozenset[Any]:
    """Return a tree as something that can be hashed."""
    return frozenset(
        (name, part if isinstance(part, bytes) else _frozen(part)) for name, part in tree.items()
    )


def _build_next(path: Path, shape: tables.Shape, generation: int) -> None:
    with steps(lambda _, do: do()):
        tables.write(path, shape, generation)
    if (found := tables.check(path, shape)) != generation:
        raise AssertionError(f"the next build made table {found} instead of {generation}")
    tables.check_alone(path)


@contextlib.contextmanager
def in_one_step() -> Iterator[None]:
    """Replace stores as this system can."""
    yield


@contextlib.contextmanager
def in_two_steps() -> Iterator[None]:
    """Replace stores as systems do that cannot exchange two names."""
    whole = syscalls.exchange
    syscalls.exchange = lambda one, other: False
    try:
        yield
    finally:
        syscalls.exchange = whole


# Killed processes.


def _kill(folder: Path, seed: int, size: Size, results: Any) -> None:
    """Kill builds at each step and at random times; report how many."""
    try:
        # Imports what a build needs, so that children need not.
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
        results.put(
            f"{count:,} builds killed at a step and {size.kills:,} at random times, under a "
            f"reader that opened the store {reads:,} times"
        )
    except BaseException:
        results.put(traceback.format_exc())
        raise


def _kill_at_each_step(path: Path, stride: int, *, old: bool) -> tuple[int, int]:
    """Kill a build at its first step, the next at its second, and so on; count kills and reads."""
    if old:
        _in_child(lambda: tables.write(path, TINY, 0))
    with _Reader(path, TINY) if old else contextlib.nullcontext() as reader:
        generation = count = 0
        killed = True
        while killed:
            number = 1 + count * stride
            killed = _build_killed_at(path, number, generation + 1)
            allowed = {generation if old else None, generation + 1}
            _in_child(lambda: _check_and_build(path, TINY, allowed, generation + 2))  # noqa: B023
            generation += 2
            count += killed
            if not old:
                shutil.rmtree(path)
    return count, 0 if reader is None else reader.opens


def _build_killed_at(path: Path, number: int, generation: int) -> bool:
    """Build, and die at a step; return whether there were so many."""

    def build() -> None:
        with steps(Killer(number)):
            tables.write(path, TINY, generation)

    return _in_child(build) == -signal.SIGKILL


def _check_and_build(
    path: Path, shape: tables.Shape, allowed: set[int | None], generation: int
) -> None:
    found = tables.check(path, shape)
    if found not in allowed:
        raise AssertionError(f"table {found} instead of one of {allowed}")
    _build_next(path, shape, generation)


def _kill_at_random_times(path: Path, random_numbers: random.Random, kills: int) -> int:
    """Kill builds of some megabytes, each of which replaces a store."""
    _in_child(lambda: tables.write(path, LARGER, 0))
    begin = time.monotonic()
    _in_child(lambda: tables.write(path, LARGER, 0))
    seconds = time.monotonic() - begin
    generation = 0
    with _Reader(path, LARGER) as reader:
        for _ in range(kills):
            pid = _fork(lambda: tables.write(path, LARGER, generation + 1))  # noqa: B023
            time.sleep(random_numbers.uniform(0, 1.1 * seconds))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            allowed: set[int | None] = {generation, generation + 1}
            _in_child(lambda: _check_and_build(path, LARGER, allowed, generation + 2))  # noqa: B023
            generation += 2
    return reader.opens


class _Reader:
    """A process that opens the store again and again, and compares all of it.

    Attributes
    ----------
    opens : int
        How often, when it has ended.
    """

    def __init__(self, path: Path, shape: tables.Shape) -> None:
        self.opens = 0
        self._path = path
        self._shape = shape
        self._stop = path.parent.with_name("stop")

    def __enter__(self) -> _Reader:
        self._input, output = os.pipe()
        self._pid = _fork(lambda: self._read(output))
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


def _in_child(work: Callable[[], None]) -> int:
    """Do work in a child, which may be killed; return its exit status."""
    _, status = os.waitpid(_fork(work), 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"exit status {code}; what went wrong is above")
    return code


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
