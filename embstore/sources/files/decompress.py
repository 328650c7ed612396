"""Decompressors: gzip, bz2, xz, lzma, zstd and lz4 as streams of bytes.

A compressed file may hold several streams, one after the other, as ``cat a.gz b.gz`` makes. All of
them are read. Bytes that are not another stream are an error: the readers of the standard library
take them for the end of the file, and lose what a damaged second stream holds.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import IO, TYPE_CHECKING, Any, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES = 128 << 10
# xz's largest preset needs 65 MiB; a header may ask for 4 GiB.
_MAX_LZMA_BYTES = 1 << 30
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib then reads gzip's header and trailer.


class DamagedError(Exception):
    """Compressed data or an archive is damaged, or not read; the message says how."""


# What the readers below raise for damaged data, besides an OSError without a number.
ERRORS = (DamagedError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, MemoryError)


class _Decoder(Protocol):
    """One stream, as `bz2.BZ2Decompressor` reads it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """A gzip stream; zlib checks its checksum and its length."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


class _Streams(io.BufferedIOBase):
    """The decompressed bytes of one or more streams.

    Parameters
    ----------
    raw : binary file
        The compressed bytes.
    make : callable
        Makes the decoder of one stream.
    what : str
        Name of the compression, for messages.
    padding : int
        Streams may be followed by a multiple of this number of zero bytes; 0 for none.
    """

    def __init__(
        self, raw: IO[bytes], make: Callable[[], _Decoder], what: str, *, padding: int = 0
    ) -> None:
        self._raw, self._make, self._what, self._padding = raw, make, what, padding
        self._decoder = make()
        self._done = False

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end."""
        left = size if size is not None and size >= 0 else 1 << 62
        pieces = []
        while left and (piece := self._piece(min(left, 1 << 30))):
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        """Return some bytes; none at the end of the file."""
        while not self._done:
            if self._decoder.eof:
                piece = self._next_stream(size)
            else:
                data = self._raw.read(_READ_BYTES) if self._decoder.needs_input else b""
                if not data and self._decoder.needs_input:
                    raise EOFError("the compressed data ends too early")
                piece = self._decoder.decompress(data, size)
            if piece:
                return piece
        return b""

    def _next_stream(self, size: int) -> bytes:
        data = self._after_padding(self._decoder.unused_data or self._raw.read(_READ_BYTES))
        if not data:
            self._done = True
            return b""
        self._decoder = self._make()
        try:
            return self._decoder.decompress(data, size)
        except (zlib.error, lzma.LZMAError, OSError) as error:
            zeros = "zero bytes follow" if data.startswith(bytes(4)) else "other bytes follow"
            raise DamagedError(
                f"{zeros} the end of its {self._what} data, so something may be missing"
            ) from error

    def _after_padding(self, data: bytes) -> bytes:
        if not self._padding:
            return data
        zeros = 0
        while data:
            rest = data.lstrip(b"\0")
            zeros += len(data) - len(rest)
            data = rest or self._raw.read(_READ_BYTES)
            if rest:
                break
        if zeros % self._padding:
            raise DamagedError(
                f"{zeros} zero bytes follow the end of its {self._what} data; padding is a "
                f"multiple of {self._padding} bytes"
            )
        return data


def gunzip(raw: IO[bytes]) -> Any:
    """Return the decompressed bytes of a gzip file."""
    return _Streams(raw, _Gunzip, "gzip")


def bunzip2(raw: IO[bytes]) -> Any:
    """Return the decompressed bytes of a bz2 file."""
    return _Streams(raw, bz2.BZ2Decompressor, "bz2")


def unxz(raw: IO[bytes]) -> Any:
    """Return the decompressed bytes of an xz file; its specification allows padding."""
    return _Streams(raw, lambda: _lzma(lzma.FORMAT_XZ), "xz", padding=4)


def unlzma(raw: IO[bytes]) -> Any:
    """Return the decompressed bytes of a file in xz's older format, of one stream."""
    return _Streams(raw, _only_once(lambda: _lzma(lzma.FORMAT_ALONE)), "lzma")


def unzstd(raw: IO[bytes]) -> Any:
    """Return the decompressed bytes of a zstd file."""
    return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")


def unlz4(raw: IO[bytes]) -> Any:
    """Return the decompressed bytes of an lz4 file."""
    return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "lz4")


def _lzma(format: int) -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format, memlimit=_MAX_LZMA_BYTES)


def _only_once(make: Callable[[], _Decoder]) -> Callable[[], _Decoder]:
    """Return a function that makes one decoder, and then fails as on foreign bytes.

    The older format's header has no magic bytes: zeros are a stream of no bytes.
    """
    makers = [make]

    def once() -> _Decoder:
        if not makers:
            raise DamagedError("other bytes follow the end of its lzma data")
        return makers.pop()()

    return once
