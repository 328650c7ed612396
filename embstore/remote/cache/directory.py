"""The directory of a cache: files of several stores, within one limit, shared by processes.

Below the caller's directory::

    embstore-cache/                      mode 0700: a file that is mapped must not be changed
        lock                             held by a process that adds or removes names
        STORE/partitions/0/c/3/0         a whole chunk file, under its name in the store
        STORE/partitions/0/c/3/.0.part   one that is being fetched; its fetcher holds a lock on it

1. Who wants to fetch a file claims it: under the lock, it makes room and creates the ``.part`` in
   its full size. Another process finds it locked, and fetches something else. When a fetcher is
   killed, the system releases its lock, and the next look at all files removes what it left.
2. A file gets its name when it is whole. It is not flushed: after a crash of the system, its
   checksum tells whether it is whole, since it is checked before it is mapped.
3. The modification time of a file is that of its last use, which processes note once a minute.
   Files that were used least recently are removed first. Who has one mapped keeps its rows.
4. The limit counts everything of the kinds above, in full size. Anything else is left alone.
5. The lock has their sum in it, as of the last look at all files, and what was claimed since. So it
   is never too small, and files are looked at only if it says that there is no room.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from embstore.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ROOT_NAME = "embstore-cache"
LOCK_NAME = "lock"
PART_SUFFIX = ".part"
# What is always left of a file system: a twentieth, or this much.
LEFT_BYTES = 1 << 30
LOCK_SECONDS = 20.0
_LOCK_STEP_SECONDS = 0.005

_OURS = re.compile(
    r"[0-9a-f]{32}(?:-[0-9a-f]{32})?/(?:partitions/\d+/c(?:/\d+){1,33}|"
    r"vocabulary/(?:bytes|offsets|slots)/c/\d+)"
)
# Of more files than this, some more are removed at once than must be, so that looks are few.
MANY_FILES = 1024
_SPARE_SHARE = 1 / 64
_SUM_DIGITS = 20

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Entry(NamedTuple):
    """A file of the cache: its path below the root, size, last use in ns, and if it is a part."""

    name: str
    size: int
    used: int
    is_part: bool


class CacheDirectory:
    """The directory of a cache.

    Every method but `open` and `mark` raises OSError if the system refuses.

    Parameters
    ----------
    path : Path
        The caller's directory.
    limit : int, optional
        Most bytes of all files together; by default what the file system has.

    Attributes
    ----------
    evicted_files : int
        How many files this process has removed to make room.
    """

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self.root = path / ROOT_NAME
        self.limit = limit
        self.evicted_files = 0
        self._has_looked = False  # At all files.

    def open(self, name: str) -> int | None:
        """Return a descriptor of a whole file; None if it is not there or not to be trusted."""
        try:
            self._check_root()
            descriptor = os.open(self.root / name, os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def has(self, name: str, size: int) -> bool:
        """Say whether there is a file of a size."""
        try:
            return os.lstat(f"{self.root}/{name}").st_size == size
        except OSError:
            return False

    def identity(self, name: str) -> tuple[int, int] | None:
        """Return the device and inode of a file; None if it is missing."""
        try:
            status = os.lstat(f"{self.root}/{name}")
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def mark(self, name: str) -> None:
        """Note that a file was used now, if possible."""
        now = time.time_ns()  # The clock of the file system has steps of some milliseconds.
        with suppress(OSError):
            os.utime(f"{self.root}/{name}", ns=(now, now), follow_symlinks=False)

    def claim(self, name: str, size: int) -> Part | None:
        """Make room for a file of a size, and start it.

        Returns
        -------
        Part or None
            What to write to; None if the file is there, or another process is fetching it.
        """
        with self._locked() as lock:
            if self.has(name, size):
                return None
            path = self.root / name
            part = path.with_name(f".{path.name}{PART_SUFFIX}")
            if part.exists():
                if _is_locked(str(part)):
                    return None
                part.unlink()
            self._reserve(size, lock)
            part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _allocate(descriptor, size)
            except BaseException:
                part.unlink(missing_ok=True)
                os.close(descriptor)
                raise
        return Part(self, path, part, descriptor)

    def remove(self, name: str, descriptor: int) -> None:
        """Remove a file, which is open, unless another one has its name by now."""
        with self._locked():
            status = os.fstat(descriptor)
            if self.identity(name) == (status.st_dev, status.st_ino):
                self._unlink(name)

    def entries(self) -> list[Entry]:
        """Return all files of the cache."""
        with self._locked():
            return self._entries()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = self._lock()
        try:
            yield descriptor
        finally:
            # Not only closed: a forked child may have the descriptor, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _lock(self) -> int:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            self._make_root()
            descriptor = os.open(self.root / LOCK_NAME, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:  # Else the directory was removed meanwhile.
                    return descriptor
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise OSError(
                        errno.EBUSY, f"{self.root / LOCK_NAME} is held by another process"
                    ) from error
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            time.sleep(_LOCK_STEP_SECONDS)

    def _make_root(self) -> None:
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self.root.mkdir(mode=0o700)
        self._check_root()

    def _check_root(self) -> None:
        """Raise unless only this user, and root, can change what is in the directory."""
        status = os.lstat(self.root)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{self.root} is not a directory")
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
            raise PermissionError(
                errno.EPERM,
                f"{self.root} belongs to another user, or others may write to it; remove it, or "
                f"choose another {parameter('cache_dir')}",
            )

    def _entries(self) -> list[Entry]:
        """Return all files; remove parts without a fetcher."""
        found, root = [], f"{self.root}/"
        for entry in _walk(root):
            name = entry.path[len(root) :]
            folder, _, file = name.rpartition("/")
            is_part = file.startswith(".") and file.endswith(PART_SUFFIX)
            whole = f"{folder}/{file[1 : -len(PART_SUFFIX)]}" if is_part else name
            if not _OURS.fullmatch(whole):
                continue
            if is_part and not _is_locked(entry.path):
                self._unlink(name)
                continue
            with suppress(OSError):  # Removed by hand.
                status = entry.stat(follow_symlinks=False)
                found.append(Entry(name, status.st_size, status.st_mtime_ns, is_part))
        return found

    def _reserve(self, size: int, lock: int) -> None:
        """Make room for ``size`` bytes, and count them; ``lock`` is the open lock."""
        counted = os.pread(lock, _SUM_DIGITS, 0)
        is_known = self._has_looked and len(counted) == _SUM_DIGITS and counted.isdigit()
        used = int(counted) if is_known else 0
        if not is_known or self._excess(size, used) > 0:
            entries = self._entries()
            used = sum(entry.size for entry in entries)
            self._has_looked = True
            used -= self._make_room(self._excess(size, used), size, entries)
        os.pwrite(lock, b"%0*d" % (_SUM_DIGITS, used + size), 0)

    def _make_room(self, excess: int, size: int, entries: list[Entry]) -> int:
        """Remove the files that were used least recently, to free ``excess``; return the bytes."""
        whole = sorted((entry for entry in entries if not entry.is_part), key=lambda one: one.used)
        there = sum(entry.size for entry in whole)
        if excess > there:
            raise OSError(
                errno.ENOSPC,
                f"{self.root} has no room for {size} bytes more: the disk is full, or files that "
                f"are being fetched take up {parameter('cache_limit')}",
            )
        if excess > 0 and len(whole) > MANY_FILES:
            excess += int(there * _SPARE_SHARE)
        freed = 0
        for entry in whole:
            if freed >= excess:
                break
            self._unlink(entry.name)
            self.evicted_files += 1
            freed += entry.size
        return freed

    def _excess(self, size: int, used: int) -> int:
        """Return how many bytes must go before ``size`` more can come."""
        system = os.statvfs(self.root)
        left = min(LEFT_BYTES, system.f_blocks * system.f_frsize // 20)
        excess = size + left - system.f_bavail * system.f_frsize
        return excess if self.limit is None else max(excess, used + size - self.limit)

    def _unlink(self, name: str) -> None:
        """Remove a file, and the directories that it leaves empty."""
        path = self.root / name
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root:
                break
            try:
                folder.rmdir()
            except OSError:  # Not empty.
                break


class Part:
    """A file that is being fetched; leaving its ``with`` block drops it, unless it is published.

    Attributes
    ----------
    descriptor : int
        The open file, to be written to; `close` closes it.
    """

    def __init__(self, directory: CacheDirectory, path: Path, part: Path, descriptor: int) -> None:
        self._directory, self._path, self._part = directory, path, part
        self.descriptor = descriptor
        self._published = False

    def write(self, pieces: Sequence[bytes], offset: int) -> None:
        """Write consecutive pieces from a place on.

        In one call, if the system takes it: the page cache can then hold 2 MiB in one piece, which
        a single TLB entry maps.
        """
        left = [memoryview(piece) for piece in pieces if piece]
        while left:
            count = os.pwritev(self.descriptor, left, offset)
            offset += count
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if count:
                left[0] = left[0][count:]

    def publish(self) -> None:
        """Give the file its name."""
        with self._directory._locked():
            own, there = os.fstat(self.descriptor), os.lstat(self._part)
            if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino):
                raise FileNotFoundError(errno.ENOENT, f"{self._part} was removed and made again")
            now = time.time_ns()
            os.utime(self.descriptor, ns=(now, now))
            self._part.rename(self._path)
            self._published = True

    def close(self) -> None:
        """Close the file."""
        if self.descriptor >= 0:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._published:
            with suppress(OSError):
                self._part.unlink()
        self.close()


def _walk(root: str) -> Iterator[os.DirEntry[str]]:
    """Yield the regular files below a directory, as far as it can be read."""
    folders = [root]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry


def _is_locked(path: str) -> bool:
    """Say whether a process holds a lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDWR | _FLAGS)
    except FileNotFoundError:
        return True  # It has just got its name, or was dropped.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _allocate(descriptor: int, size: int) -> None:
    """Give a file its size, and the disk space for it where supported."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        os.ftruncate(descriptor, size)
