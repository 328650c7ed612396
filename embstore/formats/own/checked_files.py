"""Checked opening of a store's files, which may come from an untrusted source.

1. A store's own path may be a symbolic link. A directory inside it may not be one.
2. A file inside it may be a link to a regular file, as in a model cache. The link could point to
   any file, so nothing is taken from it before its checksum is compared with the listed one, and no
   message shows its bytes.
3. A file must be a regular file: reading a FIFO would block for ever, and a device has no end.
4. It must have the expected size or, if none is known, a size within bounds.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from embstore.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from embstore.formats.own.spec import RawArray

# Without O_NONBLOCK, opening a FIFO would wait for a writer.
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
# What may be wrong with a file or with the target of a link, by the error of opening it.
_PROBLEMS = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is missing",
    errno.ENXIO: "is not a regular file",  # A socket, or a missing device.
    errno.ENODEV: "is not a regular file",
}
_LINK_PROBLEMS = {
    errno.ENOENT: "to a missing file",
    errno.ENOTDIR: "to a missing file",
    errno.ENAMETOOLONG: "to a missing file",
    errno.ELOOP: "that leads in a circle",
    errno.ENXIO: "to something that is not a regular file",
    errno.ENODEV: "to something that is not a regular file",
    errno.EACCES: "to a file that may not be read",
    errno.EPERM: "to a file that may not be read",
}

# Reading a directory takes a third of the time of looking at each of its entries.
MANY_CHUNKS = 8
REBUILD = "restore it or build the store again"
UPGRADE = "upgrade it with pip install -U embstore"


class OpenFile(NamedTuple):
    """An open regular file: its descriptor, its size, and whether a symbolic link led to it."""

    descriptor: int
    size_bytes: int
    is_link: bool


def open_checked(path: Path | str, file_bytes: int) -> int:
    """Open a regular file of exactly ``file_bytes`` for reading; return its descriptor.

    Raises
    ------
    StoreCorruptError
        If the file is missing, is not a regular file, or has another size.
    """
    descriptor, size_bytes, _ = open_regular(path)
    if size_bytes == file_bytes:
        return descriptor
    os.close(descriptor)
    raise StoreCorruptError(f"{path} has {size_bytes} bytes, expected {file_bytes}; {REBUILD}")


def read_small(path: Path | str, max_bytes: int, *, inside: tuple[int, str] | None = None) -> bytes:
    """Return the content of a regular file of at most ``max_bytes``; ``inside`` as `open_regular`.

    Raises
    ------
    StoreCorruptError
        If the file is missing, is not a regular file, or is larger.
    """
    descriptor, size_bytes, _ = open_regular(path, inside=inside)
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
            raise _linked_directory(f"{root}/{name}")


def check_chunk_directories(store: Path, array: RawArray) -> None:
    """Refuse directories of chunk files that are symbolic links; errors as `check_directories`.

    Those of many chunks are found by reading the directory that holds them.
    """
    chunks = f"{store}/{array.name}/c"
    check_directories(store, [f"{array.name}/c"])
    axes, count = len(array.shape), array.chunk_count
    if axes == 1 or not count:
        return
    links = None if count < MANY_CHUNKS else _links_in(chunks)
    if links is None:
        check_directories(store, (f"{array.name}/c/{chunk}" for chunk in range(count)))
    else:
        for name in links & {str(chunk) for chunk in range(count)} if links else ():
            raise _linked_directory(f"{chunks}/{name}")
    for axis in range(2, axes):
        deeper = "/0" * (axis - 1)
        check_directories(store, (f"{array.name}/c/{chunk}{deeper}" for chunk in range(count)))


def _links_in(directory: str) -> set[str] | None:
    """Return the names of the symbolic links in a directory; None if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except OSError:
        return None


def _linked_directory(where: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{where} is a symbolic link, but only the files of a store may be links, not its "
        f"directories; {REBUILD}"
    )


def open_regular(
    path: Path | str, *, remedy: str = REBUILD, inside: tuple[int, str] | None = None
) -> OpenFile:
    """Open a regular file, or the one that a symbolic link leads to.

    Parameters
    ----------
    path : Path or str
        The file.
    remedy : str
        What to do about a missing one, for messages.
    inside : tuple of (int, str), optional
        An open directory, and the file's path inside it; ``path`` is then for messages.

    Raises
    ------
    StoreCorruptError
        If the file or the target is missing, or is not a regular file.
    """
    is_link = False
    directory, name = (None, path) if inside is None else inside
    try:
        try:
            descriptor = os.open(name, OPEN_FLAGS | os.O_NOFOLLOW, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK):
                raise
            is_link = True
            # A look before the open: opening a device may have an effect.
            if not stat.S_ISREG(os.stat(name, dir_fd=directory).st_mode):
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO)) from error
            descriptor = os.open(name, OPEN_FLAGS, dir_fd=directory)
    except OSError as error:
        number = error.errno or 0
        if is_link and number in _LINK_PROBLEMS:
            problem = f"is a symbolic link {_LINK_PROBLEMS[number]}"
        elif number in _PROBLEMS:
            problem = _PROBLEMS[number]
        else:
            raise
        raise StoreCorruptError(f"{path} {problem}; {remedy}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise StoreCorruptError(f"{path} is not a regular file; {remedy}")
    return OpenFile(descriptor, status.st_size, is_link)


class LocalDirectory:
    """The files of a store in a local directory, as `embstore.table.protocols.CheckedFiles`.

    Parameters
    ----------
    root : Path
        The directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def where(self, name: str) -> str:
        """Return the path of a file, as messages show it; of ``""``, that of the store."""
        # Not a Path: with many partitions, making those would take a third of the time of an open.
        return f"{self.root}/{name}" if name else str(self.root)

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        return (self.root / name).exists()

    def read_small(self, name: str, most: int) -> bytes:
        """Return all of a file; errors as `read_small`."""
        return read_small(f"{self.root}/{name}", most)

    def announce(self, names: Iterable[str]) -> None:
        """Do nothing: each file is read when it is needed."""

    def is_link(self, name: str) -> bool:
        """Say whether a file is a symbolic link."""
        return (self.root / name).is_symlink()

    def check_directories(self, names: Iterable[str]) -> None:
        """Refuse directories that are symbolic links; errors as `check_directories`."""
        check_directories(self.root, names)

    def check_chunk_directories(self, array: RawArray) -> None:
        """Refuse directories of chunk files that are symbolic links; errors as before."""
        check_chunk_directories(self.root, array)
