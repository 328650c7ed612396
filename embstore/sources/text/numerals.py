r"""Notations of numbers: those that are read, and those that only look like numbers.

What only looks like a number (``1,000.5``, ``0x1p3``, ``NULL``, a minus that is U+2212) is never
taken for a piece of a word.
"""

from __future__ import annotations

import re
import unicodedata

# No digit can be matched in two ways: that would take quadratic time.
NUMBER = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")
_COMMA_NUMBER = re.compile(rb"[+-]?(\d+(,\d+)?|,\d+)([eE][+-]?\d+)?$")
_NOT_FINITE = (b"nan", b"inf", b"infinity")
_DECIMAL = re.compile(rb"[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+)")
# Any digits, with the signs, marks and suffixes of any notation.
_MARKS = ".,_'\u2019\u00b7\u066b\u066c/\u2044:"
_LIKE = re.compile(
    rf"[+\-~<>=±∓≈≤≥]*[{_MARKS}]?(0[xXbBoO][0-9a-fA-F_.,]*([pP][+-]?\d*)?"
    rf"|\d[\d{_MARKS}+\-*^\u00d7]*([eEdDpP][+-]?\d*)?(#\w+)?)[fFdDlLjJi%\u2030]*"
)
_MINUS = re.compile("[\u2010-\u2015\u2212]")
_AROUND = "\"'()[]{}<>$€£¥; \t\r\x00\ufeff"
_MISSING = {"null", "none", "nil", "na", "n/a", "#n/a", "#na", "n.a.", "missing", "undefined"} | {
    *("<na>", "nat", "\\n", "-", "--", "---", "?", "#div/0!", "#value!", "#num!", "#ref!", "#null!")
}
_NOT_FINITE_LIKE = re.compile(r"(nan|inf|infinity|ind|qnan|snan)([(#%].*)?|∞")


def is_number(field: bytes, decimal: bytes = b".") -> bool:
    """Return whether a field is a number, ``nan`` and ``inf`` included."""
    notation = NUMBER if decimal == b"." else _COMMA_NUMBER
    return bool(notation.match(field)) or field.lower().lstrip(b"+-") in _NOT_FINITE


def number_run(fields: list[bytes], decimal: bytes) -> int:
    """Return how many fields at the end are numbers."""
    count = 0
    for field in reversed(fields):
        if not is_number(field, decimal):
            break
        count += 1
    return count


def is_decimal(field: bytes) -> bool:
    """Return whether a field is a number with a decimal point or an exponent."""
    return bool(_DECIMAL.fullmatch(field))


def looks_like_number(field: bytes) -> bool:
    """Return whether a field looks like a number in any notation, or like a missing one."""
    if is_number(field):
        return True
    text = unicodedata.normalize("NFKC", field[:200].decode("utf-8", "replace"))
    text = _MINUS.sub("-", text.strip())
    if _LIKE.fullmatch(text.strip(_AROUND)):
        return True
    bare = text.strip("\"'").lower()
    return bare in _MISSING or bool(_NOT_FINITE_LIKE.fullmatch(bare.lstrip("+-")))
