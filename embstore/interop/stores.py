"""What stands for a store by mistake: refused, with how to get a store of it."""

from __future__ import annotations

import os
from typing import Any

from embstore.store import EmbeddingStore
from embstore.view import StoreView


def check_store(store: Any, *, expected: str = "an EmbeddingStore") -> None:
    """Raise TypeError unless this is a store.

    Parameters
    ----------
    store : object
        What was given as a store.
    expected : str
        What may be given, for the message.

    Examples
    --------
    >>> check_store("words.embstore")
    Traceback (most recent call last):
      ...
    TypeError: store must be an EmbeddingStore, not str; embstore.open(path) opens one
    """
    if not isinstance(store, EmbeddingStore):
        raise TypeError(f"store must be {expected}, not {type(store).__name__}; {_remedy(store)}")


def _remedy(given: Any) -> str:
    if isinstance(given, StoreView):
        return (
            "pass view.store, the whole table; the rows of a view come from "
            'view.lookup(ids, outside="zeros")'
        )
    if given is None or isinstance(given, str | os.PathLike):
        return "embstore.open(path) opens one"
    if isinstance(getattr(given, "store", None), EmbeddingStore):
        return "pass its .store"
    return "embstore.build(rows, path) makes one"
