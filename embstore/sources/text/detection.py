r"""Detection of a text file's dialect, from its first lines.

1. Each candidate - a separator of the numbers, with or without padding, a decimal mark, quotation
   marks - is tried on the lines. The shape of a line is how many numbers it ends in, and what is
   before them.
2. The candidate whose usual shape has most numbers wins; among equals, the plain dialect, then the
   one with most lines of this shape. Most lines must have this shape.
3. What the words look like then decides about an index, quotation marks, and what is doubtful: a
   column of counts, a file without words.

Nothing is lost by a wrong guess but the right reading: `Dialect.split` checks each line.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from embstore.sources.text.dialect import Dialect
from embstore.sources.text.numerals import is_decimal, is_number, number_run
from embstore.sources.text.pieces import BLANK, DialectError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.sources.text.dialect import Quoted

# The last are the no-break blank, the narrow one, and other blanks of Unicode.
_WIDE_BLANKS = [blank.encode() for blank in "\u00a0\u202f\u3000\u2009\u2003\u2002\u2007"]
_MARKS = [b",", b";", b"|"]
_OUTER = b"|".join(map(re.escape, [b"\t", *_MARKS, b":", b"=", *_WIDE_BLANKS]))
# A word and the first number, separated unlike the numbers.
_GLUED = {
    decimal: re.compile(
        rb"(.*?)( *+(?:%b) *+| ++)([+-]?(?:\d|%b\d|(?i:nan|inf))[^ \t;|:=\x80-\xff%b]*)"
        % (_OUTER, re.escape(decimal), other),
        re.DOTALL,
    )
    for decimal, other in ((b".", b","), (b",", b"."))
}
# A word that ends in a blank and a number, the only tab, and the numbers.
_NUMBER_AND_TAB = re.compile(rb"[^\t]*[^\t ] +[+-]?[\d.,]+ *\t[^\t]*$")
_PIECES = re.compile(rb"[ \t,;|:=]")
_OUTER_END = re.compile(rb"(.*?)( *(?:%b) *|[ \t]+)" % _OUTER, re.DOTALL)
_BRACKETS = [
    *((b"[", b"]"), (b"(", b")"), (b"{", b"}"), (b"<", b">")),
    *((b'"[', b']"'), (b'"(', b')"'), (b'"{', b'}"')),
]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a line looks to a candidate: its numbers, and what is before them."""

    dimension: int
    outer: bytes
    padded: bool = field(compare=False)
    trailing: bool = False
    brackets: tuple[bytes, bytes] = (b"", b"")
    fields_before: int = 1


