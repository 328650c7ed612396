"""The first lines of a text file: what comes before the rows, and how lines are split.

1. Comments are skipped, then a header of counts (``rows dimension``) or of names, if there is one.
2. `embstore.sources.text.detection` finds the dialect of the lines, and
   `embstore.sources.text.columns` the fields of attributes in them.
3. Rows that are probably not a word and a vector each are refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from embstore.errors import SourceError
from embstore.sources.text.columns import check_columns, with_columns
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
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embstore.sources import TextFormat


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is read.

    Attributes
    ----------
    dialect : Dialect
        How lines are split.
    skipped : int
        Lines before the first row.
    header_rows : int or None
        Rows, as a header says.
    names : bytes
        The header of names, if there is one.
    """

    dialect: Dialect
    skipped: int
    header_rows: int | None = None
    names: bytes = b""


@dataclass(frozen=True, slots=True)
class LayoutFinder:
    """Finds how a text file is read, from its first lines.

    Parameters
    ----------
    name : str
        Name of the file in messages.
    format : {"auto", "glove", "word2vec"}
        Whether there is a header of counts.
    dimension : int or None
        Numbers in a vector, if given.
    has_words : bool
        Whether lines have words.
    attributes : sequence of str
        The columns between the word and its vector.
    """

    name: str
    format: TextFormat
    dimension: int | None
    has_words: bool
    attributes: Sequence[str] = ()

    def find(self, lines: list[bytes]) -> Layout:
        """Return the layout of a file with these first lines.

        Raises
        ------
        SourceError
            If they are not vectors, or probably not what they seem to be.
        """
        try:
            return self._find(lines)
        except DialectError as error:
            raise SourceError(f"{self.name}: {error}") from error

    def _find(self, lines: list[bytes]) -> Layout:
        skipped = 0
        dialect = self._detect(lines)
        if dialect is not None:
            skipped = comment_count(lines, dialect)
        elif not self.has_words:
            raise DialectError(
                f"expected lines of numbers only, because {option('words')} gives the words"
            )
        body = lines[skipped:]
        header = HEADER.match(body[0]) if body and self.format != "glove" else None
        if header is not None:
            behind = self._detect(body[1:])
            behind = behind and with_mark(body[1:], behind)
            found, said = behind.dimension if behind else 0, int(header[2])
            if behind is not None and not behind.is_plain:
                if found == said:
                    behind = self._checked(body[1:], behind, counted=True)
                    return Layout(behind, skipped + 1, int(header[1]))
                # "0,5" is one number, or two whole ones.
                is_pair = said == 2 and any(b"," in line for line in body[1:])
                if found != 1 or is_pair:
                    raise DialectError(
                        f"the header says {said} values in a line, but the lines after it have "
                        f"{found} and a word{self._and_attributes}; correct the header, or pass "
                        f"the words ({option('words')}) if there are none"
                    )
        if dialect is None or dialect.is_plain:
            header_rows, dimension = self._sniff(body)
            is_sure = self.dimension is not None
            dialect = Dialect(dimension, is_sure=is_sure, columns_inside=len(self.attributes))
            if header_rows is not None:
                dialect = self._checked(body[1:], dialect, counted=True)
                return Layout(dialect, skipped + 1, header_rows)
        elif self.format == "word2vec":
            self._sniff(body)
        behind = with_quotes(body[1:], with_mark(body[1:], dialect))
        if has_names(body, behind, self.attributes):
            behind = self._checked(body[1:], behind, named=True)
            return Layout(behind, skipped + 1, names=body[0])
        return Layout(self._checked(body, dialect), skipped)

    @property
    def _and_attributes(self) -> str:
        return f", beside {', '.join(self.attributes)}" if self.attributes else ""

    def _detect(self, lines: list[bytes]) -> Dialect | None:
        columns = len(self.attributes)
        given = self.dimension
        dialect = detect(lines, dimension=given, columns=columns, has_words=self.has_words)
        if dialect is None:
            return None
        dialect = with_columns(lines, dialect, self.attributes)
        if given not in (None, dialect.dimension):
            raise DialectError(
                f"{option('dimension', given)} was given, but lines have {dialect.dimension} "
                f"values after {', '.join(self.attributes)}; correct it"
            )
        return dialect

    def _checked(
        self, lines: list[bytes], dialect: Dialect, *, counted: bool = False, named: bool = False
    ) -> Dialect:
        dialect = with_index(lines, with_quotes(lines, with_mark(lines, dialect)))
        dialect = with_gaps(lines, dialect)
        check_doubts(lines, dialect, counted=counted)
        if not (counted or named):
            check_columns(lines, dialect, self.attributes)
        return dialect

    def _sniff(self, lines: list[bytes]) -> tuple[int | None, int]:
        """Return the row count of the header (None if there is no header) and the dimension."""
        header = HEADER.match(lines[0])
        if self.format == "word2vec" and header is None:
            raise SourceError(
                f"{self.name}:1: expected the header 'rows dimension', found {shown_line(lines[0])}"
                "; for a file without a header use format glove"
            )
        columns = len(self.attributes)
        if header is not None and self.format != "glove":
            rows, dimension = int(header[1]), int(header[2])
            found = len(_fields(lines[1])) - 1 - columns if len(lines) > 1 else dimension
            if self.format == "word2vec" or found != 1 or dimension == 1:
                self._check_header(dimension, found)
                return rows, dimension
        dimension = _usual_dimension(lines) - columns if self.dimension is None else self.dimension
        if header is not None and dimension != 1:
            raise SourceError(
                f"{self.name}:1: expected a word and {dimension} values, found "
                f"{shown_line(lines[0])}; if that is a header, use format word2vec"
            )
        return None, dimension

    def _check_header(self, dimension: int, found: int) -> None:
        if self.dimension not in (None, dimension):
            raise SourceError(
                f"{self.name}:1: {option('dimension', self.dimension)} was given, but the header "
                f"says {dimension}"
            )
        if found < dimension:
            raise SourceError(
                f"{self.name}:2: expected a word and {dimension} values (says the header), "
                f"found {found}{self._and_attributes}; correct the header, or fix the line"
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


def shown_line(line: bytes) -> str:
    """Return the start of a line for messages."""
    return repr(line[:40].decode("utf-8", "replace"))
