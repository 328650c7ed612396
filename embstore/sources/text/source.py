"""Vectors as text: GloVe, and the text format of word2vec and fastText.

A line is a word and its vector, separated by single spaces. GloVe files start with the first word;
word2vec and fastText files start with a header, ``rows dimension``. The first two lines decide
between the two: a header is two whole numbers, followed by a line of more or fewer than two fields.
(One-dimensional vectors are read as GloVe unless the header says dimension 1.)

Blocks of lines are parsed on threads and arrive in order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import wide_dtype
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.reading.pipeline import in_order
from embstore.sources import Batch, EncodingErrors, Source, TextFormat
from embstore.sources.text.blocks import TextFile
from embstore.sources.text.detection import detect
from embstore.sources.text.dialect import Dialect
from embstore.sources.text.doubts import check_doubts
from embstore.sources.text.gaps import with_gaps
from embstore.sources.text.numerals import is_number
from embstore.sources.text.pieces import DialectError
from embstore.sources.text.preamble import (
    HEADER,
    comment_count,
    has_names,
    with_index,
    with_mark,
    with_quotes,
)
from embstore.sources.text.vectors import VectorParser
from embstore.sources.words.word_list import WordList

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

    from embstore.sources.text.blocks import Block
    from embstore.sources.words.word_list import Words
    from embstore.vocabulary.words import PackedWords

SNIFFED_LINES = 100
# Rows are estimated from the average length of the lines in one block of this size.
_ESTIMATE_BYTES = 256 << 10


class TextSource(Source):
    """Rows of a text file of vectors; an `embstore.sources.Source`.

    Parameters
    ----------
    path : str or Path
        The file, also compressed (gzip, bz2, xz, zstd, lz4) or in a zip or tar archive.
    format : {"auto", "glove", "word2vec"}
        ``"glove"`` has no header, ``"word2vec"`` has one; fastText's ``.vec`` is ``"word2vec"``.
    member : str, optional
        The member of an archive that has several.
    dtype : dtype
        Dtype of the store to build. Numbers are parsed as this dtype, narrower floats as float32.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8: raise, insert U+FFFD, or drop the bytes.
    dimension : int, optional
        Numbers in a vector. Without it, words that end in a space and a number are refused,
        because such a line looks like a longer vector.
    words : str, Path, or iterable of str, optional
        The words of a file that has only numbers.
    limit : int, optional
        Read only the first ``limit`` rows.

    Raises
    ------
    SourceError
        If the file is missing or empty, or its first lines are not vectors.
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
        words: Words | None = None,
        limit: int | None = None,
    ) -> None:
        self._file = TextFile(Path(path), member)
        self.name = self._file.name
        self.byte_count = self._file.byte_count
        self.dtype = wide_dtype(np.dtype(dtype))
        lines = self._file.first_lines(SNIFFED_LINES)
        if not any(lines):
            raise SourceError(
                f"{self.name} is empty, or starts with empty lines; expected lines of a word and "
                "its vector"
            )
        self._header_rows: int | None = None
        self._names = b""
        dialect, self._skipped = self._settle(lines, format, dimension, has_words=words is None)
        found = dialect.dimension
        if not 1 <= found <= spec.MAX_ROW_BYTES // self.dtype.itemsize:
            raise SourceError(
                f"{self.name}:1: expected a word and its vector, separated by single spaces, "
                f"found {_shown(lines[0])}; is this really the text format?"
            )
        self.row_shape: tuple[int, ...] = (found,)
        self.format = "glove" if self._header_rows is None else "word2vec"
        self.unterminated = False
        self._limit = limit
        self.row_count = self._header_rows
        if self._header_rows is not None and limit is not None:
            self.row_count = min(self._header_rows, limit)
        origin = "like most of the first lines" if self._header_rows is None else "says the header"
        self._parser = VectorParser(
            self.name,
            dialect,
            self.dtype,
            encoding_errors,
            origin if dimension is None else "as given",
            first_row_line=1 + self._skipped,
        )
        self._words = None if words is None else WordList(words)
        self.ids_matter = words is not None
        if self._words is not None:
            self._words.check_count(self._count_lines(None) - self._skipped, self.name)

    @property
    def row_estimate(self) -> int:
        """Approximate number of rows; exact if there is a header."""
        if self.row_count is not None:
            return self.row_count
        for block in self._file.blocks(_ESTIMATE_BYTES, empty_lines="keep"):
            rows = max(1, round(block.data.count(b"\n") * self.byte_count / block.bytes_done))
            return rows if self._limit is None else min(rows, self._limit)
        return 0

    def count_rows(self) -> int:
        """Return the number of rows: from the header if there is one, else by counting lines."""
        if self.row_count is not None:
            return self.row_count
        return self._count_lines(self._line_limit) - self._skipped

    def _count_lines(self, limit: int | None) -> int:
        lines = self._skipped
        for block in self._file.blocks(line_limit=limit):
            lines = block.first_line - 1 + block.data.count(b"\n")
            lines += not block.data.endswith(b"\n")
        return lines

    @property
    def _line_limit(self) -> int | None:
        return None if self._limit is None else self._limit + self._skipped

    def place(self, number: int) -> str:
        """Return how messages refer to a line, counted from 1."""
        return f"{self.name}:{number}"

    def describe(self) -> dict[str, Any]:
        """Return the file's name, format, size, and whether the last newline is missing."""
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
            If a line is not a word and a vector, or the number of rows differs from the header's.
        """
        rows_done = 0
        given = None if self._words is None else self._words.reader()
        for block, rows, words in in_order(self._parse, self._body(), thread_name="embstore-parse"):
            rows_done += len(rows)
            if self._header_rows is not None and rows_done > self._header_rows:
                line = block.first_line + len(rows) - (rows_done - self._header_rows)
                raise SourceError(
                    f"{self.name}:{line}: the header promises {self._header_rows} rows, but the "
                    "file has more; correct the header"
                )
            self.unterminated = block.unterminated
            own = words if given is None else given.take(len(rows))
            yield Batch(rows, own, block.first_line, block.bytes_done)
        if self.row_count is not None and rows_done < self.row_count:
            raise SourceError(
                f"{self.name}:{rows_done + self._skipped}: the header promises "
                f"{self._header_rows} rows, but the file ends after {rows_done}; was it cut? Fetch "
                "it again, or correct the header"
            )

    def _parse(self, block: Block) -> tuple[Block, NDArray[Any], PackedWords]:
        if self._names and self._names in block.data:
            lines = [line.rstrip(b"\r") for line in block.data.split(b"\n")]
            if self._names in lines:
                raise SourceError(
                    f"{self.name}:{block.first_line + lines.index(self._names)}: found the header "
                    "of names again: two files in one? Remove the line"
                )
        return block, *self._parser.parse(block)

    def _body(self) -> Iterator[Block]:
        """Yield the blocks of the file, without the lines before the rows."""
        for block in self._file.blocks(line_limit=self._line_limit):
            skipped = self._skipped - (block.first_line - 1)
            if skipped <= 0:
                yield block
                continue
            *_, data = block.data.split(b"\n", skipped)
            if data and block.data.count(b"\n") >= skipped:
                yield replace(block, data=data, first_line=block.first_line + skipped)

    def _settle(
        self, lines: list[bytes], format: TextFormat, given: int | None, *, has_words: bool
    ) -> tuple[Dialect, int]:
        """Return the dialect, and the number of lines before the first row; note the header."""
        try:
            return self._detect(lines, format, given, has_words=has_words)
        except DialectError as error:
            raise SourceError(f"{self.name}: {error}") from error

    def _detect(
        self, lines: list[bytes], format: TextFormat, given: int | None, *, has_words: bool
    ) -> tuple[Dialect, int]:
        skipped = 0
        dialect = detect(lines, dimension=given, has_words=has_words)
        if dialect is not None:
            skipped = comment_count(lines, dialect)
        elif not has_words:
            raise DialectError("expected lines of numbers only, because words= gives the words")
        body = lines[skipped:]
        header = HEADER.match(body[0]) if body and format != "glove" else None
        if header is not None:
            behind = detect(body[1:], dimension=given, has_words=has_words)
            behind = behind and with_mark(body[1:], behind)
            found, said = behind.dimension if behind else 0, int(header[2])
            if behind is not None and not behind.is_plain:
                if found == said:
                    self._header_rows = int(header[1])
                    return self._checked(body[1:], behind, counted=True), skipped + 1
                # "0,5" is one number, or two whole ones.
                is_pair = said == 2 and any(b"," in line for line in body[1:])
                if found != 1 or is_pair:
                    raise DialectError(
                        f"the header says {said} values in a line, but the lines after it have "
                        f"{found} and a word; correct the header, or pass the words (words=) if "
                        "there are none"
                    )
        if dialect is None or dialect.is_plain:
            self._header_rows, dimension = self._sniff(body, format, given)
            dialect = Dialect(dimension, is_sure=given is not None)
            if self._header_rows is not None:
                return self._checked(body[1:], dialect, counted=True), skipped + 1
        elif format == "word2vec":
            self._sniff(body, format, given)
        behind = with_quotes(body[1:], with_mark(body[1:], dialect))
        if has_names(body, behind):
            self._names = body[0]
            return self._checked(body[1:], behind), skipped + 1
        return self._checked(body, dialect), skipped

    def _checked(self, lines: list[bytes], dialect: Dialect, *, counted: bool = False) -> Dialect:
        dialect = with_index(lines, with_quotes(lines, with_mark(lines, dialect)))
        dialect = with_gaps(lines, dialect)
        check_doubts(lines, dialect, counted=counted)
        return dialect

    def _sniff(
        self, lines: list[bytes], format: TextFormat, given: int | None
    ) -> tuple[int | None, int]:
        """Return the row count of the header (None if there is no header) and the dimension."""
        header = HEADER.match(lines[0])
        if format == "word2vec" and header is None:
            raise SourceError(
                f"{self.name}:1: expected the header 'rows dimension', found {_shown(lines[0])}; "
                "for a file without a header use format glove"
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
                "if that is a header, use format word2vec"
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
                f"found {found}; correct the header, or fix the line"
            )


def _usual_dimension(lines: list[bytes]) -> int:
    """Return the vector length of most lines; words with spaces make some lines longer."""
    by_numbers, by_fields = Counter[int](), Counter[int]()
    for line in filter(None, lines):
        fields = _fields(line)
        numbers = sum(1 for _ in takewhile(is_number, reversed(fields)))
        by_numbers[min(numbers, len(fields) - 1)] += 1
        by_fields[len(fields) - 1] += 1
    if not by_fields:
        return 0  # All lines are empty.
    # If most lines end in a field that is not a number, count it as a value: the parser then
    # reports it as a bad number.
    return by_numbers.most_common(1)[0][0] or by_fields.most_common(1)[0][0]


def _fields(line: bytes) -> list[bytes]:
    return line.rstrip(b" \t").split(b" ")


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", "replace"))
