"""Input files as streams of bytes, decompressed and taken out of archives by what they are.

1. The first bytes of a file tell its kind, whatever its name is.
2. If that is a compressed file or an archive, the first bytes of its contents tell theirs, and so
   on: a layer is opened on top of another.
3. A kind that is not read is refused, with what the file is and what to do.
"""

from __future__ import annotations

import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from embstore.errors import SourceError
from embstore.paths import no_files, url_of, without_credentials
from embstore.sources.files import decompress
from embstore.sources.files.kinds import START_BYTES, find_archived, find_kind
from embstore.sources.files.piped import WRITE_FIRST, Pipe
from embstore.wording import either, function, option

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from embstore.sources.files.kinds import Kind

_MAX_LAYERS = 4


def check_file(path: Path) -> None:
    """Check that a path is a regular file.

    Raises
    ------
    SourceError
        If it is a URL, is missing, or is something else.
    """
    if not path.exists():
        if url := url_of(path):
            raise SourceError(
                no_files(url)
                or f"{without_credentials(url)} is a URL; download the file, and give its path "
                f"({either('embstore.open reads', 'embstore get and info read')} stores and models "
                f"at URLs, and {function('publish')} puts stores there)"
            )
        if path.is_symlink():
            raise SourceError(f"no such file: {path} is a link to {path.readlink()}")
        raise SourceError(f"no such file: {path}")
    if path.is_dir():
        raise SourceError(f"{path} is not a file, but a directory")
    if not path.is_file():
        raise SourceError(
            f"{path} is not a file, but a pipe or a device, and this may be read twice; "
            f"{WRITE_FIRST}"
        )


class InputFile:
    """A file, compressed, in an archive, or neither.

    Parameters
    ----------
    path : str, Path or Pipe
        The file; its first bytes tell what it is.
    member : str or None
        The member of an archive; not needed if it has only one.
    takes : collection of str, optional
        Names of kinds that the caller reads although they have a remedy, such as ``json``.

    Attributes
    ----------
    kind : Kind
        What the file is, or its only contents.
    byte_count : int
        Its size on disk; 0 for a pipe.
    name : str
        Its name in messages: the path, and the member if there is one.

    Raises
    ------
    SourceError
        If the file or the member is missing, cannot be read, or is of a kind that is not read.
    """

    def __init__(
        self, path: str | Path | Pipe, member: str | None = None, *, takes: Collection[str] = ()
    ) -> None:
        self.path = path if isinstance(path, Pipe) else Path(path)
        self.byte_count = 0
        if isinstance(self.path, Path):
            check_file(self.path)
            self.byte_count = self.path.stat().st_size
        self.member: str | None = None
        self._layers: list[_Layer] = []
        self.kind = self._look(member)
        if self.kind.remedy and self.kind.name not in takes:
            raise SourceError(f"{self.name} is {self.kind.what}; {self.kind.what_to_do()}")
        if member is not None and self.member is None and self.kind.name != "npz":
            raise SourceError(f"{path} is not an archive, so it has no member {member!r}")

    @property
    def piped(self) -> bool:
        """Whether it is a pipe."""
        return isinstance(self.path, Pipe)

    @property
    def packed(self) -> bool:
        """Whether only a stream gives its bytes: it is compressed, in an archive, or a pipe."""
        return bool(self._layers) or self.piped

    @property
    def bytes_read(self) -> int:
        """Its size on disk; of a pipe, the bytes that were read."""
        return self.path.bytes_read if isinstance(self.path, Pipe) else self.byte_count

    @property
    def layers(self) -> tuple[str, ...]:
        """The kinds of compression and archives around the contents, from the outside."""
        return tuple(layer.kind.name for layer in self._layers)

    @property
    def name(self) -> str:
        """The path, and the member if there is one."""
        return str(self.path) + (f"[{self.member}]" if self.member else "")

    @property
    def short_name(self) -> str:
        """The name of the file without its directory, and the member if there is one."""
        return self.path.name + (f"[{self.member}]" if self.member else "")

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """Open the file for reading from its start."""
        opened: Any = self.path.open("rb")
        with opened as raw:
            stream = raw
            with self.errors_named():
                for layer in self._layers:
                    stream = layer.open(stream)
            yield Stream(self, raw, stream)

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turn an error of decompression into a SourceError that names the file."""
        try:
            yield
        except (*decompress.ERRORS, zipfile.BadZipFile, NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # The disk failed, not the decompression.
            layers = " in ".join(reversed(self.layers))
            raise SourceError(
                f"{self.name} cannot be read as {layers}: {error}; is the download complete?"
            ) from error

    def _look(self, member: str | None) -> Kind:
        """Return the kind of the contents, and find the layers around them."""
        while True:
            with self.open() as stream:
                start = stream.read(START_BYTES)
            kind = find_kind(start, self.member or self.path.name)
            if kind.decompress is None and kind.archive is None:
                return kind
            if len(self._layers) == _MAX_LAYERS:
                raise SourceError(
                    f"{self.name} is compressed more than {_MAX_LAYERS} times; decompress it first"
                )
            alone = True
            if kind.archive is not None:
                wanted = None if self.member else member
                names = self._members(kind, wanted)
                # A member that is named in full is read as a file, from an .npz too.
                is_npz = kind.name == "zip" and member not in names
                archived = find_archived(names, self.path.name)
                if archived is not None and (archived.remedy or is_npz):
                    return archived
                alone = wanted is None
                self.member = self._choose(names, wanted)
            self._layers.append(_Layer(kind, self.member or "", alone))

    def _members(self, kind: Kind, wanted: str | None) -> list[str]:
        assert kind.archive is not None
        if kind.name == "zip" and self.piped:
            raise SourceError(f"{self.name} is a zip archive, read from its end; {WRITE_FIRST}")
        if kind.name == "zip" and self._layers:
            raise SourceError(f"{self.name} has a zip archive in it; extract that first")
        with self.open() as stream:
            self._layers.append(_Layer(kind, "", alone=True))  # For the message.
            with self.errors_named():
                names = kind.archive.members(stream.stream, wanted)
            self._layers.pop()
        if not names:
            raise SourceError(f"{self.name} is empty: {kind.what} without members")
        return names

    def _choose(self, names: list[str], member: str | None) -> str:
        listing = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        if member is None:
            if len(names) != 1:
                raise SourceError(
                    f"{self.name} has {len(names)} members: {listing}; name the one to read "
                    f"({option('member')})"
                )
            return names[0]
        if names.count(member) != 1:
            count = "several members" if member in names else "no member"
            raise SourceError(f"{self.name} has {count} {member!r}; it has: {listing}")
        return member


@dataclass(frozen=True, slots=True)
class _Layer:
    """A compression or an archive around the contents of a file.

    Attributes
    ----------
    kind : Kind
        Which one.
    member : str
        The member of an archive.
    alone : bool
        Whether the archive must have no other member, because none was named.
    """

    kind: Kind
    member: str
    alone: bool

    def open(self, stream: IO[bytes]) -> Any:
        """Return the bytes inside of the layer."""
        if self.kind.decompress is not None:
            return self.kind.decompress(stream)
        assert self.kind.archive is not None
        return self.kind.archive.open(stream, self.member, self.alone)


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
    stream: Any

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
        with self.file.errors_named():
            data: bytes = self.stream.read(size)
        return data

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
        with self.file.errors_named():
            while count := self.stream.readinto(room[done:]):
                done += count
        return done
