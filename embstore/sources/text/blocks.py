r"""Text files, read in blocks of whole lines.

Lines end at ``\n`` only: U+0085, U+2028 and the like are characters of words. A file whose start
has ``\r`` but no ``\n`` ends its lines with ``\r``. UTF-16 and UTF-32 are told by their byte order
mark, and read as UTF-8.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from embstore.errors import SourceError
from embstore.sources.files.input_file import InputFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.sources.files.input_file import Stream

TEXT_BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
# UTF-32 first: the little-endian mark of UTF-16 is the start of that of UTF-32.
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}
# Enough for the first lines of a file of vectors.
_START_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole lines of a file.

    Attributes
    ----------
    data : bytes
        The lines; the last line of the file may lack its newline.
    first_line : int
        The number of the first line, counted from 1.
    bytes_done : int
        Bytes of the file read so far; compressed bytes if the file is compressed.
    unterminated : bool
        Whether the last line of the file is in this block and lacks its newline.
    """

    data: bytes
    first_line: int
    bytes_done: int
    unterminated: bool = False


class TextFile(InputFile):
    """A text file, compressed or not; see `InputFile` for the parameters."""

    def blocks(
        self,
        block_bytes: int = TEXT_BLOCK_BYTES,
        *,
        line_limit: int | None = None,
        empty_lines: Literal["trim", "keep"] = "trim",
    ) -> Iterator[Block]:
        """Yield the file's lines in blocks of about ``block_bytes``.

        Parameters
        ----------
        block_bytes : int
            Bytes to read at once.
        line_limit : int, optional
            Yield only the first ``line_limit`` lines, and read little more than these.
        empty_lines : {"trim", "keep"}
            What to do with empty lines at the end of the file.

        Raises
        ------
        SourceError
            If the file cannot be decompressed, or a line, or a run of empty lines that might have
            to be trimmed, is longer than 64 MiB.
        """
        lines = self._whole_lines(block_bytes)
        if line_limit is not None:
            lines = _first_lines(lines, line_limit)
        return lines if empty_lines == "keep" else self._trimmed(lines)

    def first_lines(self, count: int) -> list[bytes]:
        """Return up to ``count`` lines, without their ends, of the first 64 KiB; two of any length.

        See `blocks` for the errors.
        """
        text = bytearray()
        with self.open() as stream:
            pieces = self._pieces(stream, _START_BYTES)
            for piece in pieces:
                text += piece
                self._check_length(text, 1)
                if len(text) >= _START_BYTES and text.count(b"\n") >= min(count, 2):
                    break
            is_whole = next(pieces, None) is None
        lines = bytes(text).split(b"\n")
        if not is_whole or not lines[-1]:
            lines.pop()  # The start of a line, or what follows the last newline.
        return [line.rstrip(b"\r") for line in lines[:count]]

    def _trimmed(self, blocks: Iterator[Block]) -> Iterator[Block]:
        # Hold back the last block with content, which is trimmed if no more content follows, and
        # the first empty block after it: if content does follow, the parser's error names its line.
        held: list[Block] = []
        empty_bytes = 0
        for block in blocks:
            if block.data[0] not in b"\r\n" or block.data.strip(b"\r\n"):
                yield from held
                held = [block]
                empty_bytes = 0
                continue
            empty_bytes += len(block.data)
            if empty_bytes > MAX_LINE_BYTES:
                raise SourceError(
                    f"{self.name}:{block.first_line}: more than {MAX_LINE_BYTES >> 20} MiB of "
                    "empty lines; is this really a text file of vectors?"
                )
            if len(held) < 2:
                held.append(block)
        if held and (data := held[0].data.rstrip(b"\r\n")):
            yield replace(held[0], data=data)

    def _whole_lines(self, block_bytes: int) -> Iterator[Block]:
        first_line = 1
        rest = bytearray()  # The start of a line whose end is not read yet.
        with self.open() as stream:
            for piece in self._pieces(stream, block_bytes):
                end = piece.rfind(b"\n") + 1
                if not end:
                    rest += piece
                    self._check_length(rest, first_line)
                    continue
                data = b"".join((rest, memoryview(piece)[:end]))
                rest[:] = piece[end:]
                yield Block(data, first_line, stream.done)
                first_line += data.count(b"\n")
            if rest:
                yield Block(bytes(rest), first_line, self.bytes_read, unterminated=True)

    @cached_property
    def _start(self) -> tuple[bytes, str, bool]:
        r"""The byte order mark, the encoding, and whether lines end in ``\r`` alone."""
        with self.open() as stream:
            start = stream.read(_START_BYTES)
        mark = next(filter(start.startswith, _ENCODINGS), b"")
        text = start.decode(_ENCODINGS.get(mark, "latin-1"), "replace")
        return mark, _ENCODINGS.get(mark, "utf-8"), "\r" in text and "\n" not in text

    def _pieces(self, stream: Stream, block_bytes: int) -> Iterator[bytes]:
        r"""Yield the file in UTF-8, without a byte order mark, its lines ended by ``\n``."""
        mark, encoding, returns = self._start
        stream.read(len(mark))
        pieces = iter(lambda: stream.read(block_bytes), b"")
        if encoding != "utf-8":
            pieces = self._decoded(pieces, encoding)
        return _with_newlines(pieces) if returns else pieces

    def _decoded(self, pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for piece in pieces:
                if text := decoder.decode(piece):
                    yield text.encode()
            decoder.decode(b"", final=True)
        except UnicodeError as error:
            raise SourceError(
                f"{self.name} starts with the mark of {encoding[:6].upper()}, but is not: {error}; "
                "was it cut? Convert the file to UTF-8"
            ) from error

    def _check_length(self, rest: bytearray, line: int) -> None:
        if len(rest) > MAX_LINE_BYTES:
            raise SourceError(
                f"{self.name}:{line}: no newline within {MAX_LINE_BYTES >> 20} MiB; "
                "is this really a text file of vectors?"
            )


def _with_newlines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    r"""Replace ``\r`` and ``\r\n`` by ``\n``."""
    after_return = False
    for piece in pieces:
        text = piece[1:] if after_return and piece.startswith(b"\n") else piece
        after_return = piece.endswith(b"\r")
        yield text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _first_lines(blocks: Iterator[Block], count: int) -> Iterator[Block]:
    """Yield the blocks of the first ``count`` lines."""
    while count > 0 and (block := next(blocks, None)) is not None:
        found = block.data.count(b"\n")
        if found >= count:
            end = len(block.data)
            if found > count:
                end = _nth_newline(block.data, count) + 1
            yield replace(block, data=block.data[:end])
            return
        yield block
        count -= found


def _nth_newline(data: bytes, count: int) -> int:
    """Return the position of the ``count``-th newline, counted from 1."""
    text = np.frombuffer(data, np.uint8)
    return int(np.flatnonzero(text == b"\n"[0])[count - 1])
