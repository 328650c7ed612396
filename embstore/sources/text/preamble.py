r"""What is before the rows of a text file, and what makes all of its rows doubtful.

Before the rows there may be comments, then a header of counts (``rows dimension``), or a header of
names as a data frame writes it. A first line that looks like none of these is a row.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from embstore.sources.text.dialect import BLANK, Dialect, DialectError, shown, with_number
from embstore.sources.text.numerals import is_decimal, is_number, looks_like_number

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = re.compile(
    rb"(?:[ \t]{2,})?(\d{1,18})[ \t]*(?:[ \t,;|:=]|\xc2\xa0|\xe3\x80\x80|\xe2\x80[\x80-\xaf])[ \t]*"
    rb"(\d{1,18})[ \t,;|]*$"
)
_COMMENTS = (b"#", b"//", b"%", b";", b"--", b"!", b'"#')
_WORD_NAMES = frozenset(
    b"word words token tokens term terms key keys id ids index idx name names label item vocab "
    b"vocabulary entity node gene text string w".split()
) | {b"", b"unnamed: 0"}
# Items of lists, and literals of programs.
_LIST_MARKS = (b"- ", b"* ", b"> ", b"['", b'["', b"('", b'("')
_SIGN = re.compile(rb"[!-/:-@\[-`{-~]+")
_THOUSANDS = re.compile(rb"[+-]?[1-9]\d{0,2}(,\d{3})+|[+-]?\d{1,3}")
_COUNT_NAMES = frozenset(
    b"count counts freq freqs frequency frequencies score rank length label class".split()
)
_NUMBERED = re.compile(rb"(.*?)(\d+)", re.DOTALL)
# A word and a number, or two numbers.
_GLUED = re.compile(
    rb".*[^\d.+-]([+-]?\d?\.\d{3,}|[+-]\d*\.\d+)|[+-]?[\d.]+([,;|:=]|\xc2\xa0)[+-]?[\d.]+",
    re.DOTALL,
)
_HALF = re.compile(rb"(\d+)([eE][+-]?\d+)?")
_MARK = rb"(?:[ ,;|:=\t]|\xc2\xa0|\xe3\x80\x80|\xe2\x80[\x80-\xaf])"
_GLUED_WHOLE = re.compile(rb".*%b[+-]?\d+%b*" % (_MARK, _MARK), re.DOTALL)
_GLUED_DECIMAL = re.compile(rb".*%b[+-]?\d*[.,]\d+([eE][+-]?\d+)?%b*" % (_MARK, _MARK), re.DOTALL)
# A word with quotation marks around it, and all those in it doubled.
_QUOTED = re.compile(rb'"([^"]|"")*+"')
# What is between the numbers of a comment.
_PIECES = re.compile(rb"[^\w.+-]+")
# A decimal comma, or the comma between two whole numbers.
_TWO_WHOLES = re.compile(rb"[+-]?(0|[1-9]\d*),(0|[1-9]\d*)")
# A mark after each of this many words is none of their letters.
_ROWS_WITH_A_MARK = 3
# A column of counts is told by whole numbers beside this many decimals.
_DECIMALS_BESIDE_A_COUNT = 3


def comment_count(lines: list[bytes], dialect: Dialect) -> int:
    """Return how many of the first lines are comments: they have a mark, and are not rows."""
    for count, line in enumerate(lines):
        if not line.startswith(_COMMENTS):
            return count
        is_row = _is_row(dialect, line)
        if is_row:
            values = dialect.parts(line)[1]
            others = [value for _, row in _rows(lines[count + 1 :], dialect) for value in row]
            may_be_counts = len(values) <= 2 or all(map(is_decimal, others))
            if not (others and may_be_counts and all(map(bytes.isdigit, values))):
                return count
        # A row with one number too few, or one that is not read?
        if is_row or sum(map(is_number, _PIECES.split(line))) >= max(1, dialect.dimension - 1):
            raise DialectError(f"{shown(line)} may be a comment or a row; remove or fix it")
    return 0


def has_names(lines: list[bytes], dialect: Dialect) -> bool:
    """Return whether the first line names the columns.

    Raises
    ------
    DialectError
        If it names some column that does not seem to be a dimension.
    """
    first = lines[0].rstrip(b" \t\r")
    if _is_row(dialect, first):
        return _counts_up(lines, dialect)
    fields = [field.strip(b" \"'") for field in _fields(dialect, first)]
    inside = bool(dialect.brackets[0]) or dialect.outer != dialect.between
    columns = 1 if inside and len(fields) < dialect.dimension else dialect.dimension
    before, names = fields[: max(0, len(fields) - columns)], fields[-columns:]
    is_word = bool(before) and before[-1].lower() in _WORD_NAMES
    is_series = len(names) > 1 and _is_series(names)
    if len(names) != columns or len(before) > 2 or not (is_word or is_series):
        return False
    numbered = [bool(_NUMBERED.fullmatch(name)) for name in names]
    if any(numbered) and not (all(numbered) and _is_series(names)):
        raise DialectError(
            f"the header names columns that do not count up, here {shown(names[0])} to "
            f"{shown(names[-1])}; keep only the word and its vector"
        )
    if counts := [name for name in names if name.lower() in _COUNT_NAMES]:
        raise DialectError(
            f"the header names a column {shown(counts[0])}; keep only the word and its vector"
        )
    if not any(numbered) and before and not before[-1]:
        words = [head[-1] for head, _ in _rows(lines[1:], dialect) if head]
        if len(words) > 1 and words == [b"%d" % row for row in range(len(words))]:
            raise DialectError(
                f"the rows are only numbered, and the columns are named, here {shown(names[0])}; "
                "if these are the words, transpose the table, else write it without row numbers "
                "and header, and pass the words (words=)"
            )
    pieces = [piece for name in names for piece in name.split(dialect.between)]
    return all(numbered) or not any(map(looks_like_number, filter(None, pieces)))


def _counts_up(lines: list[bytes], dialect: Dialect) -> bool:
    """Return whether the first line is ``,0,1,2`` or the like, as a data frame writes it."""
    head, values = dialect.parts(lines[0])
    name = head[-1] if head else b""
    others = [value for _, numbers in _rows(lines[1:], dialect) for value in numbers]
    if name.strip(b" \"'").lower() not in _WORD_NAMES or name == b'"' or not dialect.has_words:
        # Any other word may be one; its vector is then like others.
        is_long = len(values) > 1 + dialect.has_words and _is_series(values)
        return is_long and bool(others) and all(map(is_decimal, others))
    if not others and name.strip(b" \"'") and len(values) > 2 and _is_series(values):
        raise DialectError(f"found only a header, {shown(lines[0])}, and no rows after it")
    if len(values) < 2 and (dialect.outer == BLANK or name):
        if values == [b"0"] and len(others) > 1 and (not name or all(map(is_decimal, others))):
            raise DialectError("the first line may be a header or a row; remove it, or write 0.0")
        return False
    if not _is_series(values) or b"." in b"".join(values):
        return False
    if all(map(bytes.isdigit, others)):
        raise DialectError("the first line may be a header or a row; remove it, or write 0.0")
    return True


def with_mark(lines: list[bytes], dialect: Dialect) -> Dialect:
    """Return the dialect, with the mark that follows each word, as in ``the: 0.1 0.2``.

    Raises
    ------
    DialectError
        If there are too few words to tell the mark from a part of them.
    """
    if dialect.outer not in (BLANK, b"\t") or not dialect.has_words:
        return dialect
    words = [head[-1].rstrip(BLANK) if head else b"" for head, _ in _rows(lines, dialect)]
    mark = words[0][-1:] if words else b""
    if not mark or mark not in b":=,;|" or not all(word.endswith(mark) for word in words):
        return dialect
    if all(word == mark for word in words):
        return dialect
    if len(words) < _ROWS_WITH_A_MARK:
        raise DialectError(f"{shown(mark)} may be a mark after the word or a part of it; remove it")
    return replace(dialect, outer=mark, padded=True)


def with_quotes(lines: list[bytes], dialect: Dialect) -> Dialect:
    """Return the dialect, with the quotation marks that are around every word."""
    if dialect.quoted == "any":
        minimal = replace(dialect, quoted="some")
        if len(list(_rows(lines, minimal))) == len(list(_rows(lines, dialect))):
            return minimal
        quotes = [dialect.quote in line for line in lines]
        return replace(dialect, quoted="always") if len(lines) > 1 and all(quotes) else minimal
    if dialect.quoted == "always" or not dialect.has_words:
        return dialect
    heads = [head for head, _ in _rows(lines, dialect) if head]
    words = [head[-1] for head in heads]
    if all(is_number(with_number(head)[0]) for head in heads):
        words = [with_number(head)[-1] for head in heads]
    mark = words[0][:1] if len(words) > 1 else b""
    around = all(len(word) > 1 and word[:1] == word[-1:] == mark for word in words)
    if mark not in (b'"', b"'") or not around:
        return dialect
    found = replace(dialect, quoted="always", quote=mark)
    if len(list(_rows(lines, found))) < len(words):
        raise DialectError(f"every word has quotation marks, here {shown(words[0])}; remove them")
    return found


def with_index(lines: list[bytes], dialect: Dialect) -> Dialect:
    """Return the dialect, with the number of the first row if each word comes after such a number.

    Raises
    ------
    DialectError
        If each word comes after another number.
    """
    if not dialect.has_words:
        return dialect
    heads = [with_number(_head(dialect, line)) for line in lines]
    numbers = [head[0] if len(head) == 2 and is_number(head[0]) else b"" for head in heads]
    if len(heads) < 2 and dialect.outer == BLANK:
        return dialect  # A word with a space, such as "7 up".
    for first in (0, 1):
        expected = [b"%d" % (first + row) for row in range(len(numbers))]
        if 2 * sum(map(bytes.__eq__, numbers, expected)) > len(numbers):
            return replace(dialect, first_index=first)
    if not all(numbers) or dialect.is_sure:
        return dialect
    raise DialectError(
        f"every word comes after a number, here {shown(numbers[0])}; remove this column"
    )


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
    if dialect.quoted == "never":
        _check_quotes([head[-1] for head, _ in _rows(lines, dialect) if head])
    _check_marks(lines, dialect)
    rows = [(head[-1], values) for head, values in _rows(lines, dialect) if head]
    if dialect.is_sure:
        _check_dimension(lines, dialect)
    elif rows and dialect.has_words:
        _check_rows(rows, dialect, counted=counted)


def _check_marks(lines: list[bytes], dialect: Dialect) -> None:
    """Refuse commas that may separate numbers, be decimal marks, or group thousands."""
    rows = [(head[-1:], values) for head, values in _rows(lines, dialect)]
    if dialect.outer == b",":
        found = [(head[0], values[0]) for head, values in rows if head and values]
        if found and all(_GLUED_WHOLE.fullmatch(w) and _HALF.fullmatch(v) for w, v in found):
            raise _comma_error(b",".join(found[0]))
    if dialect.is_sure:
        return
    if dialect.between == b"," and dialect.decimal == b".":
        _check_commas([values for _, values in rows], dialect)
    values = [value for _, row in rows for value in row]
    if dialect.decimal != b"," or not values:
        return
    if dialect.dimension == 1 and all(map(_TWO_WHOLES.fullmatch, values)):
        raise _comma_error(values[0])
    if dialect.has_words and all(map(_THOUSANDS.fullmatch, values)):
        raise DialectError(
            f"the commas may be decimal marks or group thousands, here {shown(values[0])}; write "
            "decimal points"
        )


def _check_rows(rows: list[tuple[bytes, list[bytes]]], dialect: Dialect, *, counted: bool) -> None:
    """Refuse words that end in numbers of the vectors, and columns of counts."""
    words = [word.replace(b",", b".") if dialect.decimal == b"," else word for word, _ in rows]
    values = [value.replace(b",", b".") for _, numbers in rows for value in numbers]
    if len(rows) > 1:
        _check_words(words, dialect)
    if all(map(is_number, filter(None, words))) and not counted and any(map(is_decimal, words)):
        if len(rows) > 1 or all(map(is_decimal, values)):
            raise DialectError(
                f"found only numbers, and no words: the first is {shown(words[0])}; pass the words "
                f"(words=), or dimension={dialect.dimension} if the first number is the word"
            )
    elif len(rows) > 1 and all(_GLUED.fullmatch(word) for word, _ in rows):
        raise DialectError(
            f"every word ends in a number, here {shown(words[0])}; separate the two, or pass "
            f"dimension={dialect.dimension} if these are the words"
        )
    # `check_spaces` looks at the words of a plain file that have spaces.
    marked = [row for row in rows if not (b" " in row[0] and dialect.is_plain)]
    if _most(_GLUED_DECIMAL, marked) or (
        _most(_GLUED_WHOLE, marked) and not all(b"." in value for value in values)
    ):
        raise DialectError(
            f"most words end in a mark and a number, here {shown(words[0])}; separate the two, or "
            f"pass dimension={dialect.dimension} if these are the words"
        )
    if not counted:
        _check_counts([numbers for _, numbers in rows], dialect)


def _check_words(words: list[bytes], dialect: Dialect) -> None:
    """Refuse words that are alike in a way that words are not."""
    hint = f"; pass dimension={dialect.dimension} if these are the words"
    if words.count(b"") > 1 and 2 * words.count(b"") >= len(words):
        raise DialectError("most lines have no word; pass the words (words=) if there are none")
    if len(words) > 2 and len({*words}) == 1:
        raise DialectError(f"every line has the same word, {shown(words[0])}; remove it{hint}")
    if all(word[:2] in _LIST_MARKS for word in words):
        raise DialectError(f"every word starts with a mark, here {shown(words[0])}; remove it")
    ends = {word.rpartition(BLANK)[2] if BLANK in word else b"" for word in words}
    if len(ends) == 1 and all(map(_SIGN.fullmatch, ends)):
        raise DialectError(f"every word ends in a mark, here {shown(words[0])}; remove it{hint}")
    if dialect.dimension == 1 and dialect.outer == BLANK and any(BLANK in word for word in words):
        raise DialectError(f"found text and one number in a line: are these vectors{hint}")


def _check_quotes(words: list[bytes]) -> None:
    """Refuse words that a CSV writer may have quoted, if no word shows that marks are letters."""
    marked = [word for word in words if b'"' in word]
    if marked and all(_QUOTED.fullmatch(word) and b'"' in word[1:-1] for word in marked):
        raise DialectError(f"the word {shown(marked[0])} may be quoted or not")


def _most(pattern: re.Pattern[bytes], rows: list[tuple[bytes, list[bytes]]]) -> bool:
    """Return whether half of the words, or more, match a pattern."""
    found = sum(bool(pattern.fullmatch(word)) for word, _ in rows)
    return len(rows) > 1 and 2 * found >= len(rows)


def _check_commas(rows: list[list[bytes]], dialect: Dialect) -> None:
    """Refuse whole numbers between commas that may be the halves of numbers with decimal commas."""
    values = [value for row in rows for value in row]
    if dialect.dimension % 2 or any(b"." in value for value in values):
        return
    halves = [_HALF.fullmatch(value) for row in rows for value in row[1::2]]
    if not halves or None in halves:
        return
    digits = [half[1] for half in halves if half]
    wholes = [value.lstrip(b"+-") for row in rows for value in row[::2]]
    lengths = {*map(len, digits)}
    fixed = len(rows) > 1 and len(lengths) == 1 and lengths.pop() > 1
    zeros = any(half[:1] == b"0" and len(half) > 1 for half in digits) or b"-0" in values
    small = max(map(len, wholes)) < max(map(len, digits)) - 1
    if fixed or zeros or small:
        raise _comma_error(b",".join(rows[0]))


def _comma_error(text: bytes) -> DialectError:
    return DialectError(
        f"the commas may separate numbers or be decimal marks, here {shown(text)}; write decimal "
        "points, or another separator"
    )


def _check_dimension(lines: list[bytes], dialect: Dialect) -> None:
    """Refuse a dimension that leaves a decimal number at the end of every word."""
    pieces = [_head(dialect, line)[-1:] for line in lines]
    ends = [word[0].rpartition(BLANK) for word in pieces if word]
    if len(ends) > 1 and all(blank and is_decimal(end) for _, blank, end in ends):
        raise DialectError(
            f"dimension={dialect.dimension} was given, but every line has more numbers, here "
            f"{shown(ends[0][2])}; correct it"
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
                f"all others are decimals: is it a count? Remove this column, or pass "
                f"dimension={dialect.dimension} if it belongs to the vector"
            )


def _rows(lines: list[bytes], dialect: Dialect) -> Iterator[tuple[list[bytes], list[bytes]]]:
    for line in lines:
        try:
            yield dialect.parts(line)
        except DialectError:
            continue


def _head(dialect: Dialect, line: bytes) -> list[bytes]:
    """Return the fields of a line before its numbers; none if it differs from the dialect."""
    return next((head for head, _ in _rows([line], dialect)), [])


def _is_row(dialect: Dialect, line: bytes) -> bool:
    try:
        head, values = dialect.parts(line)
    except DialectError:
        return False
    found = len(values) == dialect.dimension and len(head) <= 2
    return found and all(is_number(value, dialect.decimal) for value in values)


def _fields(dialect: Dialect, line: bytes) -> list[bytes]:
    if dialect.trailing:
        line = line.removesuffix(dialect.between)
    if dialect.quoted != "never":
        dialect = replace(dialect, quoted="any")
    try:
        fields = dialect.fields(line)
    except DialectError:
        return []
    if dialect.outer != dialect.between and len(fields) <= 2 and fields:
        more = replace(dialect, outer=dialect.between).fields(fields[-1])
        if len(more) == dialect.dimension:
            return [*fields[:-1], *more]
    return fields


def _is_series(names: list[bytes]) -> bool:
    """Return whether names count up by one from 0 or 1: ``0 1 2``, ``d1 d2 d3``."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    if None in matches:
        return False
    prefixes = {match[1] for match in matches if match}
    numbers = [int(match[2][:18]) for match in matches if match]
    first = numbers[0]
    return len(prefixes) == 1 and first in (0, 1) and numbers == [*range(first, first + len(names))]
