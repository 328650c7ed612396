"""Views of a store's words and ids with the interfaces of a dict and a list.

One word or id is looked up by itself. Iterating reads blocks of words.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, Sequence, ValuesView
from contextlib import suppress
from itertools import chain
from operator import eq
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from embstore.errors import StoreCorruptError
from embstore.vocabulary.missing import missing_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embstore.store import EmbeddingStore

_Default = TypeVar("_Default")

WORDS_PER_BLOCK = 4096  # While iterating.
# Read after a word that follows the last one.
WORDS_AHEAD = 1024


class KeyToIndex(Mapping[str, int]):
    """Map from words to ids, read-only; each access queries the store.

    ``dict(view)`` makes a copy in RAM.

    Examples
    --------
    >>> ids = KeyToIndex(store)
    >>> ids["like"], ids.get("absent"), "the" in ids, len(ids), list(ids)[:3]
    (1, None, True, 11, ['the', 'like', 'between'])
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        # `dict(view)` asks for the ids of all words in their order. So when a word follows the last
        # one, the next words are read together, and kept until others are.
        self._near: dict[str, int] = {}
        self._next_id = 0

    def __getitem__(self, word: str) -> int:
        found = self._near.get(word) if type(word) is str else None
        # Not the property, whose call would take a third of the time of `dict(view)`.
        if found is None or self._store._vocabulary is None:
            found = self._find(word)
        if found >= 0:
            return found
        if not isinstance(word, str):
            raise KeyError(word)
        raise missing_word(word, self._store.vocabulary, "get(word) gives None")

    @overload
    def get(self, word: str, default: None = None) -> int | None: ...
    @overload
    def get(self, word: str, default: _Default) -> int | _Default: ...
    def get(self, word: Any, default: Any = None) -> Any:
        """Return the id of a word, or ``default`` if it is missing."""
        vocabulary = self._store.vocabulary
        found = vocabulary.id_of(word) if isinstance(word, str) else -1
        return default if found < 0 else found

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self._store.vocabulary.id_of(word) >= 0

    def __iter__(self) -> Iterator[str]:
        return _words(self._store)

    def __len__(self) -> int:
        return len(self._store)

    def items(self) -> ItemsView[str, int]:
        """Return a view of the pairs of words and ids."""
        return _Items(self)

    def values(self) -> ValuesView[int]:
        """Return a view of the ids: all below the number of words."""
        return _Values(self)

    def copy(self) -> dict[str, int]:
        """Return a dict of all words and their ids."""
        return dict(self)

    def __or__(self, other: Any) -> Any:
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._store,)

    def __repr__(self) -> str:
        return f"<the ids of {len(self)} words>"

    def _find(self, word: Any) -> int:
        """Return the id of a word, -1 if it is missing; read on if it follows the last one."""
        vocabulary = self._store.vocabulary  # Raises if the store was closed.
        if not isinstance(word, str):
            return -1
        found = vocabulary.id_of(word)
        if found == self._next_id:
            # Other threads may do so at the same time: whatever is kept is right.
            self._next_id = stop = min(found + WORDS_AHEAD, len(vocabulary))
            with suppress(StoreCorruptError):  # It concerns other words.
                self._near = vocabulary.numbered(found, stop)
        elif found >= 0:
            self._next_id = found + 1
        return found


class _Items(ItemsView[str, int]):
    """The pairs of words and ids; they are counted instead of looked up."""

    def __init__(self, ids: KeyToIndex) -> None:
        super().__init__(ids)
        self._ids = ids

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self._ids, range(len(self._ids)), strict=True)


class _Values(ValuesView[int]):
    """The ids: all below the number of words."""

    def __init__(self, ids: KeyToIndex) -> None:
        super().__init__(ids)
        self._range = range(len(ids))

    def __contains__(self, value: object) -> bool:
        return value in self._range

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)


class IndexToKey(Sequence[str]):
    """Sequence of words, read-only; as in a list, negative indices count from the end.

    Examples
    --------
    >>> words = IndexToKey(store)
    >>> words[0], words[-1], words[1:3], words.index("like"), "absent" in words
    ('the', 'second', ['like', 'between'], 1, False)
    >>> (["[PAD]"] + words)[:3]
    ['[PAD]', 'the', 'like']
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if type(index) is int and 0 <= index < len(self):
            return self._store.vocabulary.word_of(index)
        if isinstance(index, slice):
            ids = range(*index.indices(len(self)))
            if ids.step == 1:
                return self._store.vocabulary.listed(ids.start, max(ids.start, ids.stop))
            found: list[str] = self._store.words(np.arange(ids.start, ids.stop, ids.step))
            return found
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise TypeError(f"an index must be an int or a slice, not {type(index).__name__}")
        index = index.__index__()
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} words")
        return self._store.vocabulary.word_of(index % len(self))

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and word in self._store

    def __iter__(self) -> Iterator[str]:
        return _words(self._store)

    def __reversed__(self) -> Iterator[str]:
        return _words(self._store, backwards=True)

    def __len__(self) -> int:
        return len(self._store)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | IndexToKey):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # As of a list.

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

    def copy(self) -> list[str]:
        """Return a list of all words."""
        return list(self)

    def __add__(self, other: Any) -> Any:
        return [*self, *other] if isinstance(other, list | IndexToKey) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"<the words of {len(self)} ids>"


def _words(store: EmbeddingStore, *, backwards: bool = False) -> Iterator[str]:
    """Return an iterator of all words, which reads them block by block."""
    starts = range(0, len(store), WORDS_PER_BLOCK)

    def block(start: int) -> Iterable[str]:
        words = store.vocabulary.listed(start, min(start + WORDS_PER_BLOCK, len(store)))
        return reversed(words) if backwards else words

    return chain.from_iterable(map(block, reversed(starts) if backwards else starts))
