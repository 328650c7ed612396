r"""Parser for blocks of lines, each a word and a vector.

1. A regular block, where every line is a word and ``dimension`` numbers separated by single spaces,
   is parsed as a whole; so is a block whose lines all end in a space or in ``\r\n``.
2. In any other block, the irregular lines, and only these, are first made regular: each is split
   from the right, the last ``dimension`` fields are the vector, the rest is the word.
3. If parsing fails, bisection finds the bad field, so that the error names it.

A word may contain spaces, but a word that ends in a space and a number (``route 66``) looks just
like a longer vector. Neither the line nor a header can tell the two apart (a wrong header would
turn all first values into words), so such a word is refused unless the caller gives the dimension.

Numbers are rounded correctly to the dtype they are parsed as. ``nan`` and ``inf`` are numbers, but
a finite number that becomes infinite because the dtype is too narrow is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embstore.errors import SourceError
from embstore.sources.packing import packed_binary
from embstore.sources.text.columns import column_values
from embstore.sources.text.fields import FieldArray, find_irregular, find_lines
from embstore.sources.text.heads import check_spaces
from embstore.sources.text.numerals import NUMBER
from embstore.sources.text.pieces import DialectError, shown
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.sources.text.blocks import Block
    from embstore.sources.text.columns import Column
    from embstore.sources.text.dialect import Dialect
    from embstore.sources.text.fields import Lines
    from embstore.vocabulary.words import PackedWords


@dataclass(frozen=True, slots=True)
class VectorParser:
    """Parses blocks of lines, each a word and a vector.

    Parameters
    ----------
    name : str
        Name of the file in messages.
    dialect : Dialect
        How lines are split, and the number of values in each.
    dtype : numpy.dtype
        Dtype to parse the numbers as.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8.
    origin : str
        Where the dimension comes from, for messages.
    first_row_line : int
        The line of the first row.
    dtypes : sequence of str
        Dtypes of the attributes between word and vector, as `ColumnScan.dtype` gives them.
    """

    name: str
    dialect: Dialect
    dtype: np.dtype[Any]
    encoding_errors: str
    origin: str
    first_row_line: int = 1
    dtypes: Sequence[str] = ()

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self.dialect.dimension

    def parse(self, block: Block) -> tuple[NDArray[Any], PackedWords, list[Column]]:
        """Return the rows, the words and the attributes of a block.

        Raises
        ------
        SourceError
            If a line is not a word and ``dimension`` numbers; the error names the line.
        """
        split = self._split_lines(block)
        rows = split.fields.numbers(self.dtype)
        if rows is None:
            raise self._number_error(split.fields, block)
        if rows.dtype.kind == "f":
            self._check_range(rows, split.lines, block)

        def place(row: int) -> str:
            return f"{self.name}:{block.first_line + row}"

        columns = [
            column_values(texts, dtype, self.encoding_errors, place)
            for texts, dtype in zip(split.columns, self.dtypes, strict=True)
        ]
        return rows, self._pack(split.fields.words(), split.words, place), columns

    def columns(self, block: Block) -> tuple[Block, list[pa.BinaryArray]]:
        """Return a block, and the texts of the attributes in it; see `parse` for the errors."""
        return block, self._split_lines(block).columns

    def _split_lines(self, block: Block) -> _Split:
        data = block.data if block.data.endswith(b"\n") else block.data + b"\n"
        if b"\0" in data and b"\0\0" in data:  # One byte is found much faster than two.
            line = block.first_line + data.count(b"\n", 0, data.index(b"\0\0"))
            raise SourceError(
                f"{self.name}:{line}: expected text, found zero bytes, as a failed download leaves "
                "them; fetch the file again"
            )
        if not self.dialect.is_plain:
            words, columns, lines = self._translate(data, block)
            return _Split(lines, FieldArray(lines, self.dimension), words, columns)
        words = {}
        lines, irregular = find_irregular(data, self.dialect.numbers)
        if irregular.size:
            words, lines = self._make_regular(lines, irregular, block)
        fields = FieldArray(lines, self.dimension, self.dialect.columns_inside)
        return _Split(lines, fields, words, fields.columns())

    def _translate(
        self, data: bytes, block: Block
    ) -> tuple[dict[int, bytes], list[pa.BinaryArray], Lines]:
        """Split the lines of a dialect into words, attributes, and lines of numbers."""
        words: dict[int, bytes] = {}
        columns: list[list[bytes]] = []
        pieces = []
        for row, line in enumerate(data[:-1].split(b"\n")):
            number = block.first_line + row
            try:
                place = number - self.first_row_line
                words[row], others, values = self.dialect.split(line, place)
            except DialectError as error:
                raise self._dialect_error(line, number, error) from error
            pieces += [b" ", values, b"\n"]
            columns.append(others)
        lines = find_lines(b"".join(pieces))
        irregular = np.flatnonzero(lines.field_counts != self.dimension)
        if irregular.size:
            row = int(irregular[0])
            line = data.split(b"\n", row + 1)[row]
            spaces = DialectError(f"found spaces in a number of {shown(line)}")
            raise self._dialect_error(line, block.first_line + row, spaces)
        texts = [pa.array(column, pa.binary()) for column in zip(*columns, strict=True)]
        return words, texts, lines

    def _dialect_error(self, line: bytes, number: int, error: DialectError) -> SourceError:
        try:
            line.decode()
            remedy = "fix or remove the line"
        except UnicodeDecodeError:
            remedy = "is this really the text format? The line is not UTF-8"
        word = "a word and " if self.dialect.has_words else ""
        return SourceError(
            f"{self.name}:{number}: expected {word}{self._values}, separated as in the first "
            f"lines; {error}; {remedy}"
        )

    def _make_regular(
        self, lines: Lines, irregular: NDArray[np.int64], block: Block
    ) -> tuple[dict[int, bytes], Lines]:
        """Split irregular lines from the right.

        Returns
        -------
        words : dict of int to bytes
            The words of the irregular lines, by their positions in the block.
        lines : Lines
            All lines, with empty words in the irregular ones.
        """
        words: dict[int, bytes] = {}
        pieces = []
        done = 0
        for row in irregular.tolist():
            start = int(lines.newlines[row - 1]) + 1 if row else 0
            end = int(lines.newlines[row])
            words[row], tail = self._split(lines.data[start:end], row, len(lines.newlines), block)
            pieces += [lines.data[done:start], b" ", tail, b"\n"]
            done = end + 1
        pieces.append(lines.data[done:])
        return words, find_lines(b"".join(pieces))

    def _split(self, line: bytes, row: int, row_count: int, block: Block) -> tuple[bytes, bytes]:
        """Return the word of a line, and the text of its vector."""
        number = block.first_line + row
        inside = self.dialect.columns_inside
        word, *values = line.rstrip(b" \t\r").rsplit(b" ", self.dialect.numbers)
        if len(values) < self.dialect.numbers:
            at_end = block.unterminated and row == row_count - 1
            raise self._too_few(line, number, max(len(values) - inside, 0), at_end=at_end)
        more = takewhile(NUMBER.match, reversed(word.split(b" ")[1:]))
        if not self.dialect.is_sure and b"" not in values and (extra := len(list(more))):
            raise SourceError(
                f"{self.name}:{number}: expected {self._values}, found {self.dimension + extra}: "
                "the dimension changes; fix or remove the line (if its word ends in a space and "
                f"a number, pass {option('dimension', self.dimension)})"
            )
        if b"" not in values:
            try:
                check_spaces(word, is_sure=self.dialect.is_sure)
            except DialectError as error:
                raise SourceError(
                    f"{self.name}:{number}: expected a word and {self._values}, but {error}; fix "
                    "or remove the line (if this is the word, pass "
                    f"{option('dimension', self.dimension)})"
                ) from error
        return word, b" ".join(values)

    @property
    def _values(self) -> str:
        attributes = self.dialect.column_count
        beside = f"{attributes} attribute{'s' * (attributes != 1)} and " if attributes else ""
        return f"{beside}{self.dimension} value{'s' * (self.dimension != 1)} ({self.origin})"

    def _too_few(self, line: bytes, number: int, found: int, *, at_end: bool) -> SourceError:
        what = f"found {found}" if line.strip() else "the line is empty"
        if at_end:
            what += " (the file ends in this line; was it cut?)"
        try:
            line.decode()
            remedy = "fix or remove the line"
        except UnicodeDecodeError:
            remedy = "is this really the text format? The line is not UTF-8"
        return SourceError(
            f"{self.name}:{number}: expected a word and {self._values}, {what}; {remedy}"
        )

    def _check_range(self, rows: NDArray[Any], found: Lines, block: Block) -> None:
        """Refuse a finite number that became infinite."""
        infinite = np.isinf(rows)
        if not infinite.any():
            return
        lines = found.data.split(b"\n")
        for row, column in np.argwhere(infinite).tolist():
            field = lines[row].rstrip(b" \t\r").rsplit(b" ", self.dimension)[column + 1]
            if NUMBER.match(field):
                raise SourceError(
                    f"{self.name}:{block.first_line + row}: value {column + 1} is "
                    f"{field[:40].decode()!r}, out of the range of {self.dtype}; choose a wider "
                    "dtype, or fix or remove the line"
                )

    def _number_error(self, fields: FieldArray, block: Block) -> SourceError:
        row, column, field = fields.first_unreadable(self.dtype)
        text = field[:40].decode("utf-8", "replace")
        found = f"is {text!r}" if text else "is empty (two spaces in a row?)"
        remedy = "fix or remove the line"
        if not text.isprintable() or "\ufffd" in text:
            remedy = "is this really the text format?"
        return SourceError(
            f"{self.name}:{block.first_line + row}: value {column} {found}, expected a number "
            f"that {self.dtype} can hold; {remedy}"
        )

    def _pack(
        self,
        column: pa.BinaryArray,
        split_words: dict[int, bytes],
        place: Callable[[int], str],
    ) -> PackedWords:
        if split_words:
            words = column.to_pylist()
            for row, word in split_words.items():
                words[row] = word
            column = pa.array(words, pa.binary())
        return packed_binary(column, self.encoding_errors, place)


@dataclass(frozen=True, slots=True)
class _Split:
    """The lines of a block, split.

    Attributes
    ----------
    lines : Lines
        The lines, made regular.
    fields : FieldArray
        Their fields.
    words : dict of int to bytes
        The words of the lines that were not regular.
    columns : list of pyarrow.BinaryArray
        The texts of the attributes.
    """

    lines: Lines
    fields: FieldArray
    words: dict[int, bytes]
    columns: list[pa.BinaryArray]
