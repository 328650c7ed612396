"""How do lines become words and rows? One block at a time, by pyarrow's CSV reader.

1. A regular block, where every line is a word and ``dimension`` numbers with single spaces between
   them, is parsed as it is.
2. An irregular block (words with spaces, trailing spaces, mixed line ends) is first made regular:
   each line is split from the right, the last ``dimension`` fields are the vector, the rest is the
   word. The numbers are parsed by the same parser.
3. What cannot be parsed then is looked for by halving, so that the error names it.

Numbers are rounded correctly to the dtype they are parsed as; ``nan`` and ``inf`` are numbers, but
one that only becomes infinite because the dtype is too narrow is an error.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from embstore.errors import SourceError
from embstore.sources.blocks import BYTE_ORDER_MARK
from embstore.words import PackedWords, pack_encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.sources.blocks import Block

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_PARSE = csv.ParseOptions(
    delimiter=" ",
    quote_char=False,
    double_quote=False,
    escape_char=False,
    newlines_in_values=False,
    ignore_empty_lines=False,
)


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
    """

    name: str
    dimension: int
    dtype: np.dtype[Any]
    encoding_errors: str
    origin: str

    def parse(self, block: Block) -> tuple[NDArray[Any], PackedWords]:
        """Return the rows and the words of a block.

        Raises
        ------
        SourceError
            For a line that is not a word and ``dimension`` numbers, with its number.
        """
        line_count = block.data.count(b"\n") + (not block.data.endswith(b"\n"))
        table = None
        regular = block.data.count(b" ") == line_count * self.dimension
        # The CSV reader would drop a byte order mark, which here is part of a word.
        if regular and not block.data.startswith(BYTE_ORDER_MARK):
            table = self._read_csv(block.data, ["word", *self._names()])
        # The reader takes a lone \r for a line's end; here it is part of a word.
        if table is not None and table.num_rows == line_count:
            words = self._checked_words(table.column("word").combine_chunks(), block)
            table = table.drop_columns(["word"])
        else:
            heads, tails = self._split_lines(block)
            table = self._read_csv(b"\n".join(tails) + b"\n", self._names())
            if table is None or table.num_rows != len(tails):
                raise self._number_error(block, tails)
            words = self._checked_words(pa.array(heads, pa.binary()), block)
        columns = [column.to_numpy() for column in table.itercolumns()]
        rows = np.ascontiguousarray(np.stack(columns).T)
        if rows.dtype.kind == "f":
            self._check_range(rows, block)
        return rows, words

    def _names(self) -> list[str]:
        return [str(column) for column in range(self.dimension)]

    def _read_csv(self, data: bytes, names: list[str]) -> pa.Table | None:
        """Parse regular lines; None if they are not."""
        types = dict.fromkeys(names, pa.from_numpy_dtype(self.dtype))
        if "word" in types:
            types["word"] = pa.binary()
        try:
            return csv.read_csv(
                io.BytesIO(data),
                csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
                _PARSE,
                csv.ConvertOptions(
                    column_types=types, null_values=[], strings_can_be_null=False, check_utf8=False
                ),
            )
        except pa.ArrowInvalid:
            return None

    def _split_lines(self, block: Block) -> tuple[list[bytes], list[bytes]]:
        """Return the word and the vector's text of each line."""
        heads, tails = [], []
        lines = block.data.removesuffix(b"\n").split(b"\n")
        for number, line in enumerate(lines, block.first_line):
            fields = line.rstrip(b" \t\r").rsplit(b" ", self.dimension)
            word = fields[0]
            if len(fields) <= self.dimension:
                at_end = block.unterminated and number == block.first_line + len(lines) - 1
                raise self._too_few(line, number, len(fields) - 1, at_end=at_end)
            more = takewhile(_NUMBER.match, reversed(word.split(b" ")[1:]))
            if b"" not in fields[1:] and (extra := len(list(more))):
                raise SourceError(
                    f"{self.name}:{number}: expected {self._values}, found "
                    f"{self.dimension + extra}: the dimension changes; mend or remove the line "
                    "(a word may contain spaces, but not end in a number behind one)"
                )
            heads.append(word)
            tails.append(b" ".join(fields[1:]))
        return heads, tails

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

    def _number_error(self, block: Block, tails: list[bytes]) -> SourceError:
        row = self._first_unreadable(tails, self._names())
        fields = tails[row].split(b" ")
        column = self._first_unreadable(fields, ["0"])
        text = fields[column][:40].decode("utf-8", "replace")
        found = f"is {text!r}" if text else "is empty (two spaces in a row?)"
        remedy = "mend or remove the line"
        if not text.isprintable() or "\ufffd" in text:
            remedy = "is this really the text format?"
        return SourceError(
            f"{self.name}:{block.first_line + row}: value {column + 1} {found}, expected a number "
            f"that {self.dtype} can hold; {remedy}"
        )

    def _first_unreadable(self, lines: list[bytes], names: list[str]) -> int:
        """Return which of some lines is the first that is not numbers; found by halving."""
        good, bad = 0, len(lines)
        while bad - good > 1:
            middle = (good + bad) // 2
            table = self._read_csv(b"\n".join(lines[good:middle]) + b"\n", names)
            if table is not None and table.num_rows == middle - good:
                good = middle
            else:
                bad = middle
        return good

    def _checked_words(self, column: Any, block: Block) -> PackedWords:
        try:
            column.cast(pa.string())  # Checks that each word is UTF-8, which is all that it is for.
        except pa.ArrowInvalid:
            return self._decoded(column.to_pylist(), block)
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
        data = column.buffers()[2]
        packed = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        return PackedWords(packed, offsets.astype(np.int64))

    def _decoded(self, words: list[bytes], block: Block) -> PackedWords:
        for position, word in enumerate(words):
            try:
                words[position] = word.decode("utf-8", self.encoding_errors).encode()
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{self.name}:{block.first_line + position}: the word is not UTF-8 "
                    f"({error.reason} at byte {error.start} of {word[:40]!r}); convert the file, "
                    "or use encoding_errors='replace' or 'ignore'"
                ) from error
        return pack_encoded(words)
