"""What the groups of methods of the view share: its store, keys and search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from embstore.settle import as_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.interop.gensim.keys import Key, KeyLookup
    from embstore.interop.gensim.views import IndexToKey, KeyToIndex
    from embstore.search.cosines import CosineSearch
    from embstore.store import EmbeddingStore

    Similar = list[tuple[str, float]]


class Keyed(ABC):
    """A store, and the keys of its rows."""

    store: EmbeddingStore
    key_to_index: KeyToIndex
    index_to_key: IndexToKey
    _keys: KeyLookup
    _search: CosineSearch

    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of keys."""

    @abstractmethod
    def __contains__(self, key: object) -> bool:
        """Say whether the store has a key."""

    @abstractmethod
    def __getitem__(self, keys: Key | Sequence[Key]) -> NDArray[Any]:
        """Return the vector of a key, or the vectors of several."""

    def _number(self, value: Any) -> float:
        number: float = self._search.dtype.type(value)
        return number


def as_topn(value: Any, name: str) -> int | None:
    """Return a count that may be negative, as in a slice, or None."""
    return None if value is None else as_count(value, name, low=None)
