"""The errors of a vocabulary whose arrays do not fit together."""

from __future__ import annotations

from embstore.errors import StoreCorruptError
from embstore.formats.own.checked_files import REBUILD


def damaged(problem: str) -> StoreCorruptError:
    """Return the error for any damage."""
    return StoreCorruptError(f"the vocabulary is damaged: {problem}; {REBUILD}")


def wrong_id(found: int, count: int) -> StoreCorruptError:
    """Return the error for a slot with an id that is out of range."""
    return damaged(f"its hash table holds the id {found}, but there are {count} words")


def wrong_offsets() -> StoreCorruptError:
    """Return the error for offsets that are not in the range of the bytes, or descend."""
    return damaged("word offsets point outside of the stored words")


def not_utf8(problem: object) -> StoreCorruptError:
    """Return the error for bytes that are not a word."""
    return damaged(f"a stored word is not UTF-8 ({problem})")
