"""What does a build change on disk? Nothing but through the functions of this module.

Each of them is one step: make a directory, write bytes, flush, rename, exchange, remove. A test
that wants a disk that is full, fails or loses power replaces them, as ``tools/campaigns/faults.py``
does. They are called as ``files.write_at`` and so on, never imported by name.

A failed flush is final: the kernel may have dropped what it could not write, and a second flush
would not know. So nothing here tries again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from itertools import islice
from typing import IO, TYPE_CHECKING

from embstore import syscalls

try:
    import resource
except ImportError:  # Windows has no such limits.
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


# Many systems allow a process 1024 open files, or 256; this many are enough anywhere.
MAX_OPEN_FILES = 128
# Smaller writes are left to the kernel, which puts those of one file together.
START_WRITING_BYTES = 1 << 20
# Windows translates line ends unless it is told not to.
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def make_directory(path: Path) -> None:
    """Make a directory."""
    path.mkdir()


def create(path: Path) -> int:
    """Create a file that is not there yet; return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)


def reopen(path: Path) -> int:
    """Open a file that this build has created; return its descriptor."""
    return os.open(path, os.O_WRONLY | _BINARY)


def write_at(descriptor: int, data: bytes | memoryview, offset: int, path: Path) -> None:
    """Write all of ``data`` into a file, from ``offset`` on, and have the disk begin with it.

    What lies between the old end of the file and ``offset`` reads as zeros.
    """
    view = memoryview(data)
    done = 0
    with naming(path):
        while done < len(view):
            count = _write_some(descriptor, view[done:], offset + done)
            if not count:
                raise OSError(errno.EIO, "nothing was written")  # And would not be, for ever.
            done += count
    if sys.platform == "linux" and done >= START_WRITING_BYTES:
        syscalls.start_writing(descriptor, offset, done)


def flush(descriptor: int, path: Path) -> None:
    """Wait until a file is on disk."""
    with naming(path):
        os.fsync(descriptor)


def flush_all(written: Iterable[tuple[int, Path]]) -> None:
    """Wait until several files are on disk.

    Each flush ends with a commit of the file system's journal, milliseconds; where the others have
    begun to be written before, the first commit is theirs, too.
    """
    written = list(written)
    if sys.platform == "linux":
        for descriptor, _ in written:
            syscalls.start_writing(descriptor, 0, 0)  # All of it.
    for descriptor, path in written:
        flush(descriptor, path)


def flush_directory(path: Path) -> None:
    """Wait until a directory's entries are on disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush(descriptor, path)
    finally:
        os.close(descriptor)


def max_open_files() -> int:
    """Return how many files a build may keep open in one place; it has three such places."""
    if resource is None:
        return MAX_OPEN_FILES
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MAX_OPEN_FILES
    return max(min(allowed // 8, MAX_OPEN_FILES), 1)


def write_files(contents: Iterable[tuple[Path, bytes]]) -> None:
    """Create small files, and flush them: all at once, as the first flush does most of the work."""
    contents = iter(contents)
    while batch := list(islice(contents, max_open_files())):
        with contextlib.ExitStack() as descriptors:
            written = []
            for path, data in batch:
                descriptor = create(path)
                descriptors.callback(os.close, descriptor)
                write_at(descriptor, data, 0, path)
                written.append((descriptor, path))
            flush_all(written)


def rename(path: Path, to: Path) -> None:
    """Give a file or directory another name."""
    path.rename(to)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False where the system cannot."""
    return syscalls.exchange(one, other)


def remove_file(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def remove_tree(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a directory and all that is in it, or of it what can be removed."""
    shutil.rmtree(path, ignore_errors=ignore_errors)


def open_scratch(directory: Path) -> IO[bytes]:
    """Create a file without a name, which is gone when it is closed, however the process ends."""
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def extend_scratch(descriptor: int, size_bytes: int, directory: Path) -> None:
    """Make a scratch file longer; its room on the disk is taken now.

    Touching a mapped page for which the disk has no room would kill the process.
    """
    with naming(directory):
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
        zeros = bytes(1 << 20)
        for offset in range(os.fstat(descriptor).st_size, size_bytes, len(zeros)):
            _write_some(descriptor, memoryview(zeros)[: size_bytes - offset], offset)


def _write_some(descriptor: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows; one thread writes.
    return os.write(descriptor, data)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say which file an error is about: a failed write, unlike a failed open, does not know."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        problem = f"{os.strerror(error.errno)} while writing"
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            problem += "; free some, or choose a target on another disk"
        raise OSError(error.errno, problem, str(path)) from error
