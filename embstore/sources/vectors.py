"""How do lines become words and rows? One block at a time, by pyarrow's CSV reader.

1. A regular block, where every line is a word and ``dimension`` numbers with single spaces between
   them, is parsed as it is.
2. An irregular block (words with spaces, trailing spaces, mixed line ends) is first made regular:
   each line is split from the right, the last ``dimension`` fields are the vector, the rest is the
   word. The numbers are parsed by the same parser.
3. What cannot be parsed then is looked for line by line, so that the error names it.

Numbers are rounded correctly to the dtype they are parsed as; ``nan`` and ``inf`` are numbers.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
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
    """

    name: str
    dimension: int
    dtype: np.dtype[Any]
    encoding_errors: str

    def parse(self, block: Block) -> tuple[NDArray[Any], PackedWords]:
        """Return the rows and the words of a block.

        Raises
        ------
        SourceError
            For a line that is not a word and ``dimension`` numbers, with its number.
        """
        line_count = block.data.count(b"\n") + (not block.data.endswith(b"\n"))
        # The CSV reader would drop a byte order mark, which here is part of a word.
        table = None
        if not block.data.startswith(BYTE_ORDER_MARK):
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
        return np.ascontiguousarray(np.stack(columns).T), words

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
                found = f"found {len(fields) - 1}" if line.strip() else "the line is empty"
                at_end = block.unterminated and number == block.first_line + len(lines) - 1
                cut = " (the file ends in this line: was it cut?)" if at_end else ""
                raise SourceError(
                    f"{self.name}:{number}: expected a word and {self.dimension} values, "
                    f"{found}{cut}; mend or remove the line"
                )
            extra = word.split(b" ")[1:]
            if extra and all(map(_NUMBER.match, extra)):
                raise SourceError(
                    f"{self.name}:{number}: expected {self.dimension} values, found "
                    f"{self.dimension + len(extra)}: the dimension changes; mend or remove the line"
                )
            heads.append(word)
            tails.append(b" ".join(fields[1:]))
        return heads, tails

    def _number_error(self, block: Block, tails: list[bytes]) -> SourceError:
        for number, tail in enumerate(tails, block.first_line):
            for column, field in enumerate(tail.split(b" "), 1):
                table = self._read_csv(field + b"\n", ["0"])
                if table is None or table.num_rows != 1:
                    text = field[:40].decode("utf-8", "replace")
                    kind = "is empty (two spaces in a row?)" if not field else f"is {text!r}"
                    return SourceError(
                        f"{self.name}:{number}: value {column} {kind}, expected a number that "
                        f"{self.dtype} holds; mend or remove the line"
                    )
        return SourceError(f"{self.name}: the block at line {block.first_line} is not readable")

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
