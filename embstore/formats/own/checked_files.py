"""Checked opening of a store's files, which may come from an untrusted source.

1. A store's own path may be a symbolic link. Nothing inside it may be one: it could point outside.
2. A file must be a regular file: reading a FIFO would block for ever, and a device has no end.
3. It must have the expected size or, if none is known, a size within bounds.
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

# Without O_NONBLOCK, opening a FIFO would wait for a writer.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

REBUILD = "restore it or build the store again"


def open_checked(path: Path | str, file_bytes: int) -> int:
    """Open a regular file of exactly ``file_bytes`` for reading; return its descriptor.

    Raises
    ------
    StoreCorruptError
        If the file is missing, is not a regular file, or has another size.
    """
    descriptor, size_bytes = open_regular(path)
    if size_bytes == file_bytes:
        return descriptor
    os.close(descriptor)
    raise StoreCorruptError(f"{path} has {size_bytes} bytes, expected {file_bytes}; {REBUILD}")


def read_small(path: Path | str, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most ``max_bytes``.

    Raises
    ------
    StoreCorruptError
        If the file is missing, is not a regular file, or is larger.
    """
    descriptor, size_bytes = open_regular(path)
    try:
        if size_bytes <= max_bytes:
            return os.read(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    raise StoreCorruptError(
        f"{path} has {size_bytes} bytes, more than the allowed {max_bytes}; {REBUILD}"
    )


def check_directories(store: Path, names: Iterable[str]) -> None:
    """Refuse directories inside a store that are symbolic links.

    Parameters
    ----------
    store : Path
        The store; it may be a link itself.
    names : iterable of str
        Paths inside it. Missing ones are skipped; opening their files fails later.

    Raises
    ------
    StoreCorruptError
        If one is a symbolic link.
    """
    root = str(store)
    for name in names:
        try:
            mode = os.lstat(f"{root}/{name}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(mode):
            raise StoreCorruptError(f"{store / name} is a symbolic link; {REBUILD}")


def open_regular(
    path: Path | str, *, follow_links: bool = False, remedy: str = REBUILD
) -> tuple[int, int]:
    """Open a regular file; return its descriptor and its size in bytes.

    Raises
    ------
    StoreCorruptError
        If the file is missing, is a symbolic link that is not followed, or is not a regular file.
    """
    try:
        descriptor = os.open(path, _FLAGS if follow_links else _FLAGS | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreCorruptError(f"{path} is missing; {remedy}") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise StoreCorruptError(f"{path} is a symbolic link; {remedy}") from error
        if error.errno in (errno.ENXIO, errno.ENODEV):  # A socket, or a missing device.
            raise StoreCorruptError(f"{path} is not a regular file; {remedy}") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise StoreCorruptError(f"{path} is not a regular file; {remedy}")
    return descriptor, status.st_size
