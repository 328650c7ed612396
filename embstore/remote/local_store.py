"""A store on a local disk, as it is published: its files, each checked before its bytes leave.

1. The metadata, and the size and last bytes of every chunk file, are checked first.
2. A file is read whole and compared with the size and checksum that the store lists for it. A small
   one is given as the bytes that were checked. A large one is given by its path, and afterwards its
   inode, size and times must be as they were when it was checked.
3. The store must not be replaced in between: its identity is compared again after each file.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embstore.contents import read_contents
from embstore.errors import StoreCorruptError, StoreNotFoundError
from embstore.fingerprint import of_rows
from embstore.formats import STORE, find_format
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, open_regular, read_small
from embstore.formats.own.checks import check_array, wrong_target
from embstore.formats.own.layout import layout_of
from embstore.formats.own.listed_files import PIECE_BYTES, ListedFile, RunningCheck, chunk_files
from embstore.formats.own.manifest import read_manifest
from embstore.paths import as_path, url_of
from embstore.reading.cached import CachedRecords
from embstore.reading.encoded import raw_records
from embstore.reading.files import StoreFiles, files_at
from embstore.reading.readers import read_records
from embstore.wording import function
from embstore.writing.disk.replacement import finish_replacement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from embstore.contents import Contents
    from embstore.table.protocols import Visit

# Up to this size, a file is held in memory while it is uploaded; 32 of them may be.
HELD_BYTES = 4 << 20


class LocalStore:
    """A store that is to be published.

    Parameters
    ----------
    path : Path
        Its directory.

    Attributes
    ----------
    manifest : Manifest
        Its manifest.
    root : bytes
        Its root metadata, which is uploaded last.
    files : list of ListedFile
        All other files: the metadata, then the chunks.
    chunks : dict of str to ListedChunks
        What each array lists of its chunks, by the name of the array.

    Raises
    ------
    StoreNotFoundError, StoreVersionError, StoreCorruptError
        If it is not a store, needs a newer embstore, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        finish_replacement(path)
        files = StoreFiles(path)
        self._identity = files.identity
        with self._noticing():
            self._contents = read_contents(files)
            self.root = read_small(path / spec.METADATA, spec.MAX_METADATA_BYTES)
            self.manifest = self._contents.manifest
            self.chunks = {
                array.name: check_array(files, array, self.manifest)
                for array in self.manifest.arrays()
            }
            self.files = [*self._metadata_files(), *self._chunk_files()]
            fingerprint = self.manifest.fingerprint or _computed(self._contents)
        self.fingerprint = fingerprint
        self.version = f"{fingerprint}-{layout_of(self.manifest)}"
        self.check_unchanged()

    @property
    def byte_count(self) -> int:
        """The bytes of all files."""
        return len(self.root) + sum(file.size for file in self.files)

    def check_unchanged(self) -> None:
        """Raise `StoreNotFoundError` if the store was replaced or removed."""
        if StoreFiles(self.path).identity != self._identity:
            raise StoreNotFoundError(
                f"the store {self.path} was replaced or removed while it was published; publish it "
                "again"
            )

    @contextmanager
    def checked(self, file: ListedFile) -> Iterator[bytes | Path]:
        """Give the bytes or the path of a file that has the listed checksum.

        Raises
        ------
        StoreCorruptError
            If the file is damaged; on the way out, if it has changed since.
        StoreNotFoundError
            If the store was replaced; on the way out, too.
        """
        where = self.path / file.name
        with self._noticing():
            descriptor, size_bytes, is_link = open_regular(where)
            try:
                before = _state(descriptor)
                if size_bytes != file.size:
                    raise StoreCorruptError(
                        f"{where} has {size_bytes} bytes, expected {file.size}; {REBUILD}"
                    )
                data = _read(descriptor, file, where, is_link=is_link)
                yield where if data is None else data
                if data is None and _state(descriptor) != before:
                    raise StoreCorruptError(
                        f"{where} was changed while it was uploaded; {REBUILD}, and publish it then"
                    )
            finally:
                os.close(descriptor)
        self.check_unchanged()

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """If the store was replaced meanwhile, say that instead of what follows from it."""
        try:
            yield
        except (StoreCorruptError, FileNotFoundError):
            if self._identity is not None:
                self.check_unchanged()
            raise

    def _metadata_files(self) -> Iterator[ListedFile]:
        for name in self.manifest.metadata_names():
            size = (self.path / name).stat().st_size
            yield ListedFile(name, size, size, self.manifest.metadata_checksums[name])

    def _chunk_files(self) -> Iterator[ListedFile]:
        for array in self.manifest.arrays():
            yield from chunk_files(array, self.chunks[array.name])


def open_local(path: str | os.PathLike[str]) -> LocalStore:
    """Return the store at a path.

    Raises
    ------
    StoreNotFoundError
        If there is none; of other tables the message says how to make one.
    StoreVersionError, StoreCorruptError
        If it needs a newer embstore, or is damaged.
    TypeError, ValueError
        If ``path`` is not a path.
    """
    where = as_path(path, "path")
    if url_of(where) is not None:
        raise ValueError("path must be a store on a local disk, not a URL; the URL comes second")
    where = where.absolute()
    finish_replacement(where)
    if where.exists() and not (where / spec.METADATA).exists():
        found = find_format(*files_at(where))
        what = (
            "it is not a store" if found is None or found[0] is STORE else f"it is {found[0].what}"
        )
        raise StoreNotFoundError(
            f"cannot publish {where}: {what}; build a store from it first, by "
            f"{function('build')}, and publish that"
        )
    read_manifest(where)  # Its errors tell what is there instead of a store.
    return LocalStore(where)


def _read(descriptor: int, file: ListedFile, where: Path, *, is_link: bool) -> bytes | None:
    """Read and check an open file; return its bytes if it is small."""
    check, done = RunningCheck(file), 0
    pieces: list[bytes] = []
    while done < file.size:
        piece = os.pread(descriptor, min(PIECE_BYTES, file.size - done), done)
        if not piece:
            raise StoreCorruptError(f"{where} became shorter while it was read; {REBUILD}")
        check.add(piece)
        done += len(piece)
        if file.size <= HELD_BYTES:
            pieces.append(piece)
    if not check.is_right():
        if is_link:  # Its bytes may be anyone's.
            raise StoreCorruptError(wrong_target(where))
        raise StoreCorruptError(
            f"{where} has the checksum {check.computed:08x}, but the store lists "
            f"{file.checksum:08x}: it is damaged, and nothing of it is published; {REBUILD}"
        )
    return b"".join(pieces) if file.size <= HELD_BYTES else None


def _state(descriptor: int) -> tuple[int, ...]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _computed(contents: Contents) -> str:
    """Return the fingerprint of a store that does not state it, from all of its rows."""
    numbering, vocabulary = contents.table.numbering, contents.vocabulary
    found = read_records(contents.table, contents.files, reader="chunked")
    assert not isinstance(found, CachedRecords)  # Only what is remote has a cache.
    records = raw_records(found)

    def scan(visit: Visit) -> None:
        def show(rows: range, some: NDArray[Any]) -> None:
            visit(numbering.ids_at(rows), some)

        records.scan_ranges(numbering.row_ranges(0, numbering.rows), show)

    packed = None if vocabulary is None else vocabulary.packed
    unk = contents.manifest.unk
    return of_rows(contents.table, scan, packed, unk, contents.attributes)
