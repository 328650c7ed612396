"""Objects in a local directory.

1. An object is a file. It is written under another name, flushed, and then renamed, so it is there
   whole or not at all. With ``if_absent`` it is linked instead, which fails if there is one.
2. The ETag of a small file is a hash of its bytes. That of a large one is made of its size, its
   inode and the time of its last change.
3. Conditions are checked, and files renamed, under a lock that all writers take for a moment.

Unfinished files and the lock are in ``.embstore-uploads``, which no listing shows.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from embstore.errors import RemoteError, StoreNotFoundError
from embstore.remote.location import Location, checked_name
from embstore.remote.objects import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from embstore.remote.objects import Request

_IS_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_UPLOADS = ".embstore-uploads"
_HASHED_BYTES = 64 << 10  # Up to this size, the ETag is a hash.
_COPIED_BYTES = 1 << 20  # At a time.
_LOCK_SECONDS = 30.0  # It is held for a rename, never while bytes are written.
_LEFT_OVER_SECONDS = 86_400.0  # Unfinished files of this age belong to a writer that has ended.


class Directory:
    """The objects of a local directory, as `Objects`.

    Parameters
    ----------
    location : Location
        A ``file:`` URL. The directory is made by the first write.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._path = Path(location.prefix)

    def __repr__(self) -> str:
        return f"<Directory {self.url}>"

    @property
    def url(self) -> str:
        """The URL of the directory."""
        return self._location.url

    def where(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self.url}/{name}" if name else self.url

    def find(self, prefix: str = "") -> list[ObjectInfo]:
        """Return all objects whose names start with ``prefix``, at any depth, sorted by name."""
        parent = prefix.rpartition("/")[0]
        top = self._path_of(parent) if parent else self._path
        found = []
        with self._naming(parent):
            for path in _files(top):
                name = path.relative_to(self._path).as_posix()
                if name.startswith(prefix):
                    with suppress(FileNotFoundError):  # Deleted meanwhile.
                        found.append(_info(name, path))
        return sorted(found, key=lambda one: one.name)

    def directories(self) -> list[str]:
        """Return the directories that have objects, at any depth."""
        with self._naming(""):
            if not self._path.exists():
                return []
            tops = [one for one in self._path.iterdir() if one.is_dir() and one.name != _UPLOADS]
            return sorted(one.name for one in tops if next(_files(one), None) is not None)

    def head(self, name: str) -> ObjectInfo | None:
        """Return an object, or None if it is missing."""
        path = self._path_of(name)
        with self._naming(name):
            try:
                return _info(name, path) if path.is_file() else None
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read(
        self, name: str, first: int = 0, count: int | None = None, *, etag: str | None = None
    ) -> bytes:
        """Return ``count`` bytes of an object from byte ``first`` on, or all that follow."""
        path = self._path_of(name)
        with self._naming(name), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            wanted = max(0, size - first) if count is None else count
            if first + wanted > size:
                raise RemoteError(
                    f"{self.where(name)}: expected bytes {first} to {first + wanted - 1}, but it "
                    f"has {size}; it is cut short, or another version: publish it again"
                )
            data = os.pread(file.fileno(), wanted, first)
            while len(data) < wanted:  # A read gives at most 2 GiB.
                more = os.pread(file.fileno(), wanted - len(data), first + len(data))
                if not more:
                    raise RemoteError(f"{self.where(name)}: was cut while it was read")
                data += more
            if etag is not None and _etag(file.fileno()) != etag:
                raise RemoteError(
                    f"{self.where(name)}: another version was written there since it was opened; "
                    "open it again"
                )
            return data

    def read_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each request and its bytes, in order."""
        for position, one in enumerate(requests):
            yield position, self.read(one.name, one.first, one.count, etag=one.etag)

    def put(
        self,
        name: str,
        data: bytes | Path,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> ObjectInfo | None:
        """Write an object; return it, or None if another writer was first."""
        target = self._path_of(name)
        if isinstance(data, Path):
            data.stat()  # An error about this file is its own.
        with self._naming(name, is_missing=()):
            uploads = self._path / _UPLOADS
            uploads.mkdir(parents=True, exist_ok=True)
            _clean(uploads)
            unfinished = uploads / secrets.token_hex(16)
            try:
                _write(unfinished, data)
                info = _info(name, unfinished)
                with _locked(uploads / "lock"):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    now = self.head(name) if if_absent or if_match is not None else None
                    if if_absent and now is not None:
                        return None
                    if if_match is not None and (now is None or now.etag != if_match):
                        return None
                    if if_absent:
                        os.link(unfinished, target)
                    else:
                        unfinished.replace(target)
                _flush_directory(target.parent)
            except FileExistsError:
                return None
            finally:
                unfinished.unlink(missing_ok=True)
        return info

    def copy(self, source: str, target: str) -> None:
        """Copy an object."""
        checked_name(target)
        if self.head(source) is None:
            raise StoreNotFoundError(f"{self.where(source)} does not exist")
        self.put(target, self._path_of(source))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, and the directories that are then empty; missing ones are ignored."""
        for name in names:
            path = self._path_of(name)
            if not path.exists():
                continue
            with (
                self._naming(name),
                _locked(self._path / _UPLOADS / "lock"),
                suppress(FileNotFoundError, NotADirectoryError),
            ):
                path.unlink()
                for parent in path.parents:
                    if parent == self._path or not _remove_if_empty(parent):
                        break

    def _path_of(self, name: str) -> Path:
        return self._path / checked_name(name)

    @contextmanager
    def _naming(
        self, name: str, is_missing: tuple[type[OSError], ...] = _IS_MISSING
    ) -> Iterator[None]:
        """Give errors of the system the type and the message of `Objects`."""
        try:
            yield
        except RemoteError:
            raise
        except is_missing as error:
            raise StoreNotFoundError(f"{self.where(name)} does not exist") from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RemoteError(f"{self.where(name)}: {reason}") from error


def _files(top: Path) -> Iterator[Path]:
    """Yield the files below a directory; others, such as pipes, would hang who opens them."""

    def fail(error: OSError) -> None:
        # One that is missing, or was just removed, has no files; one that is closed to us may.
        if not isinstance(error, _IS_MISSING):
            raise error

    for folder, folders, names in os.walk(top, onerror=fail):
        if _UPLOADS in folders:
            folders.remove(_UPLOADS)
        yield from filter(Path.is_file, (Path(folder, name) for name in names))


def _info(name: str, path: Path) -> ObjectInfo:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return ObjectInfo(name, status.st_size, _etag(file.fileno()), modified)


def _etag(descriptor: int) -> str:
    found = os.fstat(descriptor)
    if found.st_size <= _HASHED_BYTES:
        return hashlib.sha256(os.pread(descriptor, _HASHED_BYTES, 0)).hexdigest()[:32]
    return f"{found.st_size:x}-{found.st_ino:x}-{found.st_mtime_ns:x}"


def _write(path: Path, data: bytes | Path) -> None:
    with path.open("xb") as file:
        if isinstance(data, Path):
            with data.open("rb") as source:
                shutil.copyfileobj(source, file, _COPIED_BYTES)
        else:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.005)
        yield


def _clean(uploads: Path) -> None:
    oldest = time.time() - _LEFT_OVER_SECONDS
    for path in uploads.iterdir():
        with suppress(OSError):
            if path.name != "lock" and path.stat().st_mtime < oldest:
                path.unlink()


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_empty(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
