"""Failing disks: a work ends with the disk's error, publishes nothing, and leaves nothing.

1. Each step of a work fails (`tests.campaigns.faults`) with each error of a disk; of a write, half
   was done. The work ends with that error, which names a path; the old store is whole, or there is
   none; a file whose flush failed is not flushed again; the next work succeeds, in the same
   process.
2. An error after the new store has its name cannot take the name back, and says so.
3. Writes that the system does only in part lose nothing, and a write of no bytes is an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

from tests.campaigns import cases
from tests.campaigns.cases import BUILDS, Case
from tests.campaigns.faults import Failer
from tests.campaigns.tables import STORE
from tests.campaigns.works import STEP, Build, Snapshot, without_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR)


@dataclass(frozen=True, slots=True)
class Size:
    """Errors to try at a step, the largest stride between steps, builds with short writes."""

    errors: int
    stride: int
    builds: int
    cases: tuple[Case, ...]


SMALL = Size(errors=1, stride=40, builds=2, cases=cases.FEW)
FULL = Size(errors=len(ERRORS), stride=1, builds=300, cases=cases.EVERY)


def run(folder: Path, seed: int, size: Size) -> str:
    """Fail in every way; return how often."""
    random_numbers = random.Random(seed)
    count = 0
    for case in size.cases:
        # What a dead build left behind matters to all works alike.
        for leftover in (False, True) if case in BUILDS else (random_numbers.random() < 0.5,):
            path = folder / "failing" / STORE
            path.parent.mkdir()
            try:
                with case.system():
                    count += _fail_at_each_step(path, random_numbers, size, case, leftover=leftover)
            except Exception as error:
                raise AssertionError(f"{case}: {error!r}") from error
            shutil.rmtree(path.parent)
    for _ in range(size.builds):
        _write_little_by_little(folder / "short", random_numbers)
    return (
        f"{count:,} works failed at a step, each with its error and without a trace; "
        f"{size.builds} builds with short writes, nothing lost"
    )


def _fail_at_each_step(
    path: Path, random_numbers: random.Random, size: Size, case: Case, *, leftover: bool
) -> int:
    """Fail a work at its first step, the next at its second, and so on."""
    base = number = count = 0
    failed = True
    while failed:
        number += 1 + random_numbers.randrange(size.stride)
        for error_number in random_numbers.sample(ERRORS, size.errors):
            with without_waiting():
                if case.old:
                    case.work.start(path, base)
                elif isinstance(case.work, Snapshot):
                    case.work.prepare(path, base)
            if leftover:
                _leave(path, random_numbers)
            failed = _fail(path, number, error_number, base, case)
            count += failed
            case.work.do_next(path, base + 2)
            base += STEP
            if not case.old:
                shutil.rmtree(path)
    return count


def _leave(path: Path, random_numbers: random.Random) -> None:
    """Leave behind the files of a dead build."""
    left = path.with_name(f".{path.name}.building")
    (left / "partitions" / "0").mkdir(parents=True)
    names = ("owner.json", "zarr.json", "partitions/0/zarr.json")
    for name in names[: random_numbers.randrange(4)]:
        (left / name).write_bytes(b"{}")


def _fail(path: Path, number: int, error_number: int, before: int, case: Case) -> bool:
    """Work, and fail at a step; return whether the work had that many steps."""
    failer = Failer(number, error_number)
    try:
        with case.steps(failer):
            case.work.do(path, before + 1)
    except OSError as error:
        if failer.failed is None:
            raise
        _check_error(path, failer, error, error_number)
        in_place = "the new store is in place" in str(error)
    else:
        if failer.failed is not None:
            raise AssertionError(f"{failer.failed} failed, but the work succeeded")
        return False
    case.work.expect(path, {before + 1 if in_place else before if case.old else None})
    if in_place:
        return True
    # The files of a dead build stay until the build creates files of its own.
    if failer.failed.kind == "create" or any(step.kind == "create" for step in failer.before):
        case.work.check_alone(path)
    if any(step.kind == "flush" and step.path == failer.failed.path for step in failer.after):
        raise AssertionError(f"{failer.failed} failed, and was flushed again")
    return True


def _check_error(path: Path, failer: Failer, error: OSError, error_number: int) -> None:
    if error.errno != error_number:
        raise AssertionError(
            f"{failer.failed}: expected error {error_number}, found {error!r}"
        ) from error
    if not str(error.filename).startswith(str(path.parent)):
        raise AssertionError(f"{failer.failed}: {error!r} does not name a path") from error


def _write_little_by_little(folder: Path, random_numbers: random.Random) -> None:
    """Build while the system does only a part of each write; then with a write of no bytes."""
    folder.mkdir()
    path, build = folder / STORE, Build()
    with short_writes(random_numbers, None):
        build.do(path, 1)
    build.expect(path, {1})
    try:
        with short_writes(random_numbers, random_numbers.randrange(20)):
            build.do(path, 2)
    except OSError as error:
        if error.errno != errno.EIO or error.filename is None:
            raise
    else:
        raise AssertionError("a write of no bytes did not fail the build")
    build.expect(path, {1})
    build.check_alone(path)
    shutil.rmtree(folder)


@contextlib.contextmanager
def short_writes(random_numbers: random.Random, empty: int | None) -> Iterator[None]:
    """Do only a part of each write of this process, and no bytes of write number ``empty``."""
    pwrite = os.pwrite
    left = -1 if empty is None else empty

    def write_some(descriptor: int, data: memoryview, offset: int) -> int:
        nonlocal left
        left -= 1
        if left == -1:
            return 0
        return pwrite(descriptor, data[: random_numbers.randint(1, len(data))], offset)

    with mock.patch.object(os, "pwrite", write_some):
        yield
