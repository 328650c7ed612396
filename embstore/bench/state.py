"""States of the rows before a lookup: in RAM, on disk, or larger than the memory.

========= ========================================================================================
preloaded the store is opened with ``preload=True``
warm      the files are in the page cache, read in order; lookups have touched the mapping
cold      the files are not in the page cache, and the store has just been opened
limited   the process, page cache included, is in a memory cgroup that is smaller than the table
========= ========================================================================================
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
# Python, NumPy and a reader need some memory besides the rows.
MIN_GROUP_BYTES = 96 << 20

CGROUPS = Path("/sys/fs/cgroup")


class NoMemoryGroupError(Exception):
    """A memory cgroup cannot be made here; the message says why."""


def files_under(path: Path) -> list[Path]:
    """Return the regular files below a directory, or the file itself."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def evict(files: Iterable[Path]) -> None:
    """Drop files from the page cache; pages that a process has mapped stay."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # Pages that are not on the disk yet would stay.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_through(files: Iterable[Path]) -> None:
    """Bring files into the page cache by reading them from start to end."""
    buffer = bytearray(READ_BYTES)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Make a memory cgroup, and remove it at the end.

    Yields
    ------
    Path
        Its ``cgroup.procs``. A process joins the group by writing its number there.

    Raises
    ------
    NoMemoryGroupError
        If the limit is too small for a process, or the system does not allow a group.
    """
    if limit_bytes < MIN_GROUP_BYTES:
        raise NoMemoryGroupError(
            f"{limit_bytes >> 20} MiB are too few; a process needs {MIN_GROUP_BYTES >> 20} MiB"
        )
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
            # "r+" opens the kernel's file; it never creates one.
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
    raise NoMemoryGroupError("; ".join(problems) or "this system has no memory cgroups")


def _parents() -> Iterator[tuple[Path, str]]:
    """Yield (parent of a new group, name of its limit): this process's group, then its parent."""
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
    """Remove a group; the kernel refuses until its last process is gone."""
    for _ in range(100):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
