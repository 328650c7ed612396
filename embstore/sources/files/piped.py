"""Pipes as input: open binary files, and ``/dev/fd/63``, which are read only once.

The first bytes of an input are looked at several times before all of it is read, so those of a pipe
are kept until more than that is read. What needs a second look at the rest is refused.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embstore.errors import SourceError

if TYPE_CHECKING:
    from typing import BinaryIO

KEPT_BYTES = 16 << 20
WRITE_FIRST = "write it to a file first"


class Pipe:
    """Bytes that are read once; its start can be read again.

    Parameters
    ----------
    raw : binary file
        The bytes.
    name : str
        Its name in messages.
    owned : bool
        Whether to close the file at its end.

    Examples
    --------
    >>> pipe = Pipe(io.BytesIO(b"the 1 2"), "standard input")
    >>> pipe.open().read(3), pipe.open().read(5)
    (b'the', b'the 1')
    """

    def __init__(self, raw: BinaryIO, name: str, *, owned: bool = False) -> None:
        self.raw = raw
        self.owned = owned
        self.name = name
        self.bytes_read = 0
        self.kept: bytearray | None = bytearray()

    def __del__(self) -> None:
        if self.owned:
            self.raw.close()

    def __str__(self) -> str:
        return self.name

    def open(self, mode: str = "rb") -> _Reader:
        """Return its bytes from the start, as `pathlib.Path.open` does."""
        return _Reader(self)

    def read_into(self, room: memoryview, place: int) -> int:
        """Fill ``room`` with the bytes at a place; fewer only at the end.

        Raises
        ------
        SourceError
            If they were read before, and are not kept.
        """
        if self.kept is not None and place < len(self.kept):
            count = min(len(room), len(self.kept) - place)
            room[:count] = memoryview(self.kept)[place : place + count]
            return count
        if place != self.bytes_read:
            raise SourceError(
                f"{self.name} can be read only once, and this needs it twice, as counting rows "
                f"and columns besides words and vectors do; {WRITE_FIRST}"
            )
        count = 0
        while count < len(room) and (some := self.raw.read(len(room) - count)):
            room[count : count + len(some)] = some
            count += len(some)
        self.bytes_read += count
        if self.kept is not None:
            self.kept += room[:count]
            if len(self.kept) > KEPT_BYTES:
                self.kept = None
        return count


class _Reader(io.RawIOBase):
    """The bytes of a pipe from its start."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe
        self._place = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def readinto(self, room: Any, /) -> int:
        whole = memoryview(room).cast("B")
        done = 0
        while done < len(whole) and (count := self._pipe.read_into(whole[done:], self._place)):
            done += count
            self._place += count
        return done


def as_pipe(source: Any) -> Pipe | None:
    """Return an open binary file, or the path of an open pipe, as a pipe; None for others.

    Raises
    ------
    TypeError
        If it is a file that was opened as text.
    """
    if isinstance(source, io.TextIOBase):
        raise TypeError("the file was opened as text; open it in binary mode, or pass its path")
    if isinstance(source, io.RawIOBase | io.BufferedIOBase):
        raw: Any = source  # typing has another name for it.
        name = getattr(raw, "name", None)
        is_path = isinstance(name, str) and not name.startswith("<")
        return Pipe(raw, str(name) if is_path else "standard input")
    # A named pipe is refused: opening it would wait until somebody writes to it.
    if isinstance(source, Path) and source.is_fifo() and not source.resolve().exists():
        return Pipe(source.open("rb"), str(source), owned=True)
    return None
