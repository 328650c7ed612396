"""How is a file opened? As a stream of bytes, decompressed if its last suffix says so."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from embstore.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedIOBase
    from pathlib import Path


COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip")


class InputFile:
    """A file, compressed or not.

    Parameters
    ----------
    path : Path
        The file; its last suffix says how it is compressed.
    member : str or None
        The member of a ``.zip``; not needed if it has only one.

    Raises
    ------
    SourceError
        If there is no such file or member.
    """

    def __init__(self, path: Path, member: str | None = None) -> None:
        self.path = path
        self.suffix = path.suffix.lower()
        if not path.exists():
            raise SourceError(f"no such file: {path}")
        if not path.is_file():
            raise SourceError(f"{path} is not a file")
        if member is not None and self.suffix != ".zip":
            raise SourceError(f"{path} is not a .zip, so it has no member {member!r}")
        self.byte_count = path.stat().st_size
        self.member = self._only_member(member) if self.suffix == ".zip" else None
        self.name = f"{path}[{self.member}]" if self.member else str(path)

    @property
    def short_name(self) -> str:
        """The file's name without its directory, and the member's."""
        return self.path.name + (f"[{self.member}]" if self.member else "")

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """Open the file for reading from its begin."""
        with self.path.open("rb") as raw, self._decompressed(raw) as stream:
            yield Stream(self, raw, stream)

    @contextmanager
    def _decompressed(self, raw: IO[bytes]) -> Iterator[Any]:
        match self.suffix:
            case ".gz":
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream
            case ".bz2":
                with bz2.BZ2File(raw) as stream:
                    yield stream
            case ".xz":
                with lzma.LZMAFile(raw) as stream:
                    yield stream
            case ".zip":
                with self._open_member(raw) as stream:
                    yield stream
            case _:
                yield raw

    def _open_member(self, raw: IO[bytes]) -> IO[bytes]:
        assert self.member is not None
        try:
            return zipfile.ZipFile(raw).open(self.member)
        except (zipfile.BadZipFile, RuntimeError) as error:  # Or encrypted, or an unknown method.
            raise SourceError(f"{self.name}: cannot be read from the .zip: {error}") from error

    def _only_member(self, member: str | None) -> str:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise SourceError(
                f"{self.path} is not a readable .zip: {error}; "
                "is the download complete, and the suffix the right one?"
            ) from error
        if not names:
            raise SourceError(f"{self.path} is empty: a .zip without members")
        listing = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        if member is None:
            if len(names) != 1:
                raise SourceError(
                    f"{self.path} has {len(names)} members: {listing}; name the one to read "
                    "(member=, or --member on the command line)"
                )
            return names[0]
        if member not in names:
            raise SourceError(f"{self.path} has no member {member!r}; it has: {listing}")
        return member


@dataclass(frozen=True, slots=True)
class Stream:
    """The bytes of an open file.

    Attributes
    ----------
    file : InputFile
        Which file, for messages.
    raw, stream : binary file
        Its bytes on disk, and what they decompress to.
    """

    file: InputFile
    raw: IO[bytes]
    stream: BufferedIOBase

    @property
    def done(self) -> int:
        """How far the file is read, in bytes on disk."""
        return self.raw.tell()

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer at the end only.

        Raises
        ------
        SourceError
            If the file cannot be decompressed.
        """
        with self._saying_what_is_wrong():
            return self.stream.read(size)

    def read_into(self, room: memoryview) -> int:
        """Fill ``room`` with the next bytes; return how many, fewer than fit at the end only.

        Memory that is used again saves the pages that each new ``bytes`` would have to be given.

        Raises
        ------
        SourceError
            If the file cannot be decompressed.
        """
        done = 0
        with self._saying_what_is_wrong():
            while count := self.stream.readinto(room[done:]):
                done += count
        return done

    @contextmanager
    def _saying_what_is_wrong(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # The disk's own failure.
            raise SourceError(
                f"{self.file.name}: cannot be decompressed as {self.file.suffix}: {error}; "
                "is the download complete, and the suffix the right one?"
            ) from error


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths so that numbers in their names count: ``part-2`` comes before ``part-10``."""

    def key(path: Path) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", path.name)
        return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]

    return sorted(paths, key=key)
