"""The linking of files of an old version into a new one.

1. The old version is an open directory. If another version replaces it meanwhile, its files are
   either all still there or one is missing, so two versions never mix.
2. A file gets a second name in the new version, a hard link. Where that is impossible (another file
   system, another owner, too many links), the new file shares the blocks of the old one
   (``FICLONE``); else its bytes are copied. What is cloned or copied is flushed.
3. A symbolic link, as in a model cache, is never linked, so that the new version depends on nothing
   outside. It may lead to any file, so its target is cloned or copied only once it has been read
   whole and has the listed checksum.
4. A linked file needs no flush: its bytes were flushed before the old version was published. Its
   new name does: `embstore.writing.disk.staging` flushes all directories.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, open_regular
from embstore.formats.own.checks import wrong_target
from embstore.formats.own.listed_files import ListedFile, chunk_file, is_whole
from embstore.syscalls import UNSUPPORTED
from embstore.writing.disk import files
from embstore.writing.disk.held import HeldDirectory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray


@dataclass(slots=True)
class Taken:
    """The files that a new version has of the old one.

    Attributes
    ----------
    linked, cloned, copied : int
        How many, by the way that they were taken.
    chunks : int
        How many of all these are chunk files; the others are metadata.
    bytes_copied : int
        The bytes of those that were copied.
    """

    linked: int = 0
    cloned: int = 0
    copied: int = 0
    chunks: int = 0
    bytes_copied: int = 0


class Linker:
    """Takes files of an old version over into a new one.

    Parameters
    ----------
    old : Path
        The directory of the old version; it is opened now, and stays the same one.
    new : Path
        The staging directory of the new version.

    Attributes
    ----------
    old : HeldDirectory
        The directory of the old version.
    taken : Taken
        What was taken over so far.

    Raises
    ------
    OSError
        If one of the directories cannot be opened.
    """

    def __init__(self, old: Path, new: Path) -> None:
        self.taken = Taken()
        self._new = new
        self._made = {""}
        self._directory = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.old = HeldDirectory(old)
        except BaseException:
            os.close(self._directory)
            raise

    def __enter__(self) -> Linker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directories."""
        os.close(self._directory)
        self.old.close()

    def take_chunks(self, array: RawArray, listed: ListedChunks, chunks: Iterable[int]) -> None:
        """Take over chunk files of an array, and make the directories above them.

        Parameters
        ----------
        array, listed : RawArray, ListedChunks
            The array of the old version, and what its metadata lists of its chunks.
        chunks : iterable of int
            The numbers of the chunks.

        Raises
        ------
        StoreCorruptError
            If the old version lacks a file, it is not a regular file, or it is a symbolic link to
            one that does not have the listed checksum.
        OSError
            If the disk is full or fails.
        """
        for chunk in chunks:
            self._take(chunk_file(array, listed, chunk))
            self.taken.chunks += 1

    def take_metadata(self, name: str, checksum: int) -> None:
        """Take over a ``zarr.json``, given its path inside the store and the listed checksum.

        Not that of the root: its attributes may be edited in place, by any Zarr library.

        Raises
        ------
        StoreCorruptError, OSError
            As `take_chunks`.
        """
        try:
            size = os.stat(name, dir_fd=self.old.descriptor).st_size
        except OSError:
            size = 0  # Opening it says what is wrong.
        if size > spec.MAX_METADATA_BYTES:
            raise StoreCorruptError(
                f"{self.old.root / name} has {size} bytes, more than the allowed "
                f"{spec.MAX_METADATA_BYTES}; {REBUILD}"
            )
        self._take(ListedFile(name, size, size, checksum))

    def _take(self, file: ListedFile) -> None:
        self._make_parents(file.name)
        if self._link(file.name):
            self.taken.linked += 1
        else:
            self._clone_or_copy(file)

    def _link(self, name: str) -> bool:
        """Link a file; return False where that is impossible."""
        old = self.old.descriptor
        try:
            status = os.stat(name, dir_fd=old, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return False
            files.link(name, old, self._directory, (self.old.root, self._new))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreCorruptError(f"{self.old.root / name} is missing; {REBUILD}") from error
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return False
        return True

    def _clone_or_copy(self, file: ListedFile) -> None:
        path, to = self.old.root / file.name, self._new / file.name
        source, size_bytes, is_link = open_regular(path, inside=(self.old.descriptor, file.name))
        try:
            if is_link and not is_whole(file, source):
                raise StoreCorruptError(wrong_target(path))
            descriptor = files.create(to)
            try:
                self._fill(source, descriptor, size_bytes, path, to)
                files.flush(descriptor, to)
            finally:
                os.close(descriptor)
        finally:
            os.close(source)

    def _fill(self, source: int, descriptor: int, size_bytes: int, path: Path, to: Path) -> None:
        try:
            files.clone(source, descriptor, path, to)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            self.taken.cloned += 1
            return
        for offset in range(0, size_bytes, files.COPIED_BYTES):
            count = min(size_bytes - offset, files.COPIED_BYTES)
            files.copy_range(source, descriptor, offset, count, path, to)
        self.taken.copied += 1
        self.taken.bytes_copied += size_bytes

    def _make_parents(self, name: str) -> None:
        """Make the directories above a file, those that the new version does not have yet."""
        parent = name.rpartition("/")[0]
        if parent in self._made:
            return
        self._make_parents(parent)
        self.old.check_directories([parent])
        with contextlib.suppress(FileExistsError):
            files.make_directory(self._new / parent)
        self._made.add(parent)
