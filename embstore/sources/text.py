"""Vectors as text: GloVe, and the text format of word2vec and fastText.

A line is a word and its vector, with single spaces between. GloVe files begin with the first word;
word2vec and fastText files begin with a header, ``rows dimension``. The first two lines tell which
it is: a header is two whole numbers, followed by a line that is not two fields. (A file of
one-dimensional vectors is taken for GloVe unless the header says dimension 1.)

Blocks are parsed on threads and arrive in order.
"""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources import Batch, EncodingErrors, Source, TextFormat
from embstore.sources.blocks import TextFile, first_lines
from embstore.sources.vectors import VectorParser, is_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

    from embstore.sources.blocks import Block
    from embstore.vocabulary.words import PackedWords

_HEADER = re.compile(rb"(\d{1,18})[ \t]+(\d{1,18})[ \t]*$")
SNIFFED_LINES = 100


class TextSource(Source):
    """Rows of a text file of vectors; a `embstore.sources.Source`.

    Parameters
    ----------
    path : str or Path
        The file; ``.gz``, ``.bz2``, ``.xz`` and ``.zip`` are decompressed on the way.
    format : {"auto", "glove", "word2vec"}
        Without or with a header; fastText's ``.vec`` is ``"word2vec"``.
    member : str, optional
        The member of a ``.zip`` that has several.
    dtype : dtype
        What the store will hold. The numbers are parsed as this dtype, or as float32 for floats of
        16 bits.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8: an error, U+FFFD, or drop the bytes.
    dimension : int, optional
        Numbers in a vector. Without it, words that end in a number behind a space are refused,
        because they look like longer vectors.
    limit : int, optional
        Read only the first so many rows.

    Raises
    ------
    SourceError
        If there is no such file, or it is empty, or its first lines are not vectors.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        format: TextFormat = "auto",
        member: str | None = None,
        dtype: DTypeLike = np.float32,
        encoding_errors: EncodingErrors = "strict",
        dimension: int | None = None,
        limit: int | None = None,
    ) -> None:
        if format not in ("auto", "glove", "word2vec"):
            raise ValueError(f"format must be auto, glove or word2vec, not {format!r}")
        if encoding_errors not in ("strict", "replace", "ignore"):
            raise ValueError(
                f"encoding_errors must be strict, replace or ignore: {encoding_errors!r}"
            )
        self._file = TextFile(Path(path), member)
        self.name = self._file.name
        self.byte_count = self._file.byte_count
        stored = np.dtype(dtype)
        self.dtype = stored if stored.kind in "iu" or stored.itemsize > 2 else np.dtype(np.float32)
        lines = first_lines(self._file, SNIFFED_LINES)
        if not any(lines):
            raise SourceError(
                f"{self.name} is empty, or begins with empty lines; expected lines of a word and "
                "its vector"
            )
        self._promised, found = self._sniff(lines, format, dimension)
        if not 1 <= found <= spec.MAX_ROW_BYTES // self.dtype.itemsize:
            raise SourceError(
                f"{self.name}:1: expected a word and its vector, with single spaces between them, "
                f"found {_shown(lines[0])}; is this really the text format?"
            )
        self.row_shape: tuple[int, ...] = (found,)
        self.format = "glove" if self._promised is None else "word2vec"
        self.unterminated = False
        self._limit = limit
        self.row_count = self._promised
        if self._promised is not None and limit is not None:
            self.row_count = min(self._promised, limit)
        origin = "as most of the first lines" if self._promised is None else "says the header"
        self._parser = VectorParser(
            self.name,
            found,
            self.dtype,
            encoding_errors,
            origin if dimension is None else "as given",
            dimension_is_sure=dimension is not None,
        )

    @property
    def row_estimate(self) -> int:
        """About how many rows there are; the header's number if there is one."""
        if self.row_count is not None:
            return self.row_count
        for block in self._file.blocks(256 << 10, empty_lines="keep"):
            rows = max(1, round(block.data.count(b"\n") * self.byte_count / block.bytes_done))
            return rows if self._limit is None else min(rows, self._limit)
        return 0

    def count_rows(self) -> int:
        """Return the header's number of rows, else count the lines."""
        if self.row_count is not None:
            return self.row_count
        lines = 0
        for block in self._file.blocks(line_limit=self._limit):
            lines = block.first_line - 1 + block.data.count(b"\n")
            lines += not block.data.endswith(b"\n")
        return lines

    def place(self, number: int) -> str:
        """Return how messages name a line."""
        return f"{self.name}:{number}"

    def describe(self) -> dict[str, Any]:
        """Return file name, format, size, and whether its last line lacks the newline."""
        return {
            "file": self._file.short_name,
            "format": self.format,
            "bytes": self.byte_count,
            "unterminated": self.unterminated,
        }

    def batches(self) -> Iterator[Batch]:
        """Yield the file's rows in order.

        Raises
        ------
        SourceError
            For a line that is not a vector, or another number of rows than the header's.
        """
        rows_done = 0
        for block, (rows, words) in self._parsed():
            rows_done += len(rows)
            if self._promised is not None and rows_done > self._promised:
                line = block.first_line + len(rows) - (rows_done - self._promised)
                raise SourceError(
                    f"{self.name}:{line}: the header promises {self._promised} rows, here is one "
                    "more; correct the header"
                )
            self.unterminated = block.unterminated
            yield Batch(rows, words, block.first_line, block.bytes_done)
        if self.row_count is not None and rows_done < self.row_count:
            raise SourceError(
                f"{self.name}:{rows_done + 1}: the header promises {self._promised} rows, the file "
                f"ends after {rows_done}; was it cut? Fetch it again, or correct the header"
            )

    def _parsed(self) -> Iterator[tuple[Block, tuple[NDArray[Any], PackedWords]]]:
        """Parse blocks on threads; yield them in order, with a bounded number under way."""
        workers = min(os.cpu_count() or 1, 8)
        under_way: deque[tuple[Block, Future[tuple[NDArray[Any], PackedWords]]]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="embstore-parse") as pool:
            try:
                for block in self._body():
                    under_way.append((block, pool.submit(self._parser.parse, block)))
                    if len(under_way) > workers:
                        done, future = under_way.popleft()
                        yield done, future.result()
                while under_way:
                    done, future = under_way.popleft()
                    yield done, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _body(self) -> Iterator[Block]:
        """Yield the blocks without the header."""
        has_header = self._promised is not None
        limit = None if self._limit is None else self._limit + has_header
        for block in self._file.blocks(line_limit=limit):
            if block.first_line == 1 and has_header:
                _, _, data = block.data.partition(b"\n")
                if data:
                    yield replace(block, data=data, first_line=2)
            else:
                yield block

    def _sniff(
        self, lines: list[bytes], format: TextFormat, given: int | None
    ) -> tuple[int | None, int]:
        """Return the header's row count (None without a header) and the dimension."""
        header = _HEADER.match(lines[0])
        if format == "word2vec" and header is None:
            raise SourceError(
                f"{self.name}:1: expected the header 'rows dimension', found {_shown(lines[0])}; "
                "without a header it is format glove"
            )
        if header is not None and format != "glove":
            rows, dimension = int(header[1]), int(header[2])
            found = len(_fields(lines[1])) - 1 if len(lines) > 1 else dimension
            if format == "word2vec" or found != 1 or dimension == 1:
                self._check_header(dimension, found, given)
                return rows, dimension
        dimension = _usual_dimension(lines) if given is None else given
        if header is not None and dimension != 1:
            raise SourceError(
                f"{self.name}:1: expected a word and {dimension} values, found {_shown(lines[0])}; "
                "if that is a header, it is format word2vec"
            )
        return None, dimension

    def _check_header(self, dimension: int, found: int, given: int | None) -> None:
        if given not in (None, dimension):
            raise SourceError(
                f"{self.name}:1: dimension={given} was given, but the header says {dimension}"
            )
        if found < dimension:
            raise SourceError(
                f"{self.name}:2: expected a word and {dimension} values (says the header), "
                f"found {found}; correct the header, or mend the line"
            )


def _usual_dimension(lines: list[bytes]) -> int:
    """Return how long the vectors of most lines are: words with spaces are the exception."""
    by_numbers, by_fields = Counter[int](), Counter[int]()
    for line in filter(None, lines):
        fields = _fields(line)
        numbers = sum(1 for _ in takewhile(is_number, reversed(fields)))
        by_numbers[min(numbers, len(fields) - 1)] += 1
        by_fields[len(fields) - 1] += 1
    if not by_fields:
        return 0  # Nothing but empty lines.
    # Where most lines end in something else than a number, it shall be called a bad number.
    return by_numbers.most_common(1)[0][0] or by_fields.most_common(1)[0][0]


def _fields(line: bytes) -> list[bytes]:
    return line.rstrip(b" \t").split(b" ")


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", "replace"))
