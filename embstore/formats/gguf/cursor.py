"""Bounded reads of a GGUF header, from its first byte on.

The header's numbers are untrusted. A cursor reads a window of the file at a time, and never past
what a number claims: long texts and arrays are skipped without being read. The bytes that it does
read are limited in all.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from embstore.settle import shown_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

U32 = Struct("<I")
U64 = Struct("<Q")
FIRST_BYTES = 64 << 10  # The whole header of a file without a vocabulary.
WINDOW_BYTES = 1 << 20
# A vocabulary of 250,000 tokens and as many merges takes about 10 MB.
MAX_READ_BYTES = 64 << 20
# Texts that are skipped one by one before many are tried at once again.
_TEXTS_AT_ONCE = 512


class Cursor:
    """A place in a file.

    Parameters
    ----------
    read : callable
        Called with a first byte and a count; returns these bytes of the file, fewer at its end.
    size_bytes : int
        Size of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes], size_bytes: int) -> None:
        self._read = read
        self.size_bytes = size_bytes
        self._window = b""
        self._first = 0  # The window's first byte in the file.
        self._at = 0  # In the window.
        self._read_bytes = 0
        self._next_bytes = FIRST_BYTES
        self._chain: _Chain | None = None

    @property
    def place(self) -> int:
        """The next byte in the file."""
        return self._first + self._at

    @property
    def left(self) -> int:
        """Bytes of the file from here on."""
        return self.size_bytes - self.place

    def number(self, form: Struct) -> int:
        """Return the next number."""
        self._need(form.size)
        (found,) = form.unpack_from(self._window, self._at)
        self._at += form.size
        return int(found)

    def text(self, what: str, max_bytes: int) -> str:
        """Return the next text.

        Raises
        ------
        ValueError
            If it has more than ``max_bytes``, or is not UTF-8.
        """
        size = self.number(U64)
        if size > max_bytes:
            raise ValueError(f"{what} has {size} bytes, more than {max_bytes}")
        self._need(size)
        data = self._window[self._at : self._at + size]
        self._at += size
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{what} is not UTF-8: {shown_bytes(data)}") from error

    def skip(self, size_bytes: int) -> None:
        """Skip bytes without reading them."""
        if size_bytes > self.left:
            raise ValueError(
                f"it claims {size_bytes} bytes from byte {self.place} on, but the file has "
                f"{self.size_bytes} bytes"
            )
        self._at += size_bytes  # It may now be behind the window.

    def skip_texts(self, count: int) -> None:
        """Skip texts. Only their lengths are looked at, those of many short ones at once."""
        while count:
            self._need(U64.size)
            if self._chain is None:
                self._chain = _Chain(self._window)
            self._at, skipped = self._chain.follow(self._at, count)
            count -= skipped
            if count:
                count -= self._skip_some(min(count, _TEXTS_AT_ONCE))

    def _skip_some(self, count: int) -> int:
        """Skip up to ``count`` texts that start in the window, one by one; return how many."""
        self._need(U64.size)
        window, at, done = self._window, self._at, 0
        last = len(window) - U64.size
        while done < count and at <= last:
            at += U64.size + U64.unpack_from(window, at)[0]
            done += 1
        self.skip(at - self._at)
        return done

    def _need(self, size_bytes: int) -> None:
        """Have bytes in the window."""
        if self._at + size_bytes <= len(self._window):
            return
        if size_bytes > self.left:
            raise ValueError(
                f"its header goes on at byte {self.place} for {size_bytes} bytes or more, but the "
                f"file has {self.size_bytes} bytes"
            )
        place = self.place
        count = max(size_bytes, self._next_bytes)
        self._read_bytes += min(count, self.left)
        if self._read_bytes > MAX_READ_BYTES:
            raise ValueError(f"its header has more than {MAX_READ_BYTES} bytes")
        window = self._read(place, count)
        if len(window) < size_bytes:
            raise ValueError(f"it ends at byte {place + len(window)}, but was longer before")
        self._window, self._first, self._at = window, place, 0
        self._next_bytes, self._chain = WINDOW_BYTES, None


class _Chain:
    """The texts of 1 to 255 bytes in a window, where they follow each other.

    The length of such a text is one byte and seven zeros. Of all places that look like this, those
    whose text ends at the next such place are a chain, in which a lookup finds how far it goes.

    Parameters
    ----------
    window : bytes
        8 bytes or more.
    """

    def __init__(self, window: bytes) -> None:
        values = np.frombuffer(window, np.uint8)
        zeros = values == 0
        pairs = zeros[:-1] & zeros[1:]
        fours = pairs[:-2] & pairs[2:]
        sevens = fours[:-3] & fours[3:]
        self._places: NDArray[np.int64] = np.flatnonzero(sevens[1:] & ~zeros[: len(sevens) - 1])
        self._ends = self._places + 8 + values[self._places]
        self._breaks = np.flatnonzero(self._ends[:-1] != self._places[1:])

    def follow(self, at: int, count: int) -> tuple[int, int]:
        """Return where up to ``count`` texts from a place on end, and how many they are.

        The last text of a chain is left out: it may end behind the window.
        """
        first = int(np.searchsorted(self._places, at))
        if first == len(self._places) or self._places[first] != at:
            return at, 0
        place = int(np.searchsorted(self._breaks, first))
        last = int(self._breaks[place]) if place < len(self._breaks) else len(self._places) - 1
        stop = min(last, first + count)
        return int(self._places[stop]), stop - first
