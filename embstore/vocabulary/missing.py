"""Missing words: the three ways to handle them, and the error message with its spelling hint.

All words of a lookup are looked up at once, so one error reports all that are missing. The near
spellings are searched for only when the message is shown; code that catches the error does not pay
for them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import MissingWordError, RemoteError, StoreCorruptError
from embstore.vocabulary.given import flatten
from embstore.vocabulary.spelling import near_word
from embstore.wording import either, option

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.vocabulary import Vocabulary

# What to do with a missing word where rows are asked for, and where ids are.
Missing = Literal["error", "unk", "zeros"]
MissingId = Literal["error", "unk", "none"]

NAMED_WORDS = 5
RESPELLED_WORDS = 3


def find_ids(
    words: Any,
    vocabulary: Vocabulary,
    missing: MissingId,
    *,
    unk: str | None,
    path: Path | str,
    remedy: str | None = None,
) -> NDArray[np.int64]:
    """Return the ids of words, with missing ones handled as ``missing`` says.

    Parameters
    ----------
    words : str, or (nested) sequence or array of str, any shape
    vocabulary : Vocabulary
        The words of a store.
    missing : {"error", "unk", "none"}
        Raise, use the id of ``unk``, or return -1.
    unk : str or None
        The store's unk word.
    path : Path or str
        The path or URL of the store, for messages.
    remedy : str, optional
        What to do about missing words; by default how to look them up nevertheless. An empty text
        if there is no more to say than which words are missing.

    Returns
    -------
    ids : ndarray of int64, the shape of ``words``

    Raises
    ------
    MissingWordError
        If words are missing under ``"error"``, or under ``"unk"`` if there is no unk word.
    """
    ids = vocabulary.ids(words)
    absent = ids < 0
    if missing == "none" or not absent.any():
        return ids
    if missing == "error":
        raise _error(words, absent, vocabulary, _remedy(unk) if remedy is None else remedy)
    if unk is None:
        raise MissingWordError(
            f"the store {path} has no unk word; name one when building it ({option('unk')}), or "
            f"look up the rows with {_zeros()}"
        )
    ids[absent] = vocabulary.id_of(unk)
    return ids


def missing_word(word: str, vocabulary: Vocabulary, remedy: str) -> MissingWordError:
    """Return the error of one missing word, with what to do about it."""
    return _error([word], np.ones(1, bool), vocabulary, remedy)


def _error(
    words: Any, absent: NDArray[np.bool_], vocabulary: Vocabulary, remedy: str
) -> MissingWordError:
    flat, _ = flatten(words)
    missing = [str(word) for word, gone in zip(flat, absent.ravel().tolist(), strict=True) if gone]
    more = ", ..." if len(missing) > NAMED_WORDS else ""
    names = ", ".join(map(repr, missing[:NAMED_WORDS])) + more
    message = f"the word {names} is not in the store"
    if len(missing) > 1:
        message = f"{len(missing)} of {len(flat)} words are not in the store: {names}"
    if remedy:
        message += f"; {remedy}"
    hint = partial(_hint, missing[:RESPELLED_WORDS], vocabulary, len(missing) > 1)
    return MissingWordError(message, missing, hint)


def _remedy(unk: str | None) -> str:
    if unk is not None:
        return f"{option('missing', 'unk')} gives such words the row of {unk!r}"
    return f"{_zeros()} gives such words zeros"


def _zeros() -> str:
    return either('lookup_words(..., missing="zeros")', "--missing zeros")


def _hint(missing: list[str], vocabulary: Vocabulary, several: bool) -> str:
    """Return the end of the message, empty if no near word is found."""
    try:
        near = {word: near_word(word, vocabulary) for word in missing}
    except (StoreCorruptError, RemoteError):
        return ""  # The next lookup raises it; it would hide which word is missing.
    named = [
        f"{found!r} for {word!r}" if several else repr(found)
        for word, found in near.items()
        if found is not None
    ]
    return f"; did you mean {', '.join(named)}?" if named else ""
