"""How does a store appear whole or not at all? It is built under another name, then renamed.

1. The staging directory is a hidden sibling of the target, ``.NAME.building``. Making it is how a
   build claims the target; a lock on it (``flock``, gone with its process) says that the build is
   alive. One without a living owner is left over from a crash, and cleared away.
2. `Staging.publish` flushes every file and directory to disk, then renames the staging directory
   to the target, or exchanges the two where a store is replaced, in one step: a reader that has
   the old store open keeps reading it. Then the old store is removed.
3. Where the system cannot exchange, the old store steps aside as ``.NAME.replaced`` first. If the
   process dies just there, `finish_replacement`, called by every open and every build, puts the
   old store back.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from embstore import layout
from embstore.errors import StoreBusyError, StoreExistsError, StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows: no lock, builds must not share a target.
    fcntl = None  # type: ignore[assignment]

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class Staging:
    """The directory that becomes a store.

    Parameters
    ----------
    target : Path
        Where the store will be.
    overwrite : bool
        Whether a store that is there may be replaced.

    Attributes
    ----------
    path : Path
        The directory to write into.

    Raises
    ------
    StoreExistsError
        If something is at the target and must not be replaced.
    StoreNotFoundError
        If the target's parent directory does not exist.
    StoreBusyError
        If another build is writing to the same target.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self.target = target.absolute()
        self._overwrite = overwrite
        finish_replacement(self.target)
        check_target(self.target, overwrite=overwrite)
        self.path = self.target.with_name(f".{self.target.name}.building")
        self._lock = self._claim()

    def publish(self) -> None:
        """Put the staged store at the target, durably, and remove what it replaces."""
        flush_tree(self.path)
        check_target(self.target, overwrite=self._overwrite)
        if self.target.exists():
            if not _exchange(self.path, self.target):
                aside = _aside(self.target)
                self.target.rename(aside)
                self.path.rename(self.target)
                aside.rename(self.path)
            flush_directory(self.target.parent)
            shutil.rmtree(self.path)
        else:
            self.path.rename(self.target)
        flush_directory(self.target.parent)
        self._release()

    def discard(self) -> None:
        """Remove what was staged; the target stays as it was."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _claim(self) -> int | None:
        """Make the staging directory and lock it; clear away one that nobody holds."""
        while True:
            with contextlib.suppress(FileExistsError):
                self.path.mkdir()
            if fcntl is None:
                lock = None
            else:
                try:
                    lock = os.open(self.path, os.O_RDONLY)
                except FileNotFoundError:
                    continue  # Its owner has just published or discarded it.
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(lock)
                    raise StoreBusyError(
                        f"another build is writing {self.target} (in {self.path}); wait for it, "
                        "or choose another target"
                    ) from None
                if not _is_at(lock, self.path):
                    os.close(lock)
                    continue
            for leftover in self.path.iterdir():
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
            return lock

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise unless a store may be put at ``target``."""
    if not target.parent.is_dir():
        raise StoreNotFoundError(f"the directory {target.parent} does not exist; make it first")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise StoreExistsError(
            f"{target} exists; choose another path, or replace it with overwrite=True "
            "(--overwrite on the command line)"
        )
    if target.is_symlink() or not (target / layout.METADATA).is_file():
        raise StoreExistsError(f"{target} exists and is not a store, so it is not replaced")


def finish_replacement(target: Path) -> None:
    """Put a store back that stepped aside for one that did not come.

    Only where a store cannot be replaced in one step, and only if the process died between two.
    """
    if not target.exists() and (aside := _aside(target)).is_dir():
        with contextlib.suppress(OSError):
            aside.rename(target)


def flush_tree(path: Path) -> None:
    """Flush every file and directory below ``path``, and ``path``, to disk."""
    for directory, _, names in os.walk(path, topdown=False):
        for name in names:
            with _descriptor(Path(directory, name)) as file:
                os.fsync(file)
        flush_directory(Path(directory))


def flush_directory(path: Path) -> None:
    """Flush a directory's entries to disk, where the system can."""
    if os.name == "nt":
        return
    with _descriptor(path) as directory:
        os.fsync(directory)


@contextlib.contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False where the system cannot."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    try:
        renameat2 = library.renameat2
    except AttributeError:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(one))
