r"""Vectors in word2vec's binary format, as word2vec.c and gensim write it.

A header, ``rows dimension\n``, in text; then, for each row, its word, a space, and ``dimension``
float32, little-endian. word2vec.c puts a ``\n`` behind each row, gensim does not; a reader skips
the newlines before a word, so no word can begin with one, nor contain a space.

1. The file, decompressed if need be, is read in blocks, all into the same memory; what is left of
   a row at the end is moved to the begin.
2. In a block, each word's end is searched behind the vector before it: they have no other order.
   A regular expression does that for all at once.
3. The vectors, which lie at odd places, are gathered by one call.
"""

from __future__ import annotations

import re
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources import Batch, EncodingErrors, Source
from embstore.sources.ahead import ahead
from embstore.sources.files import InputFile
from embstore.sources.packing import packed_list

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
        if not 1 <= self._vector_bytes <= spec.MAX_ROW_BYTES:
            raise SourceError(
                f"{self.name}: the header says that vectors have {self.row_shape[0]} numbers; is "
                "this really word2vec's binary format?"
            )
        # A word, with newlines before it, and its vector; or, with no word, what is left over in
        # the end: it has to match as well, or it would be searched from each of its bytes on.
        self._row = re.compile(rb"(?s)(\n*+[^ ]*+) .{%d}|.+" % self._vector_bytes)

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
        block = np.empty(2 * READ_BYTES, np.uint8)
        kept = 0  # Bytes at its begin: what of the last read was no whole row.
        with self._file.open() as stream:
            stream.read(self._header_bytes)
            while done < self.row_count:
                # Of a long word or row, so much that it is complete after a few reads.
                end = kept + max(READ_BYTES, kept)
                if end > len(block):
                    block = np.concatenate([block, np.empty(end, np.uint8)])
                count = stream.read_into(block[kept:end].data)
                data = block[: kept + count]
                words, ends = self._find_words(data, self.row_count - done)
                if not words:
                    self._check_progress(data, done, at_end=not count)
                    kept = len(data)
                    continue
                yield Batch(self._gather(data, ends), self._pack(words, done), done, stream.done)
                done += len(words)
                rest = data[int(ends[-1]) + 1 + self._vector_bytes :]
                kept = len(rest)
                block[:kept] = rest
            if block[:kept].tobytes().strip(b"\n") or stream.read(READ_BYTES).strip(b"\n"):
                raise SourceError(
                    f"{self.name}: the header promises {self.row_count} rows, but there is more "
                    "behind them; correct the header"
                )

    def _find_words(
        self, data: NDArray[np.uint8], count: int
    ) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return the words of up to ``count`` whole rows, and where they end."""
        words = self._row.findall(data.data)[:count]
        step = self._vector_bytes + 1
        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, words), np.int64, len(words)) + step, out=starts[1:])
        ends = starts[1:] - step
        if words and (starts[-1] > len(data) or data[ends[-1]] != ord(" ")):
            # What is left over, of which no word was taken.
            words, starts, ends = words[:-1], starts[:-1], ends[:-1]
        # Some programs end a row with a newline; an empty word ends where it begins.
        if (data[starts[:-1]] == ord("\n")).any():
            words = list(map(bytes.lstrip, words, repeat(b"\n")))
        return words, ends

    def _gather(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[Any]:
        """Return the vectors behind the words; they are not aligned."""
        size = self._vector_bytes
        windows = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
        rows: NDArray[Any] = windows[ends + 1].view("<f4")
        return rows.reshape(len(ends), *self.row_shape).astype(self.dtype, copy=False)

    def _pack(self, words: list[bytes], first: int) -> PackedWords:
        return packed_list(words, self._encoding_errors, lambda row: self.place(first + row))

    def _check_progress(self, data: NDArray[np.uint8], row: int, *, at_end: bool) -> None:
        """Refuse a file that ends, or a word that does not end."""
        if at_end:
            raise SourceError(
                f"{self.place(row)}: the file ends in this row, of the {self.row_count} that the "
                "header promises; was it cut? Fetch it again"
            )
        if len(data) > MAX_WORD_BYTES and ord(" ") not in data[:MAX_WORD_BYTES]:
            raise SourceError(
                f"{self.place(row)}: no space, which ends a word, within "
                f"{MAX_WORD_BYTES >> 20} MiB; is this really word2vec's binary format?"
            )
