r"""Vectors in word2vec's binary format, as word2vec.c and gensim write it.

A text header, ``rows dimension\n``; then, for each row, its word, a space, and ``dimension``
little-endian float32 values. word2vec.c writes a ``\n`` after each row, gensim does not; readers
skip newlines before a word, so a word cannot start with one.

1. The file, decompressed if needed, is read in blocks, always into the same memory; an incomplete
   row at the end of a block is moved to the start of the next one.
2. Words have any length, so each is found from the end of the vector before it. One regular
   expression does that for all rows of a block.
3. The vectors, which are not aligned, are gathered by one call.
4. A word usually ends at its first space. Where text and another space follow this one, the word
   may end there too (``New York``); the vectors of both readings then decide. A vector read from a
   wrong position has numbers of any size. From the first row on whose word has a space, rows are
   read one by one (`embstore.sources.word2vec_words`); a row with two readings is refused.
"""

from __future__ import annotations

import re
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.reading.pipeline import ahead
from embstore.settle import shown_bytes
from embstore.sources import Batch, EncodingErrors, Source
from embstore.sources.files.input_file import InputFile
from embstore.sources.packing import packed_list
from embstore.sources.word2vec_words import (
    CarefulReader,
    careful_reader,
    enough_bytes,
    plausible,
    sure_count,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.sources.files.piped import Pipe
    from embstore.vocabulary.words import PackedWords

# Smaller reads would stay in the processor's cache, but the cost of each read outweighs that.
READ_BYTES = 8 << 20
MAX_WORD_BYTES = 1 << 20
_HEADER = re.compile(rb"(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*\n")
_MAX_HEADER_BYTES = 64
# The rows that tell whether the numbers are floats. By chance, some look so.
_TRIED_ROWS = 20


class Word2VecBinarySource(Source):
    """Rows of a file in word2vec's binary format.

    Parameters
    ----------
    path : str, Path or Pipe
        The file, also compressed (gzip, bz2, xz, zstd, lz4) or in a zip or tar archive.
    member : str, optional
        The member of an archive that has several.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8.

    Raises
    ------
    SourceError
        If the file is missing, or does not start with a header.
    """

    def __init__(
        self,
        path: str | Path | Pipe,
        *,
        member: str | None = None,
        encoding_errors: EncodingErrors = "strict",
    ) -> None:
        self._file = InputFile(path, member)
        self._encoding_errors = encoding_errors
        self._careful: CarefulReader | None = None
        self._has_newlines: bool | None = None
        self.name = self._file.name
        self.byte_count = self._file.byte_count
        self.dtype = np.dtype(np.float32)
        with self._file.open() as stream:
            start = stream.read(_MAX_HEADER_BYTES)
        header = _HEADER.match(start)
        if header is None:
            raise SourceError(
                f"{self.name}: expected the header 'rows dimension' of word2vec's binary format, "
                f"found {shown_bytes(start)}"
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
        # Either a word, with any newlines before it, and its vector; or, without a word, the rest
        # of the block. The rest must match too: else it would be searched from each of its bytes.
        self._row = re.compile(rb"(?s)(\n*+[^ ]*+) .{%d}|.+" % self._vector_bytes)

    def describe(self) -> dict[str, Any]:
        """Return the file's name, format and size."""
        return {
            "file": self._file.short_name,
            "format": "word2vec-binary",
            "bytes": self._file.bytes_read,
        }

    def batches(self) -> Iterator[Batch]:
        """Yield the rows that the header promises.

        Raises
        ------
        SourceError
            If the file has fewer or more rows, or a word does not end or is not UTF-8.
        """
        return ahead(self._batches())

    def _batches(self) -> Generator[Batch]:
        done = 0
        self._careful = self._has_newlines = None
        block = np.empty(2 * READ_BYTES, np.uint8)
        kept = 0  # Bytes of an incomplete row from the last read, at the start of the block.
        with self._file.open() as stream:
            stream.read(self._header_bytes)
            while done < self.row_count:
                # Doubling the block completes a long row after a few reads.
                end = kept + max(READ_BYTES, kept)
                if end > len(block):
                    block = np.concatenate([block, np.empty(end, np.uint8)])
                count = stream.read_into(block[kept:end].data)
                data = block[: kept + count]
                at_end = kept + count < end
                words, ends = self._find_rows(data, done, at_end=at_end)
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
                    f"{self.name}: the header promises {self.row_count} rows, but more data "
                    "follows them; correct the header"
                )

    def _find_rows(
        self, data: NDArray[np.uint8], done: int, *, at_end: bool
    ) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return the words of the next whole rows, and the positions where they end."""
        left = self.row_count - done
        if self._careful is None:
            words, ends = self._find_words(data, left)
            sure, doubt = sure_count(data, ends, self._vector_bytes, at_end=at_end)
            if sure or not doubt:
                self._check_line_ends(words[:sure], done)
                self._check_newlines(data, ends[:sure], done)
                if not done:
                    self._check_numbers(data, ends[:sure])
                return words[:sure], ends[:sure]
            if not at_end and len(data) < enough_bytes(self._vector_bytes):
                return [], ends[:0]
            self._careful = careful_reader(data, done, left, self._vector_bytes, self.place)
        return self._careful.find(data, done, left, at_end=at_end)

    def _check_line_ends(self, words: list[bytes], done: int) -> None:
        r"""Refuse vectors that end in ``\r\n``."""
        own = words[done == 0 :]
        if own and own[-1].startswith(b"\r\n") and all(w.startswith(b"\r\n") for w in own):
            raise SourceError(
                f"{self.place(done)}: a carriage return and a newline follow the vector; was the "
                "file changed as if it were text? Fetch it again in binary mode"
            )

    def _check_newlines(self, data: NDArray[np.uint8], ends: NDArray[np.int64], done: int) -> None:
        """Refuse a file in which a newline follows some vectors, and not others."""
        starts = np.concatenate([[0], ends + 1 + self._vector_bytes])[done == 0 : len(ends)]
        found = data[starts] == ord("\n")
        if not len(found):
            return
        if self._has_newlines is None:
            self._has_newlines = bool(found[0])
        wrong = np.flatnonzero(found != self._has_newlines)
        if wrong.size:
            raise SourceError(
                f"{self.place(done + (done == 0) + int(wrong[0]))}: a newline follows some "
                "vectors, and not others, so bytes may be lost or added here; fetch the file again"
            )

    def _check_numbers(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """Refuse first vectors most of which are not plausible."""
        if len(ends) < _TRIED_ROWS:
            return
        rows = self._gather(data, ends[:_TRIED_ROWS])
        # Whole numbers look like floats near to 0.
        whole = (np.abs(rows).max(axis=1) < np.finfo(np.float32).tiny) & rows.any(axis=1)
        if 2 * np.count_nonzero(plausible(rows) & ~whole) < len(rows):
            raise SourceError(
                f"{self.place(0)}: expected little-endian 32-bit floats, found numbers of any "
                f"size: {', '.join(f'{value:.3g}' for value in rows[0, :3])}; is the header right, "
                "and are these 32-bit floats?"
            )

    def _find_words(
        self, data: NDArray[np.uint8], count: int
    ) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return the words of up to ``count`` whole rows, and the positions where they end."""
        words = self._row.findall(data.data)[:count]
        step = self._vector_bytes + 1
        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, words), np.int64, len(words)) + step, out=starts[1:])
        ends = starts[1:] - step
        if words and (starts[-1] > len(data) or data[ends[-1]] != ord(" ")):
            # The last match is the rest of the block, not a row.
            words, starts, ends = words[:-1], starts[:-1], ends[:-1]
        # Some programs end rows with a newline; it is then in front of the next word. (An empty
        # word has its space there.)
        if (data[starts[:-1]] == ord("\n")).any():
            words = list(map(bytes.lstrip, words, repeat(b"\n")))
        return words, ends

    def _gather(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[Any]:
        """Return the vectors after the words; they are not aligned."""
        size = self._vector_bytes
        windows = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
        rows: NDArray[Any] = windows[ends + 1].view("<f4")
        return rows.reshape(len(ends), *self.row_shape).astype(self.dtype, copy=False)

    def _pack(self, words: list[bytes], first: int) -> PackedWords:
        return packed_list(words, self._encoding_errors, lambda row: self.place(first + row))

    def _check_progress(self, data: NDArray[np.uint8], row: int, *, at_end: bool) -> None:
        """Raise if the file ends in a row, or a word does not end."""
        if at_end:
            raise SourceError(
                f"{self.place(row)}: the file ends in this row, but the header promises "
                f"{self.row_count} rows; was it cut? Fetch it again"
            )
        if len(data) > MAX_WORD_BYTES and ord(" ") not in data[:MAX_WORD_BYTES]:
            raise SourceError(
                f"{self.place(row)}: expected a word and a space, found no space within "
                f"{MAX_WORD_BYTES >> 20} MiB; is this really word2vec's binary format?"
            )
