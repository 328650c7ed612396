"""How is a file of a store opened? As one that a stranger may have made.

1. The store's own path may be a symbolic link. Nothing inside it may be: a link could lead out.
2. A file must be a regular one: a FIFO would never answer, and a device never end.
3. It must have the size that it should have or, where that is not known, one within bounds.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from embstore.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Without O_NONBLOCK, opening a FIFO would wait for a writer. Windows has none of these.
_FLAGS = os.O_RDONLY
for _name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)

REBUILD = "restore it or build the store again"


def open_checked(path: Path | str, file_bytes: int) -> int:
    """Open a regular file of exactly ``file_bytes`` for reading; return its descriptor.

    Raises
    ------
    StoreCorruptError
        If there is no such file, or it is something else.
    """
    descriptor, size_bytes = _open_regular(path)
    if size_bytes == file_bytes:
        return descriptor
    os.close(descriptor)
    raise StoreCorruptError(f"{path} has {size_bytes} bytes, expected {file_bytes}; {REBUILD}")


def read_small(path: Path | str, max_bytes: int) -> bytes:
    """Return what a regular file of at most ``max_bytes`` holds.

    Raises
    ------
    StoreCorruptError
        If there is no such file, or it is something else.
    """
    descriptor, size_bytes = _open_regular(path)
    try:
        if size_bytes <= max_bytes:
            return os.read(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    raise StoreCorruptError(
        f"{path} has {size_bytes} bytes, more than the {max_bytes} that it may have; {REBUILD}"
    )


def check_directories(store: Path, names: Iterable[str]) -> None:
    """Refuse directories inside a store that are links, or no directories.

    Parameters
    ----------
    store : Path
        The store; it may be a link itself.
    names : iterable of str
        Paths inside it. One that is missing is not refused here: its files will be.

    Raises
    ------
    StoreCorruptError
        For the first one that is something else than a directory.
    """
    root = str(store)
    for name in names:
        try:
            mode = os.lstat(f"{root}/{name}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(mode):
            raise StoreCorruptError(f"{store / name} is a symbolic link; {REBUILD}")


def _open_regular(path: Path | str) -> tuple[int, int]:
    """Open a regular file; return its descriptor and its size."""
    try:
        descriptor = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreCorruptError(f"{path} is missing; {REBUILD}") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise StoreCorruptError(f"{path} is a symbolic link; {REBUILD}") from error
        if error.errno in (errno.ENXIO, errno.ENODEV):  # A socket, or a device that is not there.
            raise StoreCorruptError(f"{path} is not a regular file; {REBUILD}") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise StoreCorruptError(f"{path} is not a regular file; {REBUILD}")
    return descriptor, status.st_size
