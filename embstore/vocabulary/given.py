"""Words as callers give them: one, lists, arrays, and columns of pandas, polars and Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embstore.table.given import WORD_KINDS, plain

_OTHER_SEQUENCES = (str, bytes, bytearray, range, memoryview)


def are_words(key: Any) -> bool:
    """Return whether an index is a word, or words in a (nested) sequence or array.

    Examples
    --------
    >>> are_words("like"), are_words([["like", "the"]]), are_words([0, 5]), are_words([])
    (True, True, False, False)
    """
    while isinstance(key, Sequence) and not isinstance(key, _OTHER_SEQUENCES) and len(key):
        key = key[0]
    if type(key) is int:
        return False
    key = plain(key)
    if isinstance(key, np.ndarray) and key.dtype.kind == "O":
        return any(isinstance(word, str) for word in key.flat)
    return isinstance(key, str) or (isinstance(key, np.ndarray) and key.dtype.kind in WORD_KINDS)


def flatten(words: Any) -> tuple[list[Any], tuple[int, ...]]:
    """Return words of any shape as a flat list, and their shape."""
    words = plain(words)
    if isinstance(words, str):
        return [words], ()
    if isinstance(words, list | tuple):
        kinds = set(map(type, words))
        if kinds <= {str}:
            return list(words), (len(words),)
        if all(hasattr(kind, "as_py") for kind in kinds):
            return [word.as_py() for word in words], (len(words),)
    array = words if isinstance(words, np.ndarray) else np.array(words, dtype=object)
    return array.ravel().tolist(), array.shape
