"""Open binary files to export to, such as standard output: written once, from start to end."""

from __future__ import annotations

import io
from typing import IO, Any


class Streamed(io.RawIOBase):
    """A file that was opened by the caller, and stays open; it counts what is written.

    Parameters
    ----------
    file : binary file
        The file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._written = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the bytes written."""
        return self._written

    def flush(self) -> None:
        """Flush the caller's file."""
        if not self.closed:
            self._file.flush()

    def write(self, data: Any, /) -> int:
        """Write all of some bytes."""
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and (count := self._file.write(left)) is not None:
            left = left[count:]
        self._written += size
        return size


def as_stream(target: Any) -> Streamed | None:
    """Return an open binary file to write to; None for anything else.

    Raises
    ------
    TypeError
        If it was opened as text.
    """
    if isinstance(target, io.TextIOBase):
        raise TypeError("the file was opened as text; open it in binary mode, or pass its path")
    file: Any = target  # typing has another name for it.
    return Streamed(file) if isinstance(target, io.RawIOBase | io.BufferedIOBase) else None
