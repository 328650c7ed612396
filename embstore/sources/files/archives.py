"""Archives of files: ``.zip`` and ``.tar``, their members, and one member as a stream.

A tar is read from its start to its end: it may be compressed, and has no list of its members.
Side files that systems add (``__MACOSX``, ``._name``, ``.DS_Store``) are not members here.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from embstore.settle import shown_bytes
from embstore.sources.files.decompress import DamagedError
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIDE_FILES = frozenset([".DS_Store", "Thumbs.db", "desktop.ini"])
_LOCAL_HEADER_BYTES = 30
_BLOCK = tarfile.BLOCKSIZE
# Members of a compressed tar are listed up to here; what comes later is found while reading.
_LISTED_BYTES = 16 << 20
_MAX_NAME_BYTES = 1 << 20
_SKIPPED_TYPES = (
    tarfile.DIRTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)


@dataclass(frozen=True, slots=True)
class Archive:
    """A kind of archive.

    Attributes
    ----------
    members : callable
        Returns the names of the members of an open file; of a compressed tar, perhaps not of all,
        but the one that is wanted, if any.
    open : callable
        Returns a member of an open file as a stream, given its name, and whether it was the only
        one.
    """

    members: Callable[[IO[bytes], str | None], list[str]]
    open: Callable[[IO[bytes], str, bool], Any]


def _zip_members(file: IO[bytes], wanted: str | None) -> list[str]:
    with _zip(file) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    return [info.filename for info in infos if not _is_side_file(info.filename)]


def _open_in_zip(file: IO[bytes], name: str, alone: bool) -> IO[bytes]:
    try:
        return _zip(file).open(name)
    except (zipfile.BadZipFile, RuntimeError, ValueError) as error:  # Encrypted; unknown method.
        raise DamagedError(str(error)) from error


def _zip(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DamagedError(f"it is not a readable .zip: {error}") from error


def stored_offset(file: IO[bytes], name: str) -> int | None:
    """Return the first byte of a member of a ``.zip``; None if it is compressed."""
    with _zip(file) as archive:
        info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    name_bytes = int.from_bytes(header[26:28], "little")
    extra_bytes = int.from_bytes(header[28:30], "little")
    return info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes


ZIP = Archive(_zip_members, _open_in_zip)


def is_tar(start: bytes) -> bool:
    """Return whether these first bytes are a tar's: its header has a checksum."""
    try:
        tarfile.TarInfo.frombuf(start[:_BLOCK], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def _tar_members(file: IO[bytes], wanted: str | None) -> list[str]:
    names, listed = [], 0
    for name, size in _tar_files(file):
        names.append(name)
        listed += size
        enough = listed > _LISTED_BYTES and wanted in (None, *names)
        if enough and not file.seekable():
            break
        _skip(file, size + -size % _BLOCK)
    return names


class _TarMember(io.BufferedIOBase):
    """A file in a tar; at its end, the rest of the tar is checked.

    Parameters
    ----------
    file : binary file
        The tar, at its start.
    name : str
        The member.
    alone : bool
        Whether it must be the only one.
    """

    def __init__(self, file: IO[bytes], name: str, alone: bool) -> None:
        self._file, self._name, self._alone = file, name, alone
        self._files = _tar_files(file)
        for found, size in self._files:
            if found == name:
                self._left, self._padding = size, -size % _BLOCK
                return
            _skip(file, size + -size % _BLOCK)
        raise DamagedError(f"it has no member {name!r}")

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes of the member, fewer only at its end."""
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        if not self._left:
            self._finish()
        if not wanted:
            return b""
        data = _read(self._file, wanted)
        self._left -= wanted
        return data

    def _finish(self) -> None:
        """Read the rest of the tar: other members, and the end of its compressed data."""
        _skip(self._file, self._padding)
        self._padding = 0
        for name, size in self._files:
            if self._alone:
                raise DamagedError(
                    f"it has several members: {self._name}, {name}; name the one to read "
                    f"({option('member')})"
                )
            if name == self._name:
                raise DamagedError(f"it has several members {name!r}")
            _skip(self._file, size + -size % _BLOCK)


TAR = Archive(_tar_members, _TarMember)


def _tar_files(file: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Yield the name and size of each file in a tar; the caller reads or skips its bytes.

    After the last one, the rest of the file is read.
    """
    longer: dict[str, str] = {}  # What precedes a header: a long name, a large size.
    while block := file.read(_BLOCK):
        if not block.strip(b"\0"):
            break
        info = _header(block)
        size = int(longer.get("size", info.size)) if longer.get("size", "0").isdecimal() else -1
        if size < 0:
            raise DamagedError(f"a header says that a file has {size} bytes")
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
            found = _extended(_padded(file, info.size))
            longer |= found if info.type != tarfile.XGLTYPE else {}
            continue
        if info.type == tarfile.GNUTYPE_LONGNAME:
            path = _padded(file, info.size).rstrip(b"\0")
            longer["path"] = path.decode("utf-8", "surrogateescape")
            continue
        name = longer.get("path", info.name)
        sparse = any(key.startswith("GNU.sparse") for key in longer)
        if sparse or info.type == tarfile.GNUTYPE_SPARSE:
            raise DamagedError(f"{name!r} is a sparse file, which is not read; extract it first")
        longer = {}
        if info.type in tarfile.REGULAR_TYPES and not _is_side_file(name):
            yield name, size
        elif info.type not in _SKIPPED_TYPES:
            _skip(file, size + -size % _BLOCK)
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            raise DamagedError("other bytes follow its end, so something may be missing")


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise DamagedError(f"a header is damaged: {error}") from error


def _extended(data: bytes) -> dict[str, str]:
    """Return the records ``length key=value`` of an extended header."""
    found = {}
    while data.strip(b"\0"):
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not len(length) + 3 <= int(length[:9]) <= len(data):
            raise DamagedError(f"an extended header is damaged: {shown_bytes(data)}")
        record, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
        key, _, value = record.partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return found


def _padded(file: IO[bytes], size: int) -> bytes:
    """Return the bytes of a header that come in whole blocks."""
    if size > _MAX_NAME_BYTES:
        raise DamagedError(f"a header has {size} bytes")
    return _read(file, size + -size % _BLOCK)[:size]


def _read(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError("it ends too early")
    return data


def _skip(file: IO[bytes], count: int) -> None:
    if count and file.seekable():
        file.seek(count - 1, io.SEEK_CUR)
        count = 1
    while count:
        count -= len(_read(file, min(count, 1 << 20)))


def _is_side_file(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and (
        parts[0] == "__MACOSX" or parts[-1].startswith("._") or parts[-1] in _SIDE_FILES
    )
