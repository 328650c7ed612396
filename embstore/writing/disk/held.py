"""The metadata of a store whose directory is held open, whatever happens to its path meanwhile."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from embstore.errors import StoreCorruptError
from embstore.formats.own.checked_files import (
    REBUILD,
    LocalDirectory,
    read_small,
)
from embstore.formats.own.spec import METADATA

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class HeldDirectory(LocalDirectory):
    """The files of a store, below a directory that is opened now and stays the same one.

    Parameters
    ----------
    root : Path
        The directory.

    Attributes
    ----------
    descriptor : int
        The descriptor of the directory.

    Raises
    ------
    OSError
        If the directory cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the directory."""
        os.close(self.descriptor)

    def is_replaced(self) -> bool:
        """Return whether another store, or none, is now where this one was."""
        try:
            mine = os.stat(METADATA, dir_fd=self.descriptor)
            there = (self.root / METADATA).stat()
        except OSError:
            return True
        return not os.path.samestat(mine, there)

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        try:
            os.stat(name, dir_fd=self.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_link(self, name: str) -> bool:
        """Say whether a file is a symbolic link."""
        mode = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode
        return stat.S_ISLNK(mode)

    def read_small(self, name: str, most: int) -> bytes:
        """Return all of a file; errors as `embstore.formats.own.checked_files.read_small`."""
        return read_small(self.root / name, most, inside=(self.descriptor, name))

    def check_directories(self, names: Iterable[str]) -> None:
        """Refuse directories that are missing, or symbolic links.

        Raises
        ------
        StoreCorruptError
            If one is.
        """
        for name in names:
            try:
                mode = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode
            except (FileNotFoundError, NotADirectoryError) as error:
                raise StoreCorruptError(f"{self.root / name} is missing; {REBUILD}") from error
            if not stat.S_ISDIR(mode):
                raise StoreCorruptError(
                    f"{self.root / name} is not a directory: only the files of a store may be "
                    f"links, not its directories; {REBUILD}"
                )
