"""Watches: whether what was opened is still the newest version at its path or URL.

1. Of a store on disk, the root metadata is looked at: its device, inode, size and modification
   time. Only if these differ are the manifests compared, because a snapshot, a copy or a move has
   the same version in other files.
2. While a store is replaced by two renames, its path is missing for a moment. An open would find
   the old version under its other name then, so it is looked for there.
3. Of a foreign file, the inode, size and modification time of each file are compared.
4. Of a store published at a URL, the pointer says which version is current. Of other files at a
   URL, the sizes and ETags are compared.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from embstore.errors import RemoteError, StoreError
from embstore.formats.own.manifest import manifest_of
from embstore.formats.own.spec import ATTRIBUTES, METADATA
from embstore.reading.files import StoreFiles
from embstore.writing.disk.replacement import aside_path, copied_path

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
    from embstore.reading.files import ForeignFiles
    from embstore.remote.files import RemoteFiles

_MODEL_SUFFIXES = (".safetensors", ".safetensors.index.json", ".index.json")
_IS_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
# A version that was found may be replaced before it is read; then another is there.
_TRIES = 100


class Watch(Protocol):
    """What tells whether an open table is the newest version."""

    def is_current(self) -> bool:
        """Say whether the table is the newest version; False if nothing is there any more."""
        ...


class StoreWatch:
    """The watch of a store on disk.

    Parameters
    ----------
    path : Path
        The directory of the store.
    manifest : Manifest
        That of the open store.
    identity : tuple of int, optional
        That of its files.
    """

    def __init__(self, path: Path, manifest: Manifest, identity: object) -> None:
        self._path, self._manifest, self._known = path, manifest, identity

    def is_current(self) -> bool:
        """Say whether the version at the path is the open one."""
        for _ in range(_TRIES):
            identity = self._identity(self._path)
            if identity == self._known and identity is not None:
                return True
            directory = self._path
            if identity is None:
                moved = self._moved()
                if moved is None:
                    if self._identity(self._path) is not None:
                        continue  # It was being replaced, and is back.
                    return False
                directory, identity = moved
            if identity == self._known:
                return True
            same = self._is_same(directory)
            if self._identity(directory) == identity:
                if same:
                    self._known = identity
                return same
        return False  # It changes all the time.

    def _moved(self) -> tuple[Path, object] | None:
        """Return where a version that is being replaced was moved to, and its identity."""
        copied, aside = copied_path(self._path), aside_path(self._path)
        found = StoreFiles(copied).identity
        if found is not None:
            return copied, found
        found = None if self._path.exists() else StoreFiles(aside).identity
        return None if found is None else (aside, found)

    def _is_same(self, directory: Path) -> bool:
        """Say whether a directory has the manifest of the open store."""
        try:
            return is_same_version(self._manifest, manifest_of(StoreFiles(directory)))
        except StoreError:  # It is damaged, or being copied.
            return False

    def _identity(self, directory: Path) -> object:
        """Return the identity of the store in a directory; None if there is none."""
        found = StoreFiles(directory).identity
        if found is None:
            # Why? A directory that may not be searched is not a store that was removed.
            try:
                os.stat(f"{directory}/{METADATA}")  # noqa: PTH116  # As in StoreFiles.
            except OSError as error:
                if error.errno not in _IS_MISSING:
                    raise
        return found


def is_same_version(opened: Manifest, found: Manifest) -> bool:
    """Say whether a manifest states the same facts, checksums and source as that of an open store.

    A store that was opened in part may lack words and attributes; the checksums cover them, too.
    """
    if opened.metadata_checksums != found.metadata_checksums:
        return False
    absent = {"vocabulary", "unk"} if opened.vocabulary is None else set()
    absent |= set() if opened.attributes else {ATTRIBUTES}
    one, other = (
        {name: value for name, value in manifest.to_json().items() if name not in absent}
        for manifest in (opened, found)
    )
    return one == other


class FileWatch:
    """The watch of a table in foreign files.

    Parameters
    ----------
    files : ForeignFiles
        The files that the table is in.
    is_directory : bool
        Whether the directory was opened, to which a file of the table may be added.
    """

    def __init__(self, files: ForeignFiles, *, is_directory: bool) -> None:
        self._files = files
        self._parts = _model_files(files) if is_directory else None

    def is_current(self) -> bool:
        """Say whether the files are those that were opened."""
        if not self._files.are_unchanged():
            return False
        return self._parts is None or self._parts == _model_files(self._files)


def _model_files(files: ForeignFiles) -> frozenset[str] | None:
    """Return the names in a directory of those files that may be parts of a model."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return frozenset(name for name in files.names() if name.endswith(_MODEL_SUFFIXES))
    return None


@dataclass(frozen=True, slots=True)
class UrlWatch:
    """The watch of what is at a URL.

    Attributes
    ----------
    url : str
        The URL.
    name : str
        The file that was opened; ``""`` for a store, or for all files.
    version : str or None
        The version of a published store.
    files : RemoteFiles
        The files that the table is in.
    manifest : Manifest or None
        That of a store.
    allow_http : bool
        As for `embstore.open`.
    """

    url: str
    name: str
    version: str | None
    files: RemoteFiles
    manifest: Manifest | None
    allow_http: bool

    def is_current(self) -> bool:
        """Ask whether the open version is the one that an open of the URL would find.

        Raises
        ------
        RemoteError
            If the object store cannot be reached, or refuses.
        """
        # Imported here because only URLs need them.
        from embstore.remote.place import place_at  # noqa: PLC0415
        from embstore.remote.pointer import read_pointer  # noqa: PLC0415
        from embstore.remote.urls import objects_at  # noqa: PLC0415

        try:
            if self.version is not None:
                objects = objects_at(self.url, allow_http=self.allow_http)
                return read_pointer(objects) == self.version
            place = place_at(self.url, allow_http=self.allow_http)
            if (place.version, place.name) != (None, self.name):
                return False
            found = place.files.of(self.files.chosen)
            identity: Any = found.identity
            has_tags = all(etag is not None for _, _, etag in identity)
            if identity == self.files.identity and (has_tags or self.manifest is None):
                return True
            if self.manifest is None:
                return False
            return is_same_version(self.manifest, manifest_of(found))
        except RemoteError:
            raise
        except (StoreError, ValueError):  # Nothing is there, or it is damaged: an open says what.
            return False
