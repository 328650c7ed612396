"""Every change that a build makes on disk, one function for each kind of step.

The steps are: make a directory, write bytes, link, clone, copy, flush, rename, exchange, remove.
Tests replace them to simulate a disk that is full, fails or loses power. So they are called as
``files.write_at`` and never imported by name.

A failed flush is final: the kernel may have dropped the pages that it could not write, and a second
flush would not report it. So nothing here retries.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from embstore import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The most files that a build keeps open in one place; common limits for a process are 1024 and 256.
MAX_OPEN_FILES = 1024
# Fewer files are flushed one by one.
FEW_FILES = 4
# The kernel is not asked to start smaller writes at once, because it merges those of a file.
START_WRITING_BYTES = 1 << 20
# What a slow disk writes while it does one flush of next to nothing, about.
BYTES_FOR_FLUSH = 256 << 10
# Read and written at once, where the kernel does not copy.
COPIED_BYTES = 4 << 20


def make_directory(path: Path) -> None:
    """Make a directory."""
    path.mkdir()


def create(path: Path) -> int:
    """Create a new file; return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def reopen(path: Path) -> int:
    """Open a file that this build has created; return its descriptor."""
    return os.open(path, os.O_WRONLY)


def write_at(descriptor: int, data: bytes | memoryview, offset: int, path: Path) -> None:
    """Write all of ``data`` into a file at ``offset``, and start writing it to disk.

    A gap between the old end of the file and ``offset`` reads as zeros.
    """
    view = memoryview(data)
    done = 0
    with naming(path):
        while done < len(view):
            count = _write_some(descriptor, view[done:], offset + done)
            if not count:
                raise OSError(errno.EIO, "nothing was written")  # Retrying could loop for ever.
            done += count
    if done >= START_WRITING_BYTES:
        syscalls.start_writing(descriptor, offset, done)


def flush(descriptor: int, path: Path) -> None:
    """Wait until a file is on disk."""
    with naming(path):
        os.fsync(descriptor)


def flush_all(written: Iterable[tuple[int, Path]]) -> None:
    """Wait until several files are on disk, all of them on one file system.

    Each flush of a file ends with a commit of the journal and an empty cache of the disk, which
    takes milliseconds. So a large number of files is flushed with the file system as a whole,
    where `sync_file_system` finds that to be durable and quicker. This is as safe as flushing each:

    1. The sync writes all of their bytes, and commits the journal with their sizes and blocks.
    2. The last file is flushed alone. This empties the disk's cache even if there was nothing left
       for the journal to commit.
    3. An error while a file's bytes were written stays with the open file until it is
       asked for (`syscalls.check_written`). ``syncfs`` tells of none before Linux 5.8, and later
       of none that another process has been told of.

    Elsewhere the writes of all files are started first. Then the first commit covers the other
    files, too.

    Parameters
    ----------
    written : iterable of (int, Path)
        The files, each open since it was written.
    """
    written = list(written)
    if len(written) > FEW_FILES and sync_file_system(written[0][1].parent, len(written)):
        *others, last = written
        flush(*last)
        for descriptor, path in others:
            check_written(descriptor, path)
        return
    for descriptor, _ in written:
        syscalls.start_writing(descriptor, 0, 0)  # The whole file.
    for descriptor, path in written:
        flush(descriptor, path)


def check_written(descriptor: int, path: Path) -> None:
    """Raise what has failed since a file was opened, of the writes that the kernel has done."""
    with naming(path):
        try:
            syscalls.check_written(descriptor)
        except OSError as error:
            if error.errno not in syscalls.UNSUPPORTED:
                raise
            os.fsync(descriptor)


