"""Where are the rows before a lookup: in RAM, on disk, or is there not RAM enough?

========= ====================================================================================
preloaded the store was opened with ``preload=True``
warm      the page cache holds the files, read from begin to end; lookups have touched the mapping
cold      the page cache holds none of them, and the process has just opened them
limited   the process, page cache included, lives in a memory cgroup smaller than the table
========= ====================================================================================
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PRELOADED, WARM, COLD, LIMITED = STATES = ("preloaded", "warm", "cold", "limited")

READ_BYTES = 8 << 20
# Python, NumPy and a reader need some memory that is not rows.
LEAST_GROUP_BYTES = 96 << 20

CGROUPS = Path("/sys/fs/cgroup")


class NoMemoryGroupError(Exception):
    """A memory cgroup cannot be made here; the message says why."""


def flush(files: Iterable[Path]) -> None:
    """Have files written to the disk."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def evict(files: Iterable[Path]) -> None:
    """Drop files from the page cache; pages that some process has mapped stay."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # Pages that are not on disk yet would stay.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_through(files: Iterable[Path]) -> None:
    """Bring files into the page cache, reading each from begin to end."""
    buffer = bytearray(READ_BYTES)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Make a memory cgroup, and remove it in the end.

    Yields
    ------
    Path
        Its ``cgroup.procs``: a process that writes its number there is in the group.

    Raises
    ------
    NoMemoryGroupError
        If there is none to be had.
    """
    if limit_bytes < LEAST_GROUP_BYTES:
        least = LEAST_GROUP_BYTES >> 20
        raise NoMemoryGroupError(f"{limit_bytes >> 20} MiB are too few, a process needs {least}")
    group = _make_group(limit_bytes)
    try:
        yield group / "cgroup.procs"
    finally:
        _remove(group)


def _make_group(limit_bytes: int) -> Path:
    problems = []
    for parent, limit_name in _parents():
        group = parent / f"embstore-bench-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
            # A file that the kernel made is there; a new one would be refused, and is not wanted.
            with (group / limit_name).open("r+") as file:
                file.write(str(limit_bytes))
        except OSError as error:
            problems.append(f"{error.strerror}: {error.filename}")
            _remove(group)
            continue
        for name, value in (("memory.swap.max", "0"), ("memory.swappiness", "0")):
            with suppress(OSError), (group / name).open("r+") as file:
                file.write(value)
        return group
    raise NoMemoryGroupError("; ".join(problems) or "there are no memory cgroups on this system")


def _parents() -> Iterator[tuple[Path, str]]:
    """Yield groups to make one in, with the name of the limit: below one's own, or beside it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "memory":
            yield CGROUPS / "memory" / name.lstrip("/"), "memory.limit_in_bytes"
        elif not controllers:
            for root in (CGROUPS, CGROUPS / "unified"):
                own = root / name.lstrip("/")
                for parent in (own, own.parent):
                    enabled = parent / "cgroup.subtree_control"
                    if enabled.exists() and "memory" in enabled.read_text().split():
                        yield parent, "memory.max"


def _remove(group: Path) -> None:
    """Remove a group; it lasts until its last process is gone altogether."""
    for _ in range(100):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
