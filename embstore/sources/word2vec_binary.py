r"""Vectors in word2vec's binary format, as word2vec.c and gensim write it.

A header, ``rows dimension\n``, in text; then, for each row, its word, a space, and ``dimension``
float32, little-endian. word2vec.c puts a ``\n`` behind each row, gensim does not; a reader skips
the newlines before a word, so no word can begin with one, nor contain a space.

1. The file, decompressed if need be, is read in blocks.
2. In a block, each word's end is searched behind the vector before it: they have no other order.
3. The vectors, which lie at odd places, are gathered by one call.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embstore import layout
from embstore.errors import SourceError
from embstore.sources import Batch, EncodingErrors, Source
from embstore.sources.ahead import ahead
from embstore.sources.files import InputFile
from embstore.sources.packing import packed_binary

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from embstore.vocabulary.words import PackedWords

READ_BYTES = 8 << 20  # Smaller pieces cost more between them than they save in the cache.
MAX_WORD_BYTES = 1 << 20
_HEADER = re.compile(rb"(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*\n")
_MAX_HEADER_BYTES = 64


class Word2VecBinarySource(Source):
    """Rows of a file in word2vec's binary format.

    Parameters
    ----------
    path : str or Path
        The file; ``.gz``, ``.bz2``, ``.xz`` and ``.zip`` are decompressed on the way.
    member : str, optional
        The member of a ``.zip`` that has several.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8.

    Raises
    ------
    SourceError
        If there is no such file, or it does not begin with a header.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        member: str | None = None,
        encoding_errors: EncodingErrors = "strict",
    ) -> None:
        self._file = InputFile(Path(path), member)
        self._encoding_errors = encoding_errors
        self.name = self._file.name
        self.byte_count = self._file.byte_count
        self.dtype = np.dtype(np.float32)
        with self._file.open() as stream:
            start = stream.read(_MAX_HEADER_BYTES)
        header = _HEADER.match(start)
        if header is None:
            raise SourceError(
                f"{self.name}: expected the header 'rows dimension' of word2vec's binary format, "
                f"found {start[:40]!r}"
            )
        self._header_bytes = header.end()
        self.row_count: int = int(header[1])
        self.row_shape = (int(header[2]),)
        self._vector_bytes = int(header[2]) * self.dtype.itemsize
        if not 1 <= self._vector_bytes <= layout.MAX_ROW_BYTES:
            raise SourceError(
                f"{self.name}: the header says that vectors have {self.row_shape[0]} numbers; is "
                "this really word2vec's binary format?"
            )

    def describe(self) -> dict[str, Any]:
        """Return file name, format and size."""
        return {
            "file": self._file.short_name,
            "format": "word2vec-binary",
            "bytes": self.byte_count,
        }

    def batches(self) -> Iterator[Batch]:
        """Yield the rows the header promises.

        Raises
        ------
        SourceError
            If the file ends before, or a word does not end or is not UTF-8.
        """
        return ahead(self._batches())

    def _batches(self) -> Generator[Batch]:
        done = 0
        rest = b""
        with self._file.open() as stream:
            stream.read(self._header_bytes)
            while done < self.row_count:
                # Of a long word or row, so much that it is complete after a few reads.
                piece = stream.read(max(READ_BYTES, len(rest)))
                data = rest + piece
                starts, ends = self._find_words(data, self.row_count - done)
                if not ends.size:
                    self._check_progress(data, done, at_end=not piece)
                    rest = data
                    continue
                yield Batch(
                    self._gather(data, ends),
                    self._words(data, starts, ends, done),
                    done,
                    stream.done,
                )
                done += len(ends)
                rest = data[int(ends[-1]) + 1 + self._vector_bytes :]
            if rest.strip(b"\n") or stream.read(READ_BYTES).strip(b"\n"):
                raise SourceError(
                    f"{self.name}: the header promises {self.row_count} rows, but there is more "
                    "behind them; correct the header"
                )

    def _find_words(self, data: bytes, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the words of up to ``count`` whole rows begin and end."""
        ends: list[int] = []
        find = data.find
        step = self._vector_bytes + 1
        last = len(data) - step
        start = 0
        for _ in range(count):
            end = find(b" ", start)
            if not 0 <= end <= last:
                break
            ends.append(end)
            start = end + step
        stops = np.array(ends, np.int64)
        starts = np.concatenate([[0], stops[:-1] + step])[: len(stops)]
        # Some programs end a row with a newline; an empty word ends where it begins.
        values = np.frombuffer(data, np.uint8)
        while (at_newline := values[starts] == ord("\n")).any():
            starts += at_newline
        return starts, stops

    def _gather(self, data: bytes, ends: NDArray[np.int64]) -> NDArray[Any]:
        """Return the vectors behind the words; they are not aligned."""
        size = self._vector_bytes
        windows = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
        rows: NDArray[Any] = windows[ends + 1].view("<f4")
        return rows.reshape(len(ends), *self.row_shape).astype(self.dtype, copy=False)

    def _words(
        self, data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], first: int
    ) -> PackedWords:
        offsets = np.concatenate([[0], np.cumsum(ends - starts)])
        # Byte k of the packed words is as far behind its word's begin as it is in the file.
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], ends - starts)
        packed = np.frombuffer(data, np.uint8)[places]
        column = pa.Array.from_buffers(
            pa.binary(),
            len(ends),
            [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(packed)],
        )
        return packed_binary(column, self._encoding_errors, lambda row: self.place(first + row))

    def _check_progress(self, data: bytes, row: int, *, at_end: bool) -> None:
        """Refuse a file that ends, or a word that does not end."""
        if at_end:
            raise SourceError(
                f"{self.place(row)}: the file ends in this row, of the {self.row_count} that the "
                "header promises; was it cut? Fetch it again"
            )
        if b" " not in data[:MAX_WORD_BYTES] and len(data) > MAX_WORD_BYTES:
            raise SourceError(
                f"{self.place(row)}: no space, which ends a word, within "
                f"{MAX_WORD_BYTES >> 20} MiB; is this really word2vec's binary format?"
            )
