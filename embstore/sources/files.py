"""Input files as streams of bytes, decompressed according to their last suffix."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from embstore.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import BufferedIOBase
    from pathlib import Path

_DECOMPRESSORS: dict[str, Callable[[IO[bytes]], AbstractContextManager[Any]]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
COMPRESSED_SUFFIXES = (*_DECOMPRESSORS, ".zip")


class InputFile:
    """A file, compressed or not.

    Parameters
    ----------
    path : Path
        The file; its last suffix tells how it is compressed.
    member : str or None
        The member of a ``.zip``; not needed if it has only one.

    Raises
    ------
    SourceError
        If the file or the member is missing.
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
        """The name of the file without its directory, and the member if there is one."""
        return self.path.name + (f"[{self.member}]" if self.member else "")

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """Open the file for reading from its start."""
        with self.path.open("rb") as raw, self._decompressed(raw) as stream:
            yield Stream(self, raw, stream)

    def _decompressed(self, raw: IO[bytes]) -> AbstractContextManager[Any]:
        if self.member is not None:
            return self._open_member(raw, self.member)
        decompress = _DECOMPRESSORS.get(self.suffix)
        return nullcontext(raw) if decompress is None else decompress(raw)

    def _open_member(self, raw: IO[bytes], member: str) -> IO[bytes]:
        try:
            return zipfile.ZipFile(raw).open(member)
        # RuntimeError: it is encrypted, or compressed by an unknown method.
        except (zipfile.BadZipFile, RuntimeError) as error:
            raise SourceError(f"{self.name} cannot be read from the .zip: {error}") from error

    def _only_member(self, member: str | None) -> str:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise SourceError(
                f"{self.path} is not a readable .zip: {error}; "
                "is the download complete, and the suffix right?"
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
        The file, for messages.
    raw, stream : binary file
        The file's bytes on disk, and the decompressed bytes.
    """

    file: InputFile
    raw: IO[bytes]
    stream: BufferedIOBase

    @property
    def done(self) -> int:
        """Bytes on disk read so far."""
        return self.raw.tell()

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end of the file.

        Raises
        ------
        SourceError
            If the file cannot be decompressed.
        """
        with self._errors_named():
            return self.stream.read(size)

    def read_into(self, room: memoryview) -> int:
        """Fill ``room`` with the next bytes, and return their number.

        Fewer bytes than fit are read only at the end of the file. Reading into the same memory
        again saves the page faults of a new ``bytes`` object for each read.

        Raises
        ------
        SourceError
            If the file cannot be decompressed.
        """
        done = 0
        with self._errors_named():
            while count := self.stream.readinto(room[done:]):
                done += count
        return done

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn an error of decompression into a SourceError that names the file."""
        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # The disk failed, not the decompression.
            raise SourceError(
                f"{self.file.name} cannot be decompressed as {self.file.suffix}: {error}; "
                "is the download complete, and the suffix right?"
            ) from error


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths by name, numbers in names by value: ``part-2`` comes before ``part-10``."""

    def key(path: Path) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", path.name)
        return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]

    return sorted(paths, key=key)
