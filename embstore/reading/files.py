"""Files on a local disk: those of a store, and foreign ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embstore.errors import StoreCorruptError, StoreNotFoundError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, open_regular
from embstore.formats.own.seals import checksum

if TYPE_CHECKING:
    from pathlib import Path


class LocalFiles:
    """Files below one directory.

    Parameters
    ----------
    root : Path
        The directory.
    """

    remedy = REBUILD
    follows_links = False
    checked = False  # Whether a file read whole can be checked.

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.root / name

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        descriptor, size_bytes = self._open(name)
        os.close(descriptor)
        return size_bytes

    def read(self, name: str, first: int, count: int) -> bytes:
        """Return ``count`` bytes of a file from byte ``first`` on; fewer where the file ends."""
        descriptor, _ = self._open(name)
        try:
            pieces, done = [], 0
            while done < count and (piece := os.pread(descriptor, count - done, first + done)):
                pieces.append(piece)
                done += len(piece)
        finally:
            os.close(descriptor)
        return b"".join(pieces)

    def open(self, name: str, needed_bytes: int) -> int:
        """Return a descriptor of a file that has at least ``needed_bytes``.

        Raises
        ------
        StoreCorruptError
            If the file is missing, is not a regular file, or is shorter.
        """
        descriptor, size_bytes = self._open(name)
        if size_bytes >= needed_bytes:
            return descriptor
        os.close(descriptor)
        raise StoreCorruptError(
            f"{self.path(name)} has {size_bytes} bytes, but its rows need {needed_bytes}; "
            f"{self.remedy}"
        )

    def _open(self, name: str) -> tuple[int, int]:
        # Not a Path: with many chunks, making those would take a third of the time of opening.
        where = f"{self.root}/{name}"
        return open_regular(where, follow_links=self.follows_links, remedy=self.remedy)


class StoreFiles(LocalFiles):
    """The files of a store; none is a symbolic link.

    A store is told from one that replaces it by the root metadata's inode, and by its time too,
    because a file system gives the inodes of removed files to new ones.
    """

    checked = True

    def read_checked(self, name: str, count: int) -> bytes:
        """Return the ``count`` bytes of a chunk file that come before its checksum.

        Raises
        ------
        StoreCorruptError
            If the file has another size, or the bytes have another checksum.
        """
        data = self.read(name, 0, count + spec.CHECKSUM_BYTES + 1)
        if len(data) != count + spec.CHECKSUM_BYTES:
            raise StoreCorruptError(
                f"{self.path(name)} has {self.size(name)} bytes, expected "
                f"{count + spec.CHECKSUM_BYTES}; {REBUILD}"
            )
        stated = int.from_bytes(data[count:], "little")
        if (computed := checksum(data[:count])) != stated:
            raise StoreCorruptError(
                f"{self.path(name)}: its rows have the checksum {computed:08x}, the file says "
                f"{stated:08x}: it is damaged; {REBUILD}"
            )
        return data[:count]

    @property
    def identity(self) -> tuple[int, int, int] | None:
        """Device, inode and time of the root metadata; None without a store."""
        try:
            status = os.stat(f"{self.root}/{spec.METADATA}")  # noqa: PTH116  # Twice as fast.
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns

    def check_identity(self, expected: object) -> None:
        """Raise `StoreNotFoundError` if another store, or none, is here by now."""
        if self.identity != expected:
            raise StoreNotFoundError(
                f"the store {self.root} was replaced or removed since it was opened; open it again"
            )


class ForeignFiles(LocalFiles):
    """Files that another program wrote; they may be symbolic links, as in a download cache.

    Parameters
    ----------
    root : Path
        The directory that they are in.
    names : tuple of str
        The files that the table is in.
    """

    remedy = "is the download complete?"
    follows_links = True

    def __init__(self, root: Path, names: tuple[str, ...] = ()) -> None:
        super().__init__(root)
        self.names = names

    @property
    def identity(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time of each file.

        Raises
        ------
        StoreNotFoundError
            If one is missing.
        """
        found = []
        for name in self.names:
            try:
                status = self.path(name).stat()
            except OSError as error:
                raise StoreNotFoundError(f"no such file: {self.path(name)}") from error
            found.append((name, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def check_identity(self, expected: object) -> None:
        """Raise `StoreNotFoundError` if a file has changed."""
        if self.identity != expected:
            names = ", ".join(str(self.path(name)) for name in self.names)
            raise StoreNotFoundError(
                f"{names} changed since the table was opened: another size or time; open it again"
            )
