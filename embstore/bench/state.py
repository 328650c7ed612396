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

from embstore.reading.files import ForeignFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import embstore

PRELOADED, WARM, COLD, LIMITED = STATES = ("preloaded", "warm", "cold", "limited")

LIMITED_SHARE = 8  # In the limited state, the table is this many times the memory.
READ_BYTES = 8 << 20
MIN_GROUP_BYTES = 96 << 20  # Python, NumPy and a reader need some memory besides the rows.
CGROUPS = Path("/sys/fs/cgroup")


class NoMemoryGroupError(Exception):
    """A memory cgroup cannot be made here; the message says why."""


class SmallMemoryError(NoMemoryGroupError):
    """A process does not fit into so little memory."""


def files_of(store: embstore.EmbeddingStore) -> list[Path]:
    """Return the files of a store, or the foreign files that are opened in place."""
    files = store.files
    if isinstance(files, ForeignFiles):
        return [files.path(name) for name in files.chosen]
    return files_under(store.path)


def files_under(path: Path) -> list[Path]:
    """Return the regular files below a directory."""
    return sorted(file for file in path.rglob("*") if file.is_file())


def evict(files: Iterable[Path]) -> None:
    """Drop files from the page cache; pages that a process has mapped stay."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)  # Pages that are not on the disk yet would stay.
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
    """Make a memory cgroup, remove it at the end; yield its ``cgroup.procs``.

    A process joins the group by writing its number there. `NoMemoryGroupError` is raised if the
    limit is too small for a process, or the system does not allow a group.
    """
    if limit_bytes < MIN_GROUP_BYTES:
        raise SmallMemoryError(
            f"{limit_bytes >> 20} MiB of memory are too few, a process needs "
            f"{MIN_GROUP_BYTES >> 20} MiB; take a larger table"
        )
    problems = []
    for parent, limit_name in _parents():
        group = parent / f"embstore-bench-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
            _set(group / limit_name, limit_bytes)
        except OSError as error:
            problems.append(f"{error.strerror}: {error.filename}")
            _remove(group)
            continue
        for name in ("memory.swap.max", "memory.swappiness"):
            with suppress(OSError):
                _set(group / name, 0)
        try:
            yield group / "cgroup.procs"
        finally:
            _remove(group)
        return
    raise NoMemoryGroupError("; ".join(problems) or "this system has no memory cgroups")


def _parents() -> Iterator[tuple[Path, str]]:
    """Yield (parent of a new group, name of its limit): this process's group, then its parent."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers == "memory":
                yield CGROUPS / "memory" / name.lstrip("/"), "memory.limit_in_bytes"
            for root in () if controllers else (CGROUPS, CGROUPS / "unified"):
                own = root / name.lstrip("/")
                for parent in (own, own.parent):
                    enabled = parent / "cgroup.subtree_control"
                    if enabled.exists() and "memory" in enabled.read_text().split():
                        yield parent, "memory.max"


def _set(file: Path, value: int) -> None:
    with file.open("r+") as opened:  # "r+" opens the kernel's file; it never creates one.
        opened.write(str(value))


def _remove(group: Path) -> None:
    """Remove a group; the kernel refuses until its last process has ended."""
    for _ in range(100):
        with suppress(OSError):
            group.rmdir()
        if not group.exists():
            return
        time.sleep(0.02)
