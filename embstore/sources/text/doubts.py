"""Doubts about the rows of a text file: what is probably not a word and a vector each.

All checks look at the first lines only, split as their dialect says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from embstore.sources.text.numerals import is_decimal, is_number, looks_like_number
from embstore.sources.text.pieces import BLANK, DialectError, shown
from embstore.wording import either, option

if TYPE_CHECKING:
    from embstore.sources.text.dialect import Dialect

# Items of lists, and literals of programs.
_LIST_MARKS = (b"- ", b"* ", b"> ", b"['", b'["', b"('", b'("')
_SIGN = re.compile(rb"[!-/:-@\[-`{-~]+")
_THOUSANDS = re.compile(rb"[+-]?[1-9]\d{0,2}(,\d{3})+|[+-]?\d{1,3}")
# A word and a number, or two numbers.
_GLUED = re.compile(
    rb".*[^\d.+-]([+-]?\d?\.\d{3,}|[+-]\d*\.\d+)|[+-]?[\d.]+([,;|:=]|\xc2\xa0)[+-]?[\d.]+",
    re.DOTALL,
)
_HALF = re.compile(rb"(\d+)([eE][+-]?\d+)?")
_MARK = rb"(?:[ ,;|:=\t]|\xc2\xa0|\xe3\x80\x80|\xe2\x80[\x80-\xaf])"
_GLUED_WHOLE = re.compile(rb".*%b[+-]?\d+%b*" % (_MARK, _MARK), re.DOTALL)
_GLUED_DECIMAL = re.compile(
    rb".*%b[+-]?(?:\d+\.|\d*[.,]\d+)([eE][+-]?\d+)?%b*" % (_MARK, _MARK), re.DOTALL
)
_ANY_MARK = re.compile(_MARK)
_GLUED_COMMA = re.compile(rb".*%b[+-]?\d*,\d+([eE][+-]?\d+)?" % _MARK, re.DOTALL)
# A word with quotation marks around it, and all those in it doubled.
_QUOTED = re.compile(rb'"([^"]|"")*+"')
# A decimal comma, or the comma between two whole numbers.
_TWO_WHOLES = re.compile(rb"[+-]?(0|[1-9]\d*),(0|[1-9]\d*)")
# A column of counts is told by whole numbers beside this many decimals.
_DECIMALS_BESIDE_A_COUNT = 3


def check_doubts(lines: list[bytes], dialect: Dialect, *, counted: bool = False) -> None:
    """Refuse rows that are probably not a word and a vector each.

    Parameters
    ----------
    lines : list of bytes
        The first rows.
    dialect : Dialect
        Their dialect.
    counted : bool
        Whether a header says the same dimension: numbers are then words, and no counts.

    Raises
    ------
    DialectError
        If the words seem to be numbers of the vectors, or a column seems to be counts.
    """
    _check_commas(lines, dialect)
    if dialect.is_sure:
        _check_dimension(lines, dialect)
    rows = [(head[-1], values) for head, values in dialect.rows(lines) if head]
    words = [word for word, _ in rows]
    if dialect.is_plain and sum(word != word.strip(BLANK) for word in words) * 2 > len(words):
        raise DialectError(f"most words start or end in a blank, here {shown(words[0])}; remove it")
    if dialect.quoted == "never":
        _check_quotes(words)
    if rows and not dialect.is_sure:
        _check_words(rows, dialect, counted=counted)
        if not counted:
            _check_counts([numbers for _, numbers in rows], dialect)


def _check_words(rows: list[tuple[bytes, list[bytes]]], dialect: Dialect, *, counted: bool) -> None:
    """Refuse words that seem to be numbers, or to end in one."""
    words = [word.replace(b",", b".") if dialect.decimal == b"," else word for word, _ in rows]
    values = [value for _, numbers in rows for value in numbers]
    if dialect.decimal == b"," and all(map(_THOUSANDS.fullmatch, values)):
        raise DialectError(
            f"the commas may be decimal marks or group thousands, here {shown(values[0])}; write "
            "decimal points"
        )
    values = [value.replace(b",", b".") for value in values]
    if len(rows) > 1:
        _check_alike(words, dialect, counted=counted)
    if all(map(is_number, filter(None, words))) and not counted and any(map(is_decimal, words)):
        if len(rows) > 1 or all(map(is_decimal, values)):
            raise DialectError(
                f"found only numbers, and no words: the first is {shown(words[0])}; pass the words "
                f"({option('words')}), or {option('dimension', dialect.dimension)} if the first "
                "number is the word"
            )
    elif len(rows) > 1 and all(_GLUED.fullmatch(word) for word, _ in rows):
        raise DialectError(
            f"every word ends in a number, here {shown(words[0])}; separate the two, or pass "
            f"{option('dimension', dialect.dimension)} if these are the words"
        )
    # `check_spaces` looks at the numbers after spaces of a plain file.
    marked = [word.rpartition(BLANK)[2] if dialect.is_plain else word for word, _ in rows]
    decimals = sum(bool(_GLUED_DECIMAL.fullmatch(word)) for word in marked)
    found = decimals + sum(bool(_GLUED_WHOLE.fullmatch(word)) for word in marked)
    if found:  # Beside these, words that are numbers are as doubtful.
        found += sum(looks_like_number(word) and not _ANY_MARK.search(word) for word in marked)
    is_usual = len(marked) > 1 and 2 * found >= len(marked)
    if is_usual and (decimals or not all(b"." in value for value in values)):
        raise DialectError(
            f"most words end in a mark and a number, here {shown(words[0])}; separate the two, or "
            f"pass {option('dimension', dialect.dimension)} if these are the words"
        )


def _check_alike(words: list[bytes], dialect: Dialect, *, counted: bool) -> None:
    """Refuse words that are alike in a way that words are not."""
    hint = f"; pass {option('dimension', dialect.dimension)} if these are the words"
    if words.count(b"") > 1 and 2 * words.count(b"") >= len(words):
        raise DialectError(
            f"most lines have no word; pass the words ({option('words')}) if there are none"
        )
    if len(words) > 2 and len({*words}) == 1:
        raise DialectError(f"every line has the same word, {shown(words[0])}; remove it{hint}")
    if all(word[:2] in _LIST_MARKS for word in words):
        raise DialectError(f"every word starts with a mark, here {shown(words[0])}; remove it")
    ends = {word.rpartition(BLANK)[2] if BLANK in word else b"" for word in words}
    if len(ends) == 1 and all(map(_SIGN.fullmatch, ends)):
        raise DialectError(f"every word ends in a mark, here {shown(words[0])}; remove it{hint}")
    is_scalar = dialect.dimension == 1 and not counted
    if is_scalar and dialect.outer == BLANK and any(BLANK in word for word in words):
        raise DialectError(f"found text and one number in a line: are these vectors?{hint}")


def _check_quotes(words: list[bytes]) -> None:
    """Refuse words that a CSV writer may have quoted, if no word shows that marks are letters."""
    marked = [word for word in words if b'"' in word]
    if marked and all(_QUOTED.fullmatch(word) and b'"' in word[1:-1] for word in marked):
        raise DialectError(f"the word {shown(marked[0])} may be quoted or not")


def _check_commas(lines: list[bytes], dialect: Dialect) -> None:
    """Refuse commas that may be between whole numbers, or decimal marks."""
    found = list(dialect.rows(lines))
    rows = [row for _, row in found if row]
    values = [value for row in rows for value in row]
    if dialect.outer == b"," and dialect.dimension == 1 and rows:
        ends = [head and _GLUED_WHOLE.fullmatch(head[-1]) for head, _ in found]
        if all(ends) and all(_HALF.fullmatch(row[0]) for row in rows):
            raise _comma_error(b",".join((found[0][0][-1], *rows[0])))
    if dialect.is_sure:
        words = [head[-1] for head, _ in found if head]
        if dialect.between == b"," and words and all(map(_GLUED_COMMA.fullmatch, words)):
            raise _comma_error(b",".join(rows[0]))  # The words have one number, each with a comma.
        return
    if dialect.decimal == b",":
        if dialect.dimension == 1 and values and all(map(_TWO_WHOLES.fullmatch, values)):
            raise _comma_error(values[0])
        return
    if dialect.between != b"," or dialect.dimension % 2 or any(b"." in value for value in values):
        return
    is_only = dialect.dimension == 2 and dialect.outer != b","  # The only comma in a line.
    is_bare = not any(b", " in line for line in lines)
    wholes = [_TWO_WHOLES.fullmatch(b",".join(row)) for row in rows]
    if is_only and is_bare and rows and all(wholes):
        raise _comma_error(b",".join(rows[0]))
    halves = [_HALF.fullmatch(value) for row in rows for value in row[1::2]]
    if not halves or None in halves:
        return
    digits = [half[1] for half in halves if half]
    firsts = [value.lstrip(b"+-") for row in rows for value in row[::2]]
    lengths = {*map(len, digits)}
    fixed = len(rows) > 1 and len(lengths) == 1 and lengths.pop() > 1
    zeros = any(half[:1] == b"0" and len(half) > 1 for half in digits) or b"-0" in values
    powers = any(half[2] for half in halves if half) and all(map(bytes.isdigit, firsts))
    small = max(map(len, firsts)) < max(map(len, digits)) - 1
    if fixed or zeros or powers or small:
        raise _comma_error(b",".join(rows[0]))


def _comma_error(text: bytes) -> DialectError:
    return DialectError(
        f"the commas may separate numbers or be decimal marks, here {shown(text)}; write decimal "
        "points, or another separator"
    )


def _check_dimension(lines: list[bytes], dialect: Dialect) -> None:
    """Refuse a dimension that leaves a decimal number at the end of every word."""
    pieces = [dialect.head(line)[-1:] for line in lines]
    ends = [word[0].rpartition(BLANK) for word in pieces if word]
    if len(ends) > 1 and all(blank and is_decimal(end) for _, blank, end in ends):
        raise DialectError(
            f"{option('dimension', dialect.dimension)} was given, but every line has more numbers, "
            f"here {shown(ends[0][2])}; correct it"
        )


def _check_counts(rows: list[list[bytes]], dialect: Dialect) -> None:
    if len(rows) < 3 or dialect.dimension <= _DECIMALS_BESIDE_A_COUNT:
        return
    if any(len(row) != dialect.dimension for row in rows):
        return
    for column in (0, dialect.dimension - 1):
        counts = [row[column] for row in rows]
        others = [value for row in rows for value in (row[1:] if column == 0 else row[:-1])]
        if not all(map(bytes.isdigit, counts)) or all(count in (b"0", b"1") for count in counts):
            continue
        if all(is_decimal(value.replace(b",", b".")) for value in others):
            raise DialectError(
                f"value {column + 1} of every line is a whole number, here {shown(counts[0])}, and "
                f"all others are decimals: is it a count? {_remedy(column)}, or pass "
                f"{option('dimension', dialect.dimension)} if it belongs to the vector"
            )


def _remedy(column: int) -> str:
    if column:
        return "Remove this column"
    keep = either('attributes=["count"]', "--attribute count")
    return f"Pass {keep} to keep it, remove this column"
