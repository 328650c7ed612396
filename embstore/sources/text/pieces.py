"""Pieces of a line: blanks, gaps, quoted fields, and the error of a line that cannot be split.

Fields are quoted as RFC 4180 says: a quotation mark in a quoted field is doubled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

BLANK = b" "
BLANKS = b" \t\r"


class DialectError(Exception):
    """A line that differs from the dialect; the message says how."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """What is between the fields of a line: blanks and separators, as they stand there.

    Attributes
    ----------
    margin : bytes
        Blanks at the start of the line.
    start : bytes
        What is between the margin and the first gap.
    gaps : tuple of bytes
        What is before each number.
    """

    margin: bytes
    start: bytes
    gaps: tuple[bytes, ...]


def shown(text: bytes) -> str:
    """Return some bytes of a file for messages."""
    return repr(text[:40].decode("utf-8", "replace"))


@lru_cache(maxsize=32)
def _field_pattern(separator: bytes, quote: bytes) -> re.Pattern[bytes]:
    """Return the pattern of one field, quoted or not."""
    blanks = b"" if separator == BLANK else b" *"
    quoted = b"%b%b((?:[^%b]|%b%b)*+)%b%b" % (blanks, *(re.escape(quote),) * 5, blanks)
    bare = b"((?:(?!%b)[^%b])*+)" % (re.escape(separator), re.escape(quote))
    return re.compile(
        b"%b|%b" % (quoted if separator != BLANK else quoted.replace(b" *", b""), bare)
    )


def quoted_fields(
    text: bytes, separator: bytes, quote: bytes, *, strip: bool, minimal: bool
) -> list[bytes]:
    """Split a line with quoted fields; blanks around these are ignored."""
    pattern = _field_pattern(separator, quote)
    fields = []
    position = 0
    while True:
        match = pattern.match(text, position)
        inside, bare = (None, b"") if match is None else match.groups()
        position = position if match is None else match.end()
        if inside is not None:
            field = inside.replace(quote * 2, quote)
            if minimal and field == field.strip() and not (quote in field or separator in field):
                raise DialectError(f"{shown(field)} is quoted without need, unlike other words")
            fields.append(field)
        else:
            fields.append(bare.strip(BLANKS) if strip else bare)
        if position == len(text):
            return fields
        if separator == BLANK:
            following = len(text) - len(text[position:].lstrip(BLANKS))
        else:
            following = position + len(separator) * text.startswith(separator, position)
        if following == position:
            raise DialectError("quotation marks are not in pairs around whole fields")
        position = following
