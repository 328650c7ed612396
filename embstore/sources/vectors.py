r"""How do lines become words and rows? One block at a time, mostly as a whole.

1. A regular block, where every line is a word and ``dimension`` numbers with single spaces between
   them, is parsed as it is; so is one whose lines all end in a space or in ``\r\n``.
2. In any other block, the irregular lines, and only they, are first made regular: such a line is
   split from the right, the last ``dimension`` fields are the vector, the rest is the word.
3. What cannot be parsed then is looked for by halving, so that the error names it.

A word may contain spaces, but one that ends in a number behind a space (``route 66``) looks just
like a longer vector. Which of the two it is cannot be told from the line, nor from a header (a
wrong header would turn all first values into words), so it is refused, unless whoever calls says
what the dimension is.

Numbers are rounded correctly to the dtype they are parsed as; ``nan`` and ``inf`` are numbers, but
one that only becomes infinite because the dtype is too narrow is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embstore.errors import SourceError
from embstore.sources.fields import Fields, find_lines
from embstore.sources.packing import packed_binary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.sources.blocks import Block
    from embstore.sources.fields import Lines
    from embstore.vocabulary.words import PackedWords

# Written so that no digit can be matched in two ways: that would take quadratic time.
_NUMBER = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")


def is_number(field: bytes) -> bool:
    """Say whether a field looks like a number, ``nan`` and ``inf`` included."""
    return bool(_NUMBER.match(field)) or field.lower().lstrip(b"+-") in (
        b"nan",
        b"inf",
        b"infinity",
    )


@dataclass(frozen=True, slots=True)
class VectorParser:
    """Parses blocks of lines, each a word and a vector.

    Parameters
    ----------
    name : str
        What to call the file in messages.
    dimension : int
        Numbers in a vector.
    dtype : numpy.dtype
        What the numbers become.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8.
    origin : str
        How the dimension is known, for messages.
    dimension_is_sure : bool
        Whether a word may end in a number behind a space.
    """

    name: str
    dimension: int
    dtype: np.dtype[Any]
    encoding_errors: str
    origin: str
    dimension_is_sure: bool = False

    def parse(self, block: Block) -> tuple[NDArray[Any], PackedWords]:
        """Return the rows and the words of a block.

        Raises
        ------
        SourceError
            For a line that is not a word and ``dimension`` numbers, with its number.
        """
        data = block.data if block.data.endswith(b"\n") else block.data + b"\n"
        lines = find_lines(data)
        heads: dict[int, bytes] = {}
        if (irregular := lines.irregular(self.dimension)).any():
            if np.count_nonzero(irregular) * 2 > len(irregular):
                lines = find_lines(data.replace(b"\r\n", b"\n").replace(b" \n", b"\n"))
                irregular = lines.irregular(self.dimension)
            rows_to_mend = np.flatnonzero(irregular)
            if rows_to_mend.size:
                heads, lines = self._mend(lines, rows_to_mend, block)
        fields = Fields(lines, self.dimension)
        rows = fields.numbers(self.dtype)
        if rows is None:
            raise self._number_error(fields, block)
        if rows.dtype.kind == "f":
            self._check_range(rows, block)
        return rows, self._checked_words(fields.words(), heads, block)

    def _mend(
        self, lines: Lines, rows: NDArray[np.int64], block: Block
    ) -> tuple[dict[int, bytes], Lines]:
        """Split some lines from the right; return their words, and all lines, these without."""
        heads: dict[int, bytes] = {}
        pieces = []
        done = 0
        for row in rows.tolist():
            begin = int(lines.newlines[row - 1]) + 1 if row else 0
            end = int(lines.newlines[row])
            heads[row], tail = self._split(lines.data[begin:end], row, len(lines.newlines), block)
            pieces += [lines.data[done:begin], b" ", tail, b"\n"]
            done = end + 1
        pieces.append(lines.data[done:])
        return heads, find_lines(b"".join(pieces))

    def _split(self, line: bytes, row: int, row_count: int, block: Block) -> tuple[bytes, bytes]:
        """Return the word and the vector's text of a line."""
        number = block.first_line + row
        word, *values = line.rstrip(b" \t\r").rsplit(b" ", self.dimension)
        if len(values) < self.dimension:
            at_end = block.unterminated and row == row_count - 1
            raise self._too_few(line, number, len(values), at_end=at_end)
        more = takewhile(_NUMBER.match, reversed(word.split(b" ")[1:]))
        if not self.dimension_is_sure and b"" not in values and (extra := len(list(more))):
            raise SourceError(
                f"{self.name}:{number}: expected {self._values}, found {self.dimension + extra}: "
                "the dimension changes; mend or remove the line (if its word ends in a number "
                f"behind a space, say dimension={self.dimension}, or --dimension)"
            )
        return word, b" ".join(values)

    @property
    def _values(self) -> str:
        return f"{self.dimension} value{'s' * (self.dimension != 1)} ({self.origin})"

    def _too_few(self, line: bytes, number: int, found: int, *, at_end: bool) -> SourceError:
        what = f"found {found}" if line.strip() else "the line is empty"
        if at_end:
            what += " (the file ends in this line: was it cut?)"
        try:
            line.decode()
            remedy = "mend or remove the line"
        except UnicodeDecodeError:
            remedy = "is this really the text format? The line is not UTF-8"
        return SourceError(
            f"{self.name}:{number}: expected a word and {self._values}, {what}; {remedy}"
        )

    def _check_range(self, rows: NDArray[Any], block: Block) -> None:
        """Refuse a finite number that became infinite."""
        infinite = np.isinf(rows)
        if not infinite.any():
            return
        lines = block.data.split(b"\n")
        for row, column in np.argwhere(infinite).tolist():
            field = lines[row].rstrip(b" \t\r").rsplit(b" ", self.dimension)[column + 1]
            if _NUMBER.match(field):
                raise SourceError(
                    f"{self.name}:{block.first_line + row}: value {column + 1} is "
                    f"{field[:40].decode()!r}, out of the range of {self.dtype}; choose a wider "
                    "dtype, or mend or remove the line"
                )

    def _number_error(self, fields: Fields, block: Block) -> SourceError:
        row, column, field = fields.first_unreadable(self.dtype)
        text = field[:40].decode("utf-8", "replace")
        found = f"is {text!r}" if text else "is empty (two spaces in a row?)"
        remedy = "mend or remove the line"
        if not text.isprintable() or "\ufffd" in text:
            remedy = "is this really the text format?"
        return SourceError(
            f"{self.name}:{block.first_line + row}: value {column} {found}, expected a number "
            f"that {self.dtype} can hold; {remedy}"
        )

    def _checked_words(
        self, column: pa.BinaryArray, heads: dict[int, bytes], block: Block
    ) -> PackedWords:
        if heads:
            words = column.to_pylist()
            for row, word in heads.items():
                words[row] = word
            column = pa.array(words, pa.binary())
        return packed_binary(
            column,
            self.encoding_errors,
            lambda row: f"{self.name}:{block.first_line + row}",
        )
