"""Signs by which kinds of files are told apart: functions of a file's first bytes and its name."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from embstore.formats.own.seals import checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    Sign = Callable[[bytes, str], bool]

_NUMBER = re.compile(rb"[-+]?(\d+[.,]?\d*|[.,]\d+)(e[-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r"))
_BINARY_HEADER = re.compile(rb"\d{1,18}[ \t]+(\d{1,9})[ \t\r]*\n")
_HDF5 = b"\x89HDF\r\n\x1a\n"


def starts(*magics: bytes, at: int = 0) -> Sign:
    """Return a sign: one of these magic bytes at an offset."""
    return lambda start, _: start.startswith(magics, at)


def exactly(pattern: bytes) -> Sign:
    """Return a sign: the first bytes match a regular expression."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda start, _: bool(compiled.match(start))


def like(pattern: bytes) -> Sign:
    """Return a sign of text: as `exactly`, behind any blanks and byte order mark, in any case.

    A line of a word and numbers is never one: words may look like anything.
    """
    compiled = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:" + pattern + rb")", re.IGNORECASE | re.DOTALL)
    return lambda start, _: bool(compiled.match(start)) and not is_vector(start)


def is_vector(start: bytes) -> bool:
    """Return whether the first line is a word, such as ``<html>``, and numbers."""
    line = start.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")[0]
    fields = line.split()
    return len(fields) > 1 and all(map(_NUMBER.fullmatch, fields[1:10]))


_declared = like(rb"<(!doctype|\?xml|!--)[ \t]")
_tagged = like(rb"<(html|head|body|script|title|center|meta|div|p|h1|error|message|svg)\b")
_TWO_TAGS = re.compile(rb"<\w+[^<>\n]*>[^<\n]*<[/\w]|<\w+\s+\w+=")


def is_markup(start: bytes, name: str) -> bool:
    """Return whether a file is HTML or XML; a list of words may start with a tag, too."""
    if _declared(start, name):
        return True
    return _tagged(start, name) and bool(_TWO_TAGS.search(start[:4096]))


def is_hdf5(start: bytes, _: str) -> bool:
    """Return whether a superblock is at byte 0, 512, 1024, 2048 and so on."""
    return any(start.startswith(_HDF5, offset) for offset in (0, *(512 << n for n in range(7))))


def is_tf_record(start: bytes, _: str) -> bool:
    """Return whether the first 8 bytes are a length, and their masked checksum follows."""
    if len(start) < 12:
        return False
    crc = checksum(start[:8])
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return masked == int.from_bytes(start[8:12], "little")


def is_zlib(start: bytes, name: str) -> bool:
    """Return whether the first two bytes are zlib's header, and the others are not text."""
    header = int.from_bytes(start[:2], "big")
    return start[:1] == b"x" and not header % 31 and (start[1] > 0x7F or is_binary(start, name))


def is_old_fasttext(start: bytes, _: str) -> bool:
    """Return whether a model of fastText's first version starts with plausible arguments."""
    if len(start) < 56:
        return False
    fields = [int.from_bytes(start[at : at + 4], "little") for at in range(0, 32, 4)]
    dimension, window, epochs, _min_count, _negative, _ngrams, loss, model = fields
    plausible = 0 < dimension <= 10_000 and 0 < window <= 1000 and 0 < epochs <= 100_000
    return plausible and loss in (1, 2, 3) and model in (1, 2, 3)


def is_zeros(start: bytes, _: str) -> bool:
    """Return whether a file starts with nothing but zeros."""
    return bool(start) and not start.strip(b"\0")


def is_binary(start: bytes, _: str) -> bool:
    """Return whether many bytes are control characters, and no number ends a first line."""
    start = start[:4096]
    if len(start) - len(start.translate(None, _CONTROLS)) <= len(start) // 20:
        return False
    last = [line.split()[-1:] for line in start.split(b"\n", 3)[:3]]
    return not any(field and _NUMBER.fullmatch(field[0]) for field in last)


def is_word2vec_binary(start: bytes, name: str) -> bool:
    """Return whether bytes, and not digits, follow the header and the first word."""
    header = _BINARY_HEADER.match(start)
    if header is None:
        return False
    _, space, rest = start[header.end() :].partition(b" ")
    vector = rest[: int(header[1]) * 4]
    if not space or not vector:
        return False
    if len(vector.translate(None, _CONTROLS)) < len(vector):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(vector)
    except UnicodeDecodeError:
        return True
    # All of it could be text, as by chance a few float32 can; then numbers make it text.
    line = start[header.end() :].partition(b"\n")[0]
    return ".bin" in name and not all(map(_NUMBER.fullmatch, line.split()[1:]))
