r"""Dialects of text files of vectors: what separates the fields of a line, and how to split one.

The plain dialect is a word and numbers, separated by single spaces; `VectorParser` parses it a
block at a time. A line of any other dialect is split by `Dialect.split`, into its word and the text
of its numbers as the plain dialect would write them. The split is strict: a line that does not look
like the first lines is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embstore.sources.text.heads import check_spaces, with_number
from embstore.sources.text.numerals import is_decimal, is_number, looks_like_number
from embstore.sources.text.pieces import (
    BLANK,
    BLANKS,
    DialectError,
    Spacing,
    quoted_fields,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Quoted = Literal["never", "some", "always", "any"]


@dataclass(frozen=True, slots=True)
class Dialect:
    r"""How lines are split into a word and numbers.

    Attributes
    ----------
    dimension : int
        Numbers in a vector.
    outer : bytes
        What separates the word from the numbers.
    between : bytes
        What separates the numbers from each other.
    padded : bool
        Whether blanks around separators, and repeated blanks, mean nothing.
    brackets : (bytes, bytes)
        What is around the numbers. A comma may follow, as in JSON.
    trailing : bool
        Whether a separator follows the last number.
    decimal : bytes
        The decimal mark, ``.`` or ``,``.
    quote : bytes
        The quotation mark around fields.
    quoted : {"never", "some", "always", "any"}
        Which words are quoted: none, so that a quotation mark is a character of a word; those that
        need to be; all; or any.
    gaps : (bytes, bytes, bytes)
        With padding, the blanks at the start of each line, what is before the first number, and
        before each other; None where lines may differ.
    first_index : int, optional
        The number of the first row, if each word comes after the number of its row.
    has_words : bool
        Whether lines have words.
    is_sure : bool
        Whether the caller gave the dimension, so that words may end in a space and a number.
    columns_before, columns_inside : int
        Fields of attributes between the word and its vector: those that are separated as the word
        is, and those that are separated as the numbers are.
    """

    dimension: int
    outer: bytes = BLANK
    between: bytes = BLANK
    padded: bool = False
    brackets: tuple[bytes, bytes] = (b"", b"")
    trailing: bool = False
    decimal: bytes = b"."
    quote: bytes = b'"'
    quoted: Quoted = "never"
    gaps: tuple[bytes | None, bytes | None, bytes | None] = (None, None, None)
    first_index: int | None = None
    has_words: bool = True
    is_sure: bool = False
    columns_before: int = 0
    columns_inside: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether lines are a word and numbers, separated by single spaces."""
        inside = self.columns_inside
        return self == Dialect(self.dimension, is_sure=self.is_sure, columns_inside=inside)

    @property
    def numbers(self) -> int:
        """Numbers in a line: those of the vector, and of attributes that stand with them."""
        return self.dimension + self.columns_inside

    def split(self, line: bytes, row: int) -> tuple[bytes, list[bytes], bytes]:
        """Return the word of a line, its attributes, and its numbers, separated by spaces.

        Parameters
        ----------
        line : bytes
            The line, without its end.
        row : int
            The number of the line's row, counted from 0.

        Raises
        ------
        DialectError
            If the line differs from the first lines.
        """
        head, columns, values = self.cut(*self.whole(line))
        word = self._word(head, row)
        if self.padded and self.outer == BLANK and line[:1] in BLANKS:
            self._check_start(word)
        if len(values) != self.dimension or len(columns) != self.column_count:
            raise DialectError(f"found {len(values)} value{'s' * (len(values) != 1)}")
        self._check_quoted(columns[: self.columns_before])
        if self.padded:
            self._check_gaps(line, columns[self.columns_before :] + values)
        numbers = BLANK.join(values)
        if self.decimal == b",":
            if b"." in numbers:
                raise DialectError("found a decimal point, where other lines have decimal commas")
            numbers = numbers.replace(b",", b".")
            columns = [
                column.replace(b",", b".") if is_number(column, self.decimal) else column
                for column in columns
            ]
        return word, columns, numbers

    def _check_gaps(self, line: bytes, values: list[bytes]) -> None:
        """Refuse a line with other gaps than the first lines."""
        margin, outer, between = self.gaps
        if outer is not None and between is not None:  # Much faster, and mostly so.
            start, found, after = self._untrailed(line).rpartition(outer + between.join(values))
            if found and not after and start[-1:] not in BLANKS and _margin(start) == margin:
                return
        elif outer is between is None and self.outer == BLANK and _margin(line) == margin:
            return
        spacing = self.spacing(line, values)
        if margin is not None and spacing.margin != margin:
            raise DialectError("the line starts with other blanks")
        if outer is not None and spacing.gaps[0] != outer:
            raise DialectError(f"found {shown(spacing.gaps[0])} before the first number")
        if between is not None and any(gap != between for gap in spacing.gaps[1:]):
            raise DialectError("found other blanks between the numbers")

    def _check_start(self, word: bytes) -> None:
        """Refuse an empty word before one number too many, in a line that starts with a blank."""
        number = word.removesuffix(self.between).replace(self.decimal, b".")
        if is_decimal(number) and not self.is_sure:
            raise DialectError(f"the line starts with a blank and the number {shown(word)}")

    @property
    def column_count(self) -> int:
        """Fields of attributes in a line."""
        return self.columns_before + self.columns_inside

    def cut(
        self, head: list[bytes], numbers: list[bytes]
    ) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return what `whole` returns with the fields of attributes apart, in the middle."""
        before = max(len(head) - self.columns_before, 0)
        inside = self.columns_inside
        return head[:before], head[before:] + numbers[:inside], numbers[inside:]

    def parts(self, line: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the fields of a line before attributes and numbers, and those of its vector.

        See `whole` for the errors.
        """
        head, _, values = self.cut(*self.whole(line))
        return head, values

    def whole(self, line: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the fields of a line before its numbers, and the texts of all its numbers.

        Raises
        ------
        DialectError
            If the line cannot be divided so.
        """
        text = line.rstrip(BLANKS)
        if not text:
            raise DialectError("the line is empty")
        if self.trailing:
            if not text.endswith(self.between):
                raise DialectError(f"the line does not end in {self.between.decode()!r}")
            text = text[: -len(self.between)].rstrip(BLANKS)
        if self.brackets[0]:
            return self._bracketed(text.removesuffix(b","))
        return self._mixed(text) if self.outer != self.between else self._even(text)

    def spacing(self, line: bytes, values: list[bytes]) -> Spacing:
        """Return what is between the fields of a line; ``values`` are its numbers.

        Of numbers in brackets, only the first has a gap: blanks between others mean nothing.
        """
        text = self._untrailed(line)
        gaps = []
        if self.brackets[0]:
            text = text[: text.rindex(self.brackets[0])]
            gaps.append(self._gap(text, self.outer))
        else:
            for place, value in reversed(list(enumerate(values))):
                is_quoted = self.quoted != "never" and text.endswith(self.quote)
                quotes = 2 * len(self.quote) * is_quoted
                text = text[: len(text) - len(value) - quotes]
                gaps.append(self._gap(text, self.between if place else self.outer))
                text = text[: len(text) - len(gaps[-1])]
        start = text.removesuffix(gaps[0]) if self.brackets[0] else text
        margin = _margin(start)
        return Spacing(margin, start[len(margin) :], tuple(reversed(gaps)))

    def _untrailed(self, line: bytes) -> bytes:
        """Return a line without blanks and a separator at its end."""
        text = line.rstrip(BLANKS)
        return text[: -len(self.between)].rstrip(BLANKS) if self.trailing else text

    @staticmethod
    def _gap(text: bytes, separator: bytes) -> bytes:
        """Return the separator at the end of a text, with the blanks around it."""
        rest = text.rstrip(BLANKS).removesuffix(separator).rstrip(BLANKS)
        return text[len(rest) :]

    def divided(
        self, lines: list[bytes]
    ) -> Iterator[tuple[bytes, tuple[list[bytes], list[bytes]]]]:
        """Yield each line that can be divided, and what `whole` returns."""
        for line in lines:
            try:
                yield line, self.whole(line)
            except DialectError:
                continue

    def rows(self, lines: list[bytes]) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield the `parts` of each line that can be divided so."""
        for _, whole in self.divided(lines):
            head, _, values = self.cut(*whole)
            yield head, values

    def head(self, line: bytes) -> list[bytes]:
        """Return the fields of a line before its numbers; none if it differs from the dialect."""
        return next((head for head, _ in self.rows([line])), [])

    def fields(self, text: bytes) -> list[bytes]:
        """Return all fields between outer separators.

        Raises
        ------
        DialectError
            If quotation marks are not in pairs around whole fields.
        """
        if self.quoted == "always" and self.quote not in text:
            raise DialectError("found no quotation marks")
        if self.quoted != "never" and self.quote in text:
            return quoted_fields(
                text, self.outer, self.quote, strip=self.padded, minimal=self.quoted == "some"
            )
        if self.outer == BLANK and self.padded:
            return text.split()
        found = text.split(self.outer)
        return [field.strip(BLANKS) for field in found] if self.padded else found

    def _bracketed(self, text: bytes) -> tuple[list[bytes], list[bytes]]:
        opening, closing = self.brackets
        start = text.rfind(opening)
        if start < 0 or not text.endswith(closing):
            raise DialectError(f"found no numbers in {(opening + closing).decode()}")
        inside = text[start + len(opening) : -len(closing)].strip(BLANK)
        return self._head(text[:start]), self._numbers(inside)

    def _mixed(self, text: bytes) -> tuple[list[bytes], list[bytes]]:
        if self.between == BLANK and self.padded:
            start, *values = text.rsplit(None, self.numbers - 1)
        else:
            start, *values = text.rsplit(self.between, self.numbers - 1)
        head, separator, value = start.rpartition(self.outer)
        if not separator:
            raise DialectError(f"found no {self.outer.decode()!r} before {self.numbers} values")
        values = [value, *values]
        if self.padded:
            values = [value.strip(BLANKS) for value in values]
        return self._head(head + separator), values

    def _even(self, text: bytes) -> tuple[list[bytes], list[bytes]]:
        """Split a line whose fields are all separated alike."""
        if not self.has_words:
            return [], self.fields(text)
        if self.outer == BLANK and self.quoted == "never":
            # The word may have spaces.
            head, *values = text.rsplit(None if self.padded else BLANK, self.numbers)
            return [head.strip(BLANKS) if self.padded else head], values
        fields = self.fields(text)
        count = max(1, len(fields) - self.numbers)
        return fields[:count], fields[count:]

    def _head(self, text: bytes) -> list[bytes]:
        """Return the fields before the numbers; the separator follows the last one."""
        if self.padded or self.outer == BLANK:
            text = text.rstrip(BLANK)
        if self.outer != BLANK:
            if not text.endswith(self.outer):
                raise DialectError(f"found no {self.outer.decode()!r} before the numbers")
            text = text[: -len(self.outer)]
        elif self.quoted == "never":
            return [text.strip(BLANKS) if self.padded else text]
        return self.fields(text)

    def _numbers(self, inside: bytes) -> list[bytes]:
        if self.between == BLANK and self.padded:
            return inside.split()
        values = inside.split(self.between)
        return [value.strip(BLANK) for value in values] if self.padded else values

    def _word(self, head: list[bytes], row: int) -> bytes:
        if not self.has_words:
            return b""
        if self.first_index is not None:
            head = with_number(head)
            expected = b"%d" % (self.first_index + row)
            if len(head) != 2 or head[0] != expected:
                raise DialectError(
                    f"expected the row's number {expected.decode()} before the word, found "
                    f"{shown(b' '.join(head))}"
                )
            head = head[1:]
            if self.outer == BLANK and not self.is_sure and looks_like_number(head[0]):
                raise DialectError(f"the word {shown(head[0])} looks like a number")
        if len(head) != 1:
            if head and is_number(head[-1]):
                raise DialectError(f"found {self.dimension + len(head) - 1} values")
            raise DialectError(f"found {shown(self.outer.join(head))} before the numbers")
        (word,) = head
        if self.padded and self.outer == BLANK and not word:
            raise DialectError("the word is empty")
        if self.outer == BLANK and self.quoted == "never":
            check_spaces(word, is_sure=self.is_sure)
        elif self.outer in b":=" and (self.dimension == 1 or self.outer in word[:-1]):
            check_spaces(word, is_sure=False)
        if self.quoted == "always" and self.brackets[0] and b"\\" in word:
            raise DialectError(f"the word {shown(word)} has an escape, which is not read")
        self._check_quoted([word])
        return word

    def _check_quoted(self, fields: list[bytes]) -> None:
        """Refuse fields that a CSV writer may have quoted, where others are not."""
        for field in fields if self.quoted == "never" else ():
            if field[:1] == b'"' and b'""' in field[1:-1]:
                raise DialectError(f"{shown(field)} may be quoted or not")


def _margin(line: bytes) -> bytes:
    """Return the blanks at the start of a line."""
    return line[: len(line) - len(line.lstrip(BLANKS))]
