"""Which rows do these words mean? Words come one by one, in lists, in arrays, and some are missing.

Words of any shape become a flat list, are found in the vocabulary all at once, and give ids of the
same shape. Those that are not there are reported together; the near spellings that the message
names are searched for when somebody reads it, so that code which only catches the error pays
nothing for them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.errors import MissingWordError, StoreCorruptError
from embstore.vocabulary.spelling import near_word

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.vocabulary import Vocabulary
    from embstore.vocabulary.words import PackedWords

# What a missing word gives, where rows are asked for, and where ids are.
Missing = Literal["error", "unk", "zeros"]
MissingId = Literal["error", "unk", "none"]

NAMED_WORDS = 5
RESPELLED_WORDS = 3


class WordQueries:
    """Answers about the words of one store.

    Parameters
    ----------
    path : Path
        The store, for messages.
    vocabulary : Vocabulary
        Its words.
    unk : str or None
        Its unk word.
    """

    def __init__(self, path: Path, vocabulary: Vocabulary, unk: str | None) -> None:
        self._path = path
        self._vocabulary = vocabulary
        self._unk = unk

    def find(self, words: Any) -> NDArray[np.int64]:
        """Return ids in the shape of ``words``, -1 where there is none."""
        flat, shape = _flatten(words)
        return self._vocabulary.ids(flat).reshape(shape)

    def ids(self, words: Any, missing: MissingId) -> NDArray[np.int64]:
        """Return ids in the shape of ``words``; see `embstore.EmbeddingStore.ids`."""
        if missing not in ("error", "unk", "none"):
            raise ValueError(f'missing must be "error", "unk" or "none" here, not {missing!r}')
        ids = self.find(words)
        absent = ids < 0
        if missing != "none" and absent.any():
            if missing == "error":
                raise self._error(words, absent)
            ids[absent] = self._unk_id()
        return ids

    def words(self, ids: NDArray[np.int64]) -> Any:
        """Return a word for one id, nested lists of words for an array; ids are in range."""
        found = np.empty(ids.size, object)
        found[:] = self._vocabulary.words(ids.ravel())
        return found.reshape(ids.shape).tolist()

    def packed(self, start: int, stop: int) -> PackedWords:
        """Return the words of the ids ``start .. stop - 1``, which are in range, packed."""
        return self._vocabulary.packed(start, stop)

    def _unk_id(self) -> int:
        if self._unk is None:
            raise MissingWordError(
                f"the store {self._path} has no unk word; name one when it is built (unk=), or "
                'look the rows up with lookup_words(..., missing="zeros")'
            )
        return int(self._vocabulary.ids([self._unk])[0])

    def _error(self, words: Any, absent: NDArray[np.bool_]) -> MissingWordError:
        flat, _ = _flatten(words)
        missing = [word for word, gone in zip(flat, absent.ravel().tolist(), strict=True) if gone]
        more = ", ..." if len(missing) > NAMED_WORDS else ""
        names = ", ".join(map(repr, missing[:NAMED_WORDS])) + more
        remedy = 'lookup_words(..., missing="zeros") gives such words zeros'
        if self._unk is not None:
            remedy = f'missing="unk" gives such words the row of {self._unk!r}'
        message = f"the word {names} is not in the store; {remedy}"
        if len(missing) > 1:
            message = f"{len(missing)} of {len(flat)} words are not in the store: {names}; {remedy}"
        hint = partial(_hint, missing[:RESPELLED_WORDS], self._vocabulary, len(missing) > 1)
        return MissingWordError(message, missing, hint)


def are_words(key: Any) -> bool:
    """Say whether an index is a word, or words in a (nested) list, tuple or array."""
    if isinstance(key, np.ndarray):
        return key.dtype.kind in "UTO" and all(isinstance(word, str) for word in key.flat[:1])
    while isinstance(key, list | tuple) and key:
        key = key[0]
    return isinstance(key, str)


def _flatten(words: Any) -> tuple[list[Any], tuple[int, ...]]:
    """Return words as a flat list, and their shape."""
    if isinstance(words, str):
        return [words], ()
    if isinstance(words, list | tuple) and all(isinstance(word, str) for word in words):
        return list(words), (len(words),)
    array = words if isinstance(words, np.ndarray) else np.array(words, dtype=object)
    return array.ravel().tolist(), array.shape


def _hint(missing: list[str], vocabulary: Vocabulary, several: bool) -> str:
    """Return what to append to the message; nothing if no word is near."""
    try:
        near = {word: near_word(word, vocabulary) for word in missing}
    except StoreCorruptError:
        return ""  # A message about a word is no place for it; the next lookup raises it.
    named = [
        f"{found!r} for {word!r}" if several else repr(found)
        for word, found in near.items()
        if found is not None
    ]
    return f"; did you mean {', '.join(named)}?" if named else ""