def flush_directory(path: Path) -> None:
    """Wait until a directory's entries are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush(descriptor, path)
    finally:
        os.close(descriptor)


def max_open_files() -> int:
    """Return how many files a build may keep open in one place; it has four such places."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MAX_OPEN_FILES
    return max(min(allowed // 8, MAX_OPEN_FILES), 1)


def sync_file_system(path: Path, flushes: int) -> bool:
    """Wait until the whole file system of a directory is on disk, instead of many flushes.

    Returns False, and does nothing, where this may not reach the disk (see `syscalls.can_sync`), or
    may take longer, because others have left much to be written: a flush that writes next to
    nothing waits for the disk for 0.1 to 3 ms.

    Parameters
    ----------
    path : Path
        The directory.
    flushes : int
        The number of flushes.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not syscalls.can_sync(descriptor) or _unwritten_bytes() > flushes * BYTES_FOR_FLUSH:
            return False
        with naming(path):
            syscalls.sync_file_system(descriptor)
            # Older kernels do not report that the journal has failed; a flush does.
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _unwritten_bytes() -> float:
    """Return how much the kernel has to write to all disks; infinite if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    try:
        return sum(1024 * int(sizes[name].split()[0]) for name in ("Dirty", "Writeback"))
    except (KeyError, ValueError, IndexError):
        return math.inf


def link(name: str, old: int, new: int, roots: tuple[Path, Path]) -> None:
    """Give a file a second name, a hard link, at the same place in another directory.

    Parameters
    ----------
    name : str
        The file's path inside both directories.
    old, new : int
        The open directories.
    roots : tuple of Path
        Their paths, for messages. (Making two paths for each file would take as long as the link.)
    """
    try:
        os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(roots[1] / name)) from error


def clone(source: int, descriptor: int, path: Path, to: Path) -> None:
    """Have a new file share all blocks of another one, until either is written to.

    Parameters
    ----------
    source, descriptor : int
        The open file, and the new one.
    path, to : Path
        Their paths.
    """
    with naming(to):
        syscalls.clone(source, descriptor)


def copy_range(
    source: int, descriptor: int, offset: int, size_bytes: int, path: Path, to: Path
) -> None:
    """Copy a part of a file to the same place in a new one, and start writing it to disk.

    The kernel copies where it can; elsewhere the bytes are read and written.

    Parameters
    ----------
    source, descriptor : int
        The open file, and the new one.
    offset, size_bytes : int
        The part.
    path, to : Path
        Their paths.
    """
    with naming(to):
        done = _copy_in_kernel(source, descriptor, offset, size_bytes)
        while done < size_bytes:
            data = os.pread(source, min(size_bytes - done, COPIED_BYTES), offset + done)
            if not data:
                raise OSError(errno.EIO, f"{path} has become shorter")
            count = _write_some(descriptor, memoryview(data), offset + done)
            if not count:
                raise OSError(errno.EIO, "nothing was written")
            done += count
    if size_bytes >= START_WRITING_BYTES:
        syscalls.start_writing(descriptor, offset, size_bytes)


def _copy_in_kernel(source: int, descriptor: int, offset: int, size_bytes: int) -> int:
    """Copy the first bytes of a part of a file, perhaps none; return their number."""
    done = 0
    if not hasattr(os, "copy_file_range"):
        return done
    while done < size_bytes:
        try:
            count = os.copy_file_range(
                source, descriptor, size_bytes - done, offset + done, offset + done
            )
        except OSError as error:
            if error.errno not in syscalls.UNSUPPORTED:
                raise
            break
        if not count:  # Some file systems say this instead of an error.
            break
        done += count
    return done


def write_files(contents: Iterable[tuple[Path, bytes]]) -> None:
    """Create and flush small files, many at once because the first flush does most of the work."""
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
    """Rename a file or directory."""
    path.rename(to)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False where the system does not support it."""
    return syscalls.exchange(one, other)


def remove_file(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def remove_entry(name: str, directory: int, path: Path) -> None:
    """Remove a file of an open directory; ``path`` is where it was."""
    with naming(path):
        os.unlink(name, dir_fd=directory)


def remove_tree(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a directory with its contents; with ``ignore_errors``, as much as can be removed."""
    shutil.rmtree(path, ignore_errors=ignore_errors)


def open_scratch(directory: Path) -> IO[bytes]:
    """Create a file without a name, which disappears when it is closed or the process ends."""
    return tempfile.TemporaryFile(dir=directory, buffering=0)


def extend_scratch(descriptor: int, size_bytes: int, directory: Path) -> None:
    """Make a scratch file longer and allocate its blocks on the disk now.

    Without them, touching a mapped page on a full disk would kill the process.
    """
    with naming(directory):
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size_bytes)
            return
        zeros = bytes(1 << 20)
        for offset in range(os.fstat(descriptor).st_size, size_bytes, len(zeros)):
            _write_some(descriptor, memoryview(zeros)[: size_bytes - offset], offset)


def write_scratch(descriptor: int, data: memoryview, offset: int, directory: Path) -> None:
    """Write all of ``data`` to a scratch file; nothing has it written to the disk soon."""
    done = 0
    with naming(directory):
        while done < len(data):
            done += _write_some(descriptor, data[done:], offset + done)


def _write_some(descriptor: int, data: memoryview, offset: int) -> int:
    """Write the first bytes of ``data``, perhaps not all; return their number."""
    return os.pwrite(descriptor, data, offset)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an error; a failed write, unlike a failed open, has none."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        problem = f"{os.strerror(error.errno)} while writing"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem += "; free some space, or choose a target on another disk"
        raise OSError(error.errno, problem, str(path)) from error
