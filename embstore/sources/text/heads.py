"""Words of lines: a number before them, and spaces in them that may have swallowed numbers."""

from __future__ import annotations

import re

from embstore.sources.text.numerals import looks_like_number
from embstore.sources.text.pieces import DialectError, shown

# A decimal number at the start of a piece of a word, or a number before a carriage return: probably
# the vector of another line.
_ANOTHER_VECTOR = re.compile(rb"[ \t][+-]?(\d*\.\d|\d+(\.\d*)?([eE][+-]?\d+)?\r)")
_INDEXED = re.compile(rb"[ \t]*(\S+)[ \t]+(\S.*)", re.DOTALL)


def with_number(head: list[bytes]) -> list[bytes]:
    """Return the fields before the numbers, with a number before the word as a field of its own."""
    if len(head) == 1 and (match := _INDEXED.fullmatch(head[0])):
        return [match[1], match[2]]
    return head


def check_spaces(word: bytes, *, is_sure: bool) -> None:
    r"""Refuse a word with spaces that may have swallowed numbers.

    Raises
    ------
    DialectError
        If the word ends in a space and what may be a number, or has another vector in it.
    """
    if not (b" " in word or b"\t" in word):
        return
    if word[:1] == word[-1:] == b'"':
        raise DialectError(f"the word {shown(word)} is quoted, unlike others")
    if is_sure:
        return
    last = re.split(rb"[ \t]", word.rstrip(b" \t,;|:") if b" " in word[1:-1] else word)[-1]
    if looks_like_number(last):
        raise DialectError(f"the word ends in {shown(last)}, which may be a number")
    if _ANOTHER_VECTOR.search(word):
        raise DialectError(f"the word {shown(word)} has numbers in it: two lines in one?")
