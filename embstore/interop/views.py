"""Views of a store's words and ids with the interfaces of a dict and a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.store import EmbeddingStore

WORDS_PER_LOOKUP = 4096  # While iterating.


class KeyToIndex(Mapping[str, int]):
    """Map from words to ids, read-only; each access queries the store.

    Examples
    --------
    >>> ids = KeyToIndex(store)
    >>> ids["like"], ids.get("absent"), "the" in ids, len(ids), list(ids)[:3]
    (1, None, True, 11, ['the', 'like', 'between'])
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    def __getitem__(self, word: str) -> int:
        if not isinstance(word, str):
            raise KeyError(word)
        return int(self._store.ids(word))

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and word in self._store

    def __iter__(self) -> Iterator[str]:
        return _words(self._store)

    def __len__(self) -> int:
        return len(self._store)

    def __repr__(self) -> str:
        return f"<the ids of {len(self)} words>"


class IndexToKey(Sequence[str]):
    """Sequence of words, read-only; as in a list, negative indices count from the end.

    Examples
    --------
    >>> words = IndexToKey(store)
    >>> words[0], words[-1], words[1:3], words.index("like"), "absent" in words
    ('the', 'second', ['like', 'between'], 1, False)
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            found: list[str] = self._store.words(np.arange(*index.indices(len(self))))
            return found
        if not isinstance(index, Integral) or isinstance(index, bool):
            raise TypeError(f"an index must be an int or a slice, not {type(index).__name__}")
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} words")
        word: str = self._store.words(index % len(self))
        return word

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and word in self._store

    def __iter__(self) -> Iterator[str]:
        return _words(self._store)

    def __len__(self) -> int:
        return len(self._store)

    def index(self, word: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the id of a word; ValueError if it is missing or outside ``start : stop``."""
        within = range(len(self))[start:stop]
        found = int(self._store.ids(word)) if word in self else -1
        if found not in within:
            raise ValueError(f"{word!r} is not in the list")  # A list's own message.
        return found

    def count(self, word: Any) -> int:
        """Return 1 if the store has the word, else 0."""
        return int(word in self)

    def __repr__(self) -> str:
        return f"<the words of {len(self)} ids>"


def _words(store: EmbeddingStore) -> Iterator[str]:
    for start in range(0, len(store), WORDS_PER_LOOKUP):
        yield from store.words(np.arange(start, min(start + WORDS_PER_LOOKUP, len(store))))
