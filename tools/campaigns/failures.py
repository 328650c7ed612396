"""Does a build end with the error of the disk, publish nothing, and leave nothing?

1. Each step of a build fails (`tools.campaigns.faults`) with each error that a disk has; of a
   write, half was done. The build ends with that error, which names a path; the old store is
   whole, or there is none; no file is flushed again that could not be; the next build succeeds, in
   the same process.
2. What fails after the new store has got its name cannot take it back, and the error says so.
3. Writes that the system does only a part of lose nothing, and one of nothing is an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.writing import files
from tools.campaigns import tables
from tools.campaigns.crash import STORE, TINY, in_one_step, in_two_steps
from tools.campaigns.faults import Failer, steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR)


@dataclass(frozen=True, slots=True)
class Size:
    """How many errors to try at a step, the most steps to the next, and builds of short writes."""

    errors: int
    stride: int
    builds: int


SMALL = Size(errors=1, stride=20, builds=3)
FULL = Size(errors=len(ERRORS), stride=1, builds=300)


def run(folder: Path, seed: int, size: Size) -> str:
    """Fail in every way; return how often."""
    random_numbers = random.Random(seed)
    count = 0
    for old, way in [(False, in_one_step), (True, in_one_step), (True, in_two_steps)]:
        for leftover in (False, True):
            with way():
                path = folder / "failing" / STORE
                path.parent.mkdir()
                count += _fail_at_each_step(path, random_numbers, size, old=old, leftover=leftover)
                shutil.rmtree(path.parent)
    for _ in range(size.builds):
        _write_little_by_little(folder / "short", random_numbers)
    return (
        f"{count:,} builds failed at a step, each with its error and without a trace; "
        f"{size.builds} builds with short writes, nothing lost"
    )


def _fail_at_each_step(
    path: Path, random_numbers: random.Random, size: Size, *, old: bool, leftover: bool
) -> int:
    """Let a build fail at its first step, the next at its second, and so on."""
    generation = number = count = 0
    if old:
        tables.write(path, TINY, 0)
    failed = True
    while failed:
        number += 1 + random_numbers.randrange(size.stride)
        for error_number in random_numbers.sample(ERRORS, size.errors):
            if leftover:
                _leave(path, random_numbers)
            failed = _fail(path, number, error_number, generation, old=old)
            count += failed
            generation += 2
            with steps(lambda _, do: do()):
                tables.write(path, TINY, generation)
            _expect(tables.check(path, TINY), generation)
            tables.check_alone(path)
            if not old:
                shutil.rmtree(path)
    return count


def _leave(path: Path, random_numbers: random.Random) -> None:
    """Leave behind what a build that died may leave."""
    left = path.with_name(f".{path.name}.building")
    (left / "partitions" / "0").mkdir(parents=True)
    names = ("owner.json", "zarr.json", "partitions/0/zarr.json")
    for name in names[: random_numbers.randrange(4)]:
        (left / name).write_bytes(b"{}")


def _fail(path: Path, number: int, error_number: int, before: int, *, old: bool) -> bool:
    """Build, and fail at a step; return whether there were so many."""
    failer = Failer(number, error_number)
    try:
        with steps(failer):
            tables.write(path, TINY, before + 1)
    except OSError as error:
        if failer.failed is None:
            raise
        _check_error(path, failer, error, error_number)
        in_place = "the new store is in place" in str(error)
    else:
        if failer.failed is not None:
            raise AssertionError(f"{failer.failed} failed, and the build did not")
        return False
    _expect(tables.check(path, TINY), before + 1 if in_place else before if old else None)
    if in_place:
        return True
    # What a dead build left is there until the build has begun to create files of its own.
    if failer.failed.kind == "create" or any(step.kind == "create" for step in failer.before):
        tables.check_alone(path)
    if any(step.kind == "flush" and step.path == failer.failed.path for step in failer.after):
        raise AssertionError(f"{failer.failed} failed, and was tried again")
    return True


def _check_error(path: Path, failer: Failer, error: OSError, error_number: int) -> None:
    if error.errno != error_number:
        raise AssertionError(f"{failer.failed}: error {error_number} became {error!r}") from error
    if not str(error.filename).startswith(str(path.parent)):
        raise AssertionError(f"{failer.failed}: {error!r} does not name a path") from error


def _expect(found: int | None, expected: int | None) -> None:
    if found != expected:
        raise AssertionError(f"table {found} instead of {expected}")


def _write_little_by_little(folder: Path, random_numbers: random.Random) -> None:
    """Build while the system does only a part of each write; then, of one, nothing."""
    folder.mkdir()
    path = folder / STORE
    with _writes(random_numbers, None):
        tables.write(path, TINY, 1)
    _expect(tables.check(path, TINY), 1)
    try:
        with _writes(random_numbers, random_numbers.randrange(20)):
            tables.write(path, TINY, 2)
    except OSError as error:
        if error.errno != errno.EIO or error.filename is None:
            raise
    else:
        raise AssertionError("nothing was written, and the build did not fail")
    _expect(tables.check(path, TINY), 1)
    tables.check_alone(path)
    shutil.rmtree(folder)


@contextlib.contextmanager
def _writes(random_numbers: random.Random, number: int | None) -> Iterator[None]:
    """Do a part of each write only; of the one with a number, nothing."""
    whole = files._write_some
    left = -1 if number is None else number

    def write_some(descriptor: int, data: memoryview, offset: int) -> int:
        nonlocal left
        left -= 1
        if left == -1:
            return 0
        return os.pwrite(descriptor, data[: random_numbers.randint(1, len(data))], offset)

    files._write_some = write_some
    try:
        yield
    finally:
        files._write_some = whole
