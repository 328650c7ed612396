"""Files on a local disk: those of a store, and foreign ones."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embstore.errors import StoreCorruptError, StoreNotFoundError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, LocalDirectory, OpenFile, open_regular
from embstore.formats.own.checks import (
    check_array,
    check_linked_chunk,
    wrong_chunk,
    wrong_target,
)
from embstore.formats.own.seals import checksum
from embstore.reading.chunk_files import ListedEnds, most_at_once

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.sharded import ListedChunks

_SHOWN_FILES = 5


class LocalFiles(LocalDirectory):
    """Files below one directory.

    Parameters
    ----------
    root : Path
        The directory.
    """

    remedy = REBUILD
    checked = False  # Whether a file read whole can be checked.
    is_remote = False
    request_count = 0

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self.root / name

    def names(self) -> list[str]:
        """Return the names of all that stands directly in the directory, in any order."""
        return os.listdir(self.root)  # noqa: PTH208  # Names are enough.

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file in the directory, at any depth, by its name."""
        files = (file for file in self.root.rglob("*") if file.is_file())
        return {file.relative_to(self.root).as_posix(): file.stat().st_size for file in files}

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        descriptor, size_bytes, _ = self._open(name)
        os.close(descriptor)
        return size_bytes

    def read(self, name: str, first: int, count: int) -> bytes:
        """Return ``count`` bytes of a file from byte ``first`` on; fewer where the file ends."""
        descriptor, _, _ = self._open(name)
        try:
            pieces, done = [], 0
            while done < count and (piece := os.pread(descriptor, count - done, first + done)):
                pieces.append(piece)
                done += len(piece)
        finally:
            os.close(descriptor)
        return b"".join(pieces)

    def read_many(self, ranges: Sequence[tuple[str, int, int]]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each range and its bytes, read one after the other."""
        for position, (name, first, count) in enumerate(ranges):
            yield position, self.read(name, first, count)

    def open(self, name: str, needed_bytes: int) -> int:
        """Return a descriptor of a file that has at least ``needed_bytes``.

        Raises
        ------
        StoreCorruptError
            If the file is missing, is not a regular file, or is shorter.
        """
        descriptor, size_bytes, _ = self._open(name)
        if size_bytes >= needed_bytes:
            return descriptor
        os.close(descriptor)
        raise StoreCorruptError(
            f"{self.path(name)} has {size_bytes} bytes, but its rows need {needed_bytes}; "
            f"{self.remedy}"
        )

    def open_each(self, pieces: Sequence[tuple[str, int]]) -> Generator[int]:
        """Yield a descriptor of each of some files, as `open` returns it; it is closed here.

        Parameters
        ----------
        pieces : sequence of (str, int)
            The name of each file, and the bytes that it must have.
        """
        for name, needed_bytes in pieces:
            descriptor = self.open(name, needed_bytes)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def _open(self, name: str) -> OpenFile:
        # Not a Path: with many chunks, making those would take a third of the time of opening.
        return open_regular(f"{self.root}/{name}", remedy=self.remedy)


def files_at(path: Path) -> tuple[ForeignFiles, str]:
    """Return the files of the directory of a path, and the name of the file; ``""`` for none."""
    return (ForeignFiles(path), "") if path.is_dir() else (ForeignFiles(path.parent), path.name)


def _look(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells a file from others: device, inode, size and modification time."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class StoreFiles(LocalFiles):
    """The files of a store; a chunk file may be a symbolic link to one that has its checksum.

    The target of a link is read whole when it is first opened, before any byte of it is given, and
    again if it has changed since (inode, size or times).

    The inode, size and modification time of the root metadata tell a store from one that replaces
    it.
    The inode alone does not, because a file system reuses those of removed files.

    Parameters
    ----------
    root : Path
        The directory of the store.
    manifest : Manifest, optional
        Its manifest; without it, links are refused.
    """

    checked = True

    def __init__(self, root: Path, manifest: Manifest | None = None) -> None:
        super().__init__(root)
        self._manifest = manifest
        self._ends = ListedEnds()
        self._listed: dict[str, ListedChunks] = {}  # Of arrays that have links.
        self._targets: dict[str, tuple[int, ...]] = {}  # The targets that were checked.

    def with_manifest(self, manifest: Manifest) -> StoreFiles:
        """Return the files of a store whose manifest has been read; the same are expected."""
        files = StoreFiles(self.root, manifest)
        files._ends = self._ends
        return files

    def expect(self, names: list[str], listed: ListedChunks) -> None:
        """Note what is listed of chunk files; each is checked when it is first opened."""
        self._ends.add(names, listed)

    def check_rest(self) -> None:
        """Check the chunk files that are expected and were not opened yet.

        Raises
        ------
        StoreCorruptError
            If one is missing, has another size, or belongs to another chunk.
        """
        for _ in self.open_each([(name, 0) for name in self._ends.names()]):
            pass

    def size(self, name: str) -> int:
        """Return the size of a file in bytes; of one that was not opened yet, as it is listed."""
        end = self._ends.get(name)
        return super().size(name) if end is None else end[0]

    def open_each(self, pieces: Sequence[tuple[str, int]]) -> Generator[int]:
        """Yield a descriptor of each of some files, as `open` returns it; it is closed here.

        A few are open at a time.
        """
        most, done = most_at_once(), 0
        with self._opened_root() as root:
            while done < len(pieces):
                opened: list[int] = []
                if root is not None:
                    opened = self._ends.open_some(root, pieces[done : done + most])
                opened = opened or [self.open(*pieces[done])]
                done += len(opened)
                try:
                    yield from opened
                finally:
                    for descriptor in opened:
                        os.close(descriptor)

    @contextmanager
    def _opened_root(self) -> Iterator[int | None]:
        """Give a descriptor of the store's directory; None if it cannot be opened."""
        try:
            root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield None
            return
        try:
            yield root
        finally:
            os.close(root)

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

    def _open(self, name: str) -> OpenFile:
        file = super()._open(name)
        try:
            self._check_end(name, file)
            if file.is_link:
                self._check_target(name, file.descriptor)
        except BaseException:
            os.close(file.descriptor)
            raise
        self._ends.done(name)
        return file

    def _check_end(self, name: str, file: OpenFile) -> None:
        """Compare the size and the last bytes of a file with those listed, unless this was done."""
        listed = self._ends.get(name)
        if listed is None:
            return
        size_bytes, end = listed
        if file.size_bytes != size_bytes:
            raise StoreCorruptError(
                f"{self.where(name)} has {file.size_bytes} bytes, expected {size_bytes}; {REBUILD}"
            )
        data = os.pread(file.descriptor, spec.CHECKSUM_BYTES, size_bytes - spec.CHECKSUM_BYTES)
        if (found := int.from_bytes(data, "little")) == end:
            return
        where = self.where(name)
        if file.is_link or self._manifest is None:  # Its bytes may be anyone's.
            raise StoreCorruptError(wrong_target(where))
        array, _ = self._manifest.find_chunk(name)
        raise StoreCorruptError(wrong_chunk(where, array, found, end))

    def _check_target(self, name: str, descriptor: int) -> None:
        """Check the open target of a link, unless it was checked and has not changed."""
        where = f"{self.root}/{name}"
        if self._manifest is None:
            raise StoreCorruptError(f"{where} is a symbolic link; {REBUILD}")
        status = os.fstat(descriptor)
        target = (
            *(status.st_dev, status.st_ino, status.st_size),
            *(status.st_mtime_ns, status.st_ctime_ns),
        )
        if self._targets.get(name) == target:
            return
        array, chunk = self._manifest.find_chunk(name)
        if array.name not in self._listed:
            self._listed[array.name] = check_array(self, array, self._manifest)
        check_linked_chunk(where, descriptor, array, self._listed[array.name], chunk)
        self._targets[name] = target

    @property
    def identity(self) -> tuple[int, int, int, int] | None:
        """Device, inode, size and modification time of the root metadata; None if missing."""
        try:
            status = os.stat(f"{self.root}/{spec.METADATA}")  # noqa: PTH116  # Twice as fast.
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def check_identity(self, expected: object) -> None:
        """Raise `StoreNotFoundError` if the store was replaced or removed."""
        if self.identity != expected:
            raise StoreNotFoundError(
                f"the store {self.root} was replaced or removed since it was opened; open it again"
            )


class ForeignFiles(LocalFiles):
    """Files that another program wrote; they may be symbolic links, as in a download cache.

    Each file is opened several times: for its header, to be mapped, to read rows. A file that is
    another one then, or has changed, is refused: by its device and inode, size and modification
    time.

    Parameters
    ----------
    root : Path
        The directory that they are in.
    names : tuple of str
        The files that the table is in.
    """

    remedy = "is the download complete?"

    def __init__(self, root: Path, names: tuple[str, ...] = ()) -> None:
        super().__init__(root)
        self.chosen = names
        self._seen: dict[str, tuple[int, ...]] = {}  # What was found when a file was first opened.

    def of(self, names: tuple[str, ...]) -> ForeignFiles:
        """Return the files that a table is in, with what was found of them so far."""
        files = ForeignFiles(self.root, names)
        files._seen = self._seen
        return files

    @property
    def identity(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size and modification time of each file.

        Raises
        ------
        StoreNotFoundError
            If one is missing.
        """
        found = []
        for name in self.chosen:
            try:
                status = self.path(name).stat()
            except OSError as error:
                raise StoreNotFoundError(f"no such file: {self.path(name)}") from error
            found.append((name, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def check_identity(self, expected: object) -> None:
        """Raise `StoreNotFoundError` if a file has changed."""
        found = self.identity
        if found != expected:
            before = set(expected) if isinstance(expected, tuple) else set()
            raise self._changed([name for name, *rest in found if (name, *rest) not in before])

    def are_unchanged(self) -> bool:
        """Say whether the files are those that were opened."""
        return all(now and before == now for before, now in self._looks())

    def are_overwritten(self) -> bool:
        """Say whether one was changed in place, so that a mapping shows the change."""
        looks = self._looks()
        return any(before != now and before[:2] == now[:2] for before, now in looks if now)

    def _looks(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Yield what was found of each file when it was opened, and now; () if it is missing."""
        for name in self.chosen:
            try:
                now = _look(self.path(name).stat())
            except (FileNotFoundError, NotADirectoryError):
                now = ()
            yield self._seen.get(name, now), now

    def _open(self, name: str) -> OpenFile:
        file = super()._open(name)
        found = _look(os.fstat(file.descriptor))
        if self._seen.setdefault(name, found) != found:
            os.close(file.descriptor)
            raise self._changed([name])
        return file

    def _changed(self, names: list[str]) -> StoreNotFoundError:
        listed = ", ".join(str(self.path(name)) for name in names[:_SHOWN_FILES])
        more = ", ..." if len(names) > _SHOWN_FILES else ""
        return StoreNotFoundError(
            f"{listed}{more} changed since the table was opened (it was replaced, or its size or "
            "modification time differs); open it again"
        )
