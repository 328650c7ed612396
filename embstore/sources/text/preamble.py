r"""Lines before the rows of a text file, and what is around every word.

Before the rows there may be comments, then a header of counts (``rows dimension``), or a header of
names as a data frame writes it. A first line that looks like none of these is a row.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from embstore.sources.text.heads import with_number
from embstore.sources.text.numerals import is_decimal, is_number, looks_like_number
from embstore.sources.text.pieces import BLANK, DialectError, shown
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embstore.sources.text.dialect import Dialect

HEADER = re.compile(
    rb"(?:[ \t]{2,})?(\d{1,18})[ \t]*(?:[ \t,;|:=]|\xc2\xa0|\xe3\x80\x80|\xe2\x80[\x80-\xaf])[ \t]*"
    rb"(\d{1,18})[ \t,;|]*$"
)
_COMMENTS = (b"#", b"//", b"%", b";", b"--", b"!", b'"#')
_WORD_NAMES = frozenset(
    b"word words token tokens term terms key keys id ids index idx name names label item vocab "
    b"vocabulary entity node gene text string w".split()
) | {b"", b"unnamed: 0"}
_COUNT_NAMES = frozenset(
    b"count counts freq freqs frequency frequencies score rank length label class".split()
)
_NUMBERED = re.compile(rb"(.*?)(\d+)", re.DOTALL)
# What is between the numbers of a comment.
_PIECES = re.compile(rb"(?:[ \t,;|:=()<>{}\"'\[\]]|\xc2\xa0|\xe3\x80\x80|\xe2\x80[\x80-\xaf])+")
# So few values may count up by chance.
_VALUES_BY_CHANCE = 2


def _keep() -> str:
    return (
        f"keep only the word, its vector, and between these what {option('attributes')} names, in "
        "the same order"
    )


# A mark after each of this many words is none of their letters.
_ROWS_WITH_A_MARK = 3


def comment_count(lines: list[bytes], dialect: Dialect) -> int:
    """Return how many of the first lines are comments: they have a mark, and are not rows."""
    for count, line in enumerate(lines):
        if not line.startswith(_COMMENTS):
            return count
        is_row = _is_row(dialect, line)
        if is_row:
            values = dialect.parts(line)[1]
            others = [value for _, row in dialect.rows(lines[count + 1 :]) for value in row]
            may_be_counts = len(values) <= 2 or all(map(is_decimal, others))
            if not (others and may_be_counts and all(map(bytes.isdigit, values))):
                return count
        # A row with one number too few, or one that is not read, or without any?
        numbers = sum(map(looks_like_number, _PIECES.split(line.lstrip(b'#/%;-!"'))))
        _, outer, rest = line.partition(dialect.outer)
        is_hollow = bool(outer) and not _PIECES.sub(b"", rest)
        if is_row or numbers >= max(1, dialect.dimension - 1) or is_hollow:
            raise DialectError(f"{shown(line)} may be a comment or a row; remove or fix it")
    return 0


def has_names(lines: list[bytes], dialect: Dialect, attributes: Sequence[str] = ()) -> bool:
    """Return whether the first line names the columns.

    Parameters
    ----------
    lines : list of bytes
        The first lines.
    dialect : Dialect
        Their dialect.
    attributes : sequence of str
        What the columns of attributes must be called.

    Raises
    ------
    DialectError
        If it names some column that does not seem to be a dimension, or attributes differently.
    """
    first = lines[0].rstrip(b" \t\r")
    fields = [field.strip(b" \"'") for field in _fields(dialect, first)]
    inside = bool(dialect.brackets[0]) or dialect.outer != dialect.between
    columns = 1 if inside and len(fields) < dialect.numbers else dialect.numbers
    start = max(0, len(fields) - columns)
    before, others, names = dialect.cut(fields[:start], fields[-columns:])
    columns -= dialect.columns_inside
    if _is_row(dialect, first):
        found = _counts_up(lines, dialect)
    else:
        found = len(names) == columns and _are_names(lines, dialect, before, names)
    if found and [other.decode("utf-8", "replace") for other in others] != list(attributes):
        raise DialectError(
            f"the header names {_listed(others)} between the word and its vector, but "
            f"{option('attributes')} names {', '.join(attributes) or 'nothing'}; give these names, "
            "in this order"
        )
    return found


def _listed(names: list[bytes]) -> str:
    return ", ".join(map(shown, names)) or "nothing"


def _are_names(
    lines: list[bytes], dialect: Dialect, before: list[bytes], names: list[bytes]
) -> bool:
    """Return whether fields of the first line name the word and the numbers of the vector."""
    is_word = bool(before) and before[-1].lower() in _WORD_NAMES
    is_series = len(names) > 1 and _is_series(names)
    if not all(names) or len(before) > 2:
        return False
    if not (is_word or is_series):
        return False
    pieces = [piece for name in names for piece in _PIECES.split(name)]
    if any(is_decimal(piece.replace(dialect.decimal, b".")) for piece in pieces):
        return False  # A damaged row.
    numbered = [bool(_NUMBERED.fullmatch(name)) for name in names]
    if any(numbered) and not (all(numbered) and _is_series(names)):
        raise DialectError(
            f"the header names columns that do not count up, here {shown(names[0])} to "
            f"{shown(names[-1])}; {_keep()}"
        )
    if counts := [name for name in names if name.lower() in _COUNT_NAMES]:
        raise DialectError(f"the header names a column {shown(counts[0])}; {_keep()}")
    if not any(numbered) and before and not before[-1]:
        words = [head[-1] for head, _ in dialect.rows(lines[1:]) if head]
        if len(words) > 1 and words == [b"%d" % row for row in range(len(words))]:
            raise DialectError(
                f"the rows are only numbered, and the columns are named, here {shown(names[0])}; "
                "if these are the words, transpose the table, else write it without row numbers "
                f"and header, and pass the words ({option('words')})"
            )
    return all(numbered) or not any(map(looks_like_number, filter(None, pieces)))


def _counts_up(lines: list[bytes], dialect: Dialect) -> bool:
    """Return whether the first line is ``,0,1,2`` or the like, as a data frame writes it."""
    head, values = dialect.parts(lines[0])
    name = head[-1] if head else b""
    is_name = name.strip(b" \"'").lower() in _WORD_NAMES and name not in (b'"', b"'")
    others = [value for _, numbers in dialect.rows(lines[1:]) for value in numbers]
    if not is_name or not dialect.has_words:
        # Any other word may be one; its vector is then like others.
        is_long = len(values) > 1 + dialect.has_words and _is_series(values)
        return is_long and bool(others) and all(map(is_decimal, others))
    if not others and name.strip(b" \"'") and len(values) > 2 and _is_series(values):
        raise DialectError(f"found only a header, {shown(lines[0])}, and no rows after it")
    if len(values) < 2 and (dialect.outer == BLANK or name):
        if values == [b"0"] and len(others) > 1 and (not name or all(map(is_decimal, others))):
            raise DialectError("the first line may be a header or a row; remove it, or write 0.0")
        return False
    if not _is_series(values) or b"." in b"".join(values) or dialect.brackets[0]:
        return False
    signs = b"+-" if len(values) <= _VALUES_BY_CHANCE else b""
    if all(value.lstrip(signs).isdigit() for value in others):
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
    words = [head[-1].rstrip(BLANK) if head else b"" for head, _ in dialect.rows(lines)]
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
        if len(list(minimal.rows(lines))) == len(list(dialect.rows(lines))):
            return minimal
        quotes = [dialect.quote in line for line in lines]
        return replace(dialect, quoted="always") if len(lines) > 1 and all(quotes) else minimal
    if dialect.quoted == "always" or not dialect.has_words:
        return dialect
    heads = [head for head, _ in dialect.rows(lines) if head]
    words = [head[-1] for head in heads]
    if all(is_number(with_number(head)[0]) for head in heads):
        words = [with_number(head)[-1] for head in heads]
    mark = words[0][:1] if len(words) > 1 else b""
    around = all(len(word) > 1 and word[:1] == word[-1:] == mark for word in words)
    if mark not in (b'"', b"'") or not around:
        return dialect
    found = replace(dialect, quoted="always", quote=mark)
    if len(list(found.rows(lines))) < len(words):
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
    heads = [with_number(dialect.head(line)) for line in lines]
    numbers = [head[0] if len(head) == 2 and is_number(head[0]) else b"" for head in heads]
    if len(heads) < 2 and dialect.outer == BLANK:
        return dialect  # A word with a space, such as "7 up".
    for first in (0, 1):
        expected = [b"%d" % (first + row) for row in range(len(numbers))]
        if 2 * sum(map(bytes.__eq__, numbers, expected)) > len(numbers):
            return replace(dialect, first_index=first)
        if any(numbers) and [head[0].strip(BLANK) for head in heads if head] == expected:
            raise DialectError("the first numbers may be words or the numbers of rows; remove them")
    if not all(numbers) or dialect.is_sure:
        return dialect
    raise DialectError(
        f"every word comes after a number, here {shown(numbers[0])}; remove this column"
    )


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
    if any(looks_like_number(name) and not name.isdigit() for name in names):
        return False  # "0.1" and "-1" are numbers of a row.
    return len(prefixes) == 1 and first in (0, 1) and numbers == [*range(first, first + len(names))]