@dataclass(frozen=True, slots=True)
class _Candidate:
    between: bytes
    padded: bool
    decimal: bytes
    quoted: Quoted
    quote: bytes = b'"'
    has_words: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether this is the plain dialect, whose words may have any spaces."""
        return self == _Candidate(BLANK, False, b".", "never")

    def may_find_more(self, lines: list[bytes], dimension: int, count: int) -> bool:
        """Return whether most lines may end in more numbers, or more than ``count`` lines in these.

        This is much faster than `shape`.
        """
        if count < len(lines):
            dimension -= 1
        if self.decimal == b"," and 2 * sum(b"," in line for line in lines) < len(lines):
            return False
        if self.between == BLANK and self.padded:
            return any(b"  " in line or b"\t" in line or line[:1] == BLANK for line in lines)
        found = sum(line.count(self.between) + 1 > dimension for line in lines)
        return 2 * found >= len(lines)

    def shape(self, line: bytes) -> _Shape | None:
        """Return the shape of a line; None if it does not end in numbers."""
        text = line.rstrip(b" \t\r")
        bracketed = text.removesuffix(b",")
        for opening, closing in _BRACKETS:
            if bracketed.endswith(closing) and opening in bracketed:
                return self._in_brackets(bracketed, opening, closing)
        trailing = self.between in _MARKS and text.endswith(self.between)
        if trailing:
            text = text[: -len(self.between)].rstrip(b" \t\r")
        if self.padded and self.between == BLANK and self.has_words and _NUMBER_AND_TAB.match(text):
            return None  # The tab is after the word.
        try:
            fields = self._fields(text)
        except DialectError:
            return None
        count = number_run(fields, self.decimal)
        shape = self._shape_of(fields, count)
        return replace(shape, trailing=True) if shape and trailing else shape

    def _shape_of(self, fields: list[bytes], count: int) -> _Shape | None:
        """Return the shape of a line with these fields, the last ``count`` of them numbers."""
        if count == len(fields):  # The word, if there is one, is a number.
            count -= self.has_words
            return _Shape(count, self.between, self.padded) if count else None
        if not self.has_words:
            return None
        rest = fields[: len(fields) - count]
        if self.between == BLANK:
            head = BLANK.join(rest)
            if head and head != head.strip(b" \t"):
                return None  # Padding, rather than words that start or end in a space.
        before = 1 if self.between == BLANK and self.quoted == "never" else len(rest)
        glued = _GLUED[self.decimal].fullmatch(rest[-1]) if self.quoted != "always" else None
        if (
            glued
            and (glued[1] + glued[2]).strip(BLANK)
            and self.between not in glued[2]
            and is_number(glued[3], self.decimal)
        ):
            outer, padded = self._outer(glued[2])
            number = glued[3].replace(b",", b".")
            piece = _PIECES.split(glued[1])[-1]
            # "12:30" and "bank:1" may be words; `check_doubts` looks at all of them.
            is_quoted = rest[0][:1] == glued[1][-1:] == b'"'
            if outer == b"\t" or is_quoted or (is_decimal(number) and not is_number(piece)):
                return _Shape(count + 1, outer, padded, fields_before=before)
        return _Shape(count, self.between, self.padded, fields_before=before) if count else None

    def _in_brackets(self, text: bytes, opening: bytes, closing: bytes) -> _Shape | None:
        head, _, inside = text[: -len(closing)].rpartition(opening)
        inside = inside.strip(BLANK)
        if self.between == BLANK and self.padded:
            fields = inside.split()
        else:
            fields = inside.split(self.between)
            if self.padded:
                fields = [field.strip(BLANK) for field in fields]
        end = _OUTER_END.fullmatch(head)
        if not self.has_words and head.strip(BLANK):
            return None
        if self.has_words and end is None:
            return None
        if not fields or number_run(fields, self.decimal) != len(fields):
            return None
        outer, padded = (BLANK, self.padded) if end is None else self._outer(end[2])
        return _Shape(len(fields), outer, padded, brackets=(opening, closing))

    def _outer(self, found: bytes) -> tuple[bytes, bool]:
        """Return a separator without the blanks around it, and whether there are such blanks."""
        outer = found.strip(BLANK) or BLANK
        outer = outer.strip(b"\t") or b"\t"
        return outer, self.padded or outer != found

    def _fields(self, text: bytes) -> list[bytes]:
        separator = self.between
        return Dialect(
            1, separator, separator, self.padded, quoted=self.quoted, quote=self.quote
        ).fields(text)


def _candidates(lines: list[bytes], *, has_words: bool) -> Iterator[_Candidate]:
    starts = {line[:1] for line in lines}
    always = starts.pop() if len(starts) == 1 and len(lines) > 1 else b""
    always = always if always in (b'"', b"'") else b""
    wide = [blank for blank in _WIDE_BLANKS if any(blank in line for line in lines)]
    for decimal in (b".", b","):
        for padded in (False, True):
            for between in (BLANK, b"\t", *_MARKS, *wide):
                if between == decimal and always != b'"':
                    continue  # Only quoted numbers can have the separator as decimal mark.
                if always and (between not in _MARKS or always == b"'"):
                    yield _Candidate(between, padded, decimal, "always", always, has_words)
                quoted: Quoted = "any" if between in _MARKS else "never"
                yield _Candidate(between, padded, decimal, quoted, has_words=has_words)


def detect(
    lines: list[bytes],
    *,
    dimension: int | None = None,
    columns: int = 0,
    has_words: bool = True,
) -> Dialect | None:
    """Return the dialect that most lines have; None if there is none.

    Parameters
    ----------
    lines : list of bytes
        The first lines, without their ends.
    dimension : int, optional
        The numbers in a vector, if given.
    columns : int
        Fields of attributes in a line; some may be among its numbers.
    has_words : bool
        Whether lines have words.
    """
    lines = [line for line in lines if line.strip()]
    best: tuple[tuple[int, int], _Candidate, _Shape] | None = None
    for candidate in _candidates(lines, has_words=has_words):
        if best is not None and not candidate.may_find_more(lines, *best[0]):
            continue
        shapes = list(filter(None, map(candidate.shape, lines)))
        if dimension is not None:
            found_range = range(dimension, dimension + columns + 1)
            shapes = [shape for shape in shapes if shape.dimension in found_range]
        if not shapes:
            continue
        shape, count = max(Counter(shapes).items(), key=lambda item: (item[1], item[0].dimension))
        found = shape.dimension, count
        if candidate.is_plain:
            found = shape.dimension, len(lines)
        elif candidate.decimal == b",":
            found = shape.dimension, 0  # A few decimal commas among decimal points are damaged.
        if 2 * count >= len(lines) and (best is None or found > best[0]):
            padded = sum(other.padded for other in shapes if other == shape)
            best = found, candidate, replace(shape, padded=2 * padded > count)
    if best is None:
        return None
    _, candidate, shape = best
    return Dialect(
        shape.dimension,
        shape.outer,
        candidate.between,
        shape.padded,
        shape.brackets,
        shape.trailing,
        candidate.decimal,
        candidate.quote,
        candidate.quoted,
        has_words=has_words,
        is_sure=dimension is not None,
    )
