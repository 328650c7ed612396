"""Vectors as text: GloVe, and the text format of word2vec and fastText.

A line is a word and its vector, separated by single spaces. GloVe files start with the first word;
word2vec and fastText files start with a header, ``rows dimension``. The first two lines decide
between the two: a header is two whole numbers, followed by a line of more or fewer than two fields.
(One-dimensional vectors are read as GloVe unless the header says dimension 1.)

Blocks of lines are parsed on threads and arrive in order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.values import given_values
from embstore.dtypes import wide_dtype
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.reading.pipeline import in_order
from embstore.sources import Batch, EncodingErrors, Source, TextFormat
from embstore.sources.text.blocks import TextFile
from embstore.sources.text.columns import ColumnScan
from embstore.sources.text.first_lines import LayoutFinder, shown_line
from embstore.sources.text.pieces import BLANK
from embstore.sources.text.vectors import VectorParser
from embstore.sources.words.word_list import WordList

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from embstore.sources.files.piped import Pipe
    from embstore.sources.text.blocks import Block
    from embstore.sources.text.columns import Column
    from embstore.sources.words.word_list import Words
    from embstore.vocabulary.words import PackedWords

SNIFFED_LINES = 100
# Rows are estimated from the average length of the lines in one block of this size.
_ESTIMATE_BYTES = 256 << 10


class TextSource(Source):
    """Rows of a text file of vectors; an `embstore.sources.Source`.

    Parameters
    ----------
    path : str, Path or Pipe
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
    attributes : sequence of str
        The names of the columns between the word and its vector, in order.
    limit : int, optional
        Read only the first ``limit`` rows.

    Raises
    ------
    SourceError
        If the file is missing or empty, or its first lines are not vectors.
    """

    def __init__(
        self,
        path: str | Path | Pipe,
        *,
        format: TextFormat = "auto",
        member: str | None = None,
        dtype: DTypeLike = np.float32,
        encoding_errors: EncodingErrors = "strict",
        dimension: int | None = None,
        words: Words | None = None,
        attributes: Sequence[str] = (),
        limit: int | None = None,
    ) -> None:
        self._file = TextFile(path, member)
        self.name = self._file.name
        self.byte_count = self._file.byte_count
        self.dtype = wide_dtype(np.dtype(dtype))
        lines = self._file.first_lines(SNIFFED_LINES)
        if not any(lines):
            raise SourceError(
                f"{self.name} is empty, or starts with empty lines; expected lines of a word and "
                "its vector"
            )
        layout = LayoutFinder(self.name, format, dimension, words is None, attributes).find(lines)
        self._header_rows, self._skipped = layout.header_rows, layout.skipped
        self._names = layout.names
        found = layout.dialect.dimension
        if not 1 <= found <= spec.MAX_ROW_BYTES // self.dtype.itemsize:
            raise SourceError(
                f"{self.name}:1: expected a word and its vector, separated by single spaces, "
                f"found {shown_line(lines[0])}; is this really the text format?"
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
            layout.dialect,
            self.dtype,
            encoding_errors,
            origin if dimension is None else "as given",
            first_row_line=1 + self._skipped,
        )
        self._words = None if words is None else WordList(words)
        self.ids_matter = words is not None
        if self._words is not None:
            self._words.check_count(self._count_lines(None) - self._skipped, self.name)
        dtypes = self._column_dtypes(attributes)
        self._parser = replace(self._parser, dtypes=dtypes)
        self.attribute_dtypes = dict(zip(attributes, dtypes, strict=True))

    @property
    def row_estimate(self) -> int:
        """Approximate number of rows; exact if there is a header."""
        if self.row_count is not None:
            return self.row_count
        if not self.byte_count:
            return 0  # Of a pipe.
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
            "bytes": self._file.bytes_read,
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
        parsed = in_order(self._parse, self._body(), thread_name="embstore-parse")
        for block, rows, words, columns in parsed:
            rows_done += len(rows)
            if self._header_rows is not None and rows_done > self._header_rows:
                line = block.first_line + len(rows) - (rows_done - self._header_rows)
                raise SourceError(
                    f"{self.name}:{line}: the header promises {self._header_rows} rows, but the "
                    "file has more; correct the header"
                )
            self.unterminated = block.unterminated
            own = words if given is None else given.take(len(rows))
            attributes = dict(zip(self.attribute_dtypes, columns, strict=True)) or None
            yield Batch(rows, own, block.first_line, block.bytes_done, attributes)
        if self.row_count is not None and rows_done < self.row_count:
            raise SourceError(
                f"{self.name}:{rows_done + self._skipped}: the header promises "
                f"{self._header_rows} rows, but the file ends after {rows_done}; was it cut? Fetch "
                "it again, or correct the header"
            )

    def _column_dtypes(self, names: Sequence[str]) -> list[str]:
        """Return the dtypes of the attributes, which all values of a column decide."""
        dialect = self._parser.dialect
        marked = len(names) if dialect.between != BLANK else dialect.columns_before
        scans = [
            ColumnScan(name, _remedy(name), takes_texts=place < marked)
            for place, name in enumerate(names)
        ]
        if not scans:
            return []
        split = in_order(self._parser.columns, self._body(), thread_name="embstore-parse")
        for block, columns in split:
            for scan, texts in zip(scans, columns, strict=True):
                scan.add(texts, self.name, block.first_line)
        return [scan.dtype() for scan in scans]

    def _parse(self, block: Block) -> tuple[Block, NDArray[Any], PackedWords, list[Column]]:
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


def _remedy(name: str) -> str:
    """Return what to do where no dtype holds a column."""
    return f"remove the column, and pass its values: {given_values(name)}"
