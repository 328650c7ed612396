"""Words that a program has: lists, series, Arrow arrays, and vocabularies with ids.

Word ``i`` belongs to row ``i``. Most objects have their words in this order; a vocabulary such as
``{word: id}`` says the order itself. Objects without an order, and of something else than words,
are refused. pandas, polars and the like are not imported here.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, KeysView, Mapping, Sequence, Set
from itertools import islice
from typing import Any

import numpy as np

from embstore.dtypes import has_masked
from embstore.errors import SourceError
from embstore.settle import as_count

ACCEPTED = (
    "the path of a file of words, a list of str, {word: id}, or a one-dimensional array, series or "
    "Arrow array of strings"
)
# Methods of vocabularies of torchtext, of tokenizers and transformers, and of Keras.
_VOCABULARY_METHODS = ("get_itos", "get_vocab", "get_vocabulary")


def list_words(words: Any, enough: int | None = None) -> list[str]:
    """Return the words of an object in the order of rows.

    Parameters
    ----------
    words : object
        An iterable of str, a ``{word: id}`` or ``{id: word}`` mapping, or a vocabulary object.
    enough : int, optional
        Take at most one word more than this from an iterator, which may be endless.

    Raises
    ------
    TypeError
        If it is not one of these, has no order, or an item is not a str.
    SourceError
        If ids are missing or repeated, or bytes are not UTF-8.

    Examples
    --------
    >>> list_words({"like": 1, "the": 0})
    ['the', 'like']
    """
    for method in _VOCABULARY_METHODS:
        if callable(found := getattr(words, method, None)):
            words = found()
    words = getattr(words, "index_to_key", words)  # gensim's KeyedVectors.
    if isinstance(words, Mapping):
        return _words_of_mapping(words)
    try:
        return _as_text(_items(words, enough))
    except UnicodeDecodeError as error:  # Of strings of HDF5, for example.
        raise SourceError(
            f"words= is a {type(words).__name__} that cannot be decoded: {error}; decode it with "
            "another encoding, or pass its bytes"
        ) from error


def in_order_of_ids(words: Sequence[str], ids: Sequence[Any], name: str) -> list[str]:
    """Return words in the order of their ids, which must be 0 to n - 1, each once.

    Parameters
    ----------
    words : sequence of str, length n
        The words.
    ids : sequence of int, length n
        The id of each word.
    name : str
        Where they stand, for messages.

    Raises
    ------
    SourceError, TypeError, ValueError
        If an id is missing, repeated, or not an integer; the message names it.

    Examples
    --------
    >>> in_order_of_ids(["like", "the"], [2, 0], "words")
    Traceback (most recent call last):
      ...
    embstore.errors.SourceError: words: expected ids 0 to 1, each once; no word has id 1, and 'like'
    has id 2
    """
    ordered: list[str | None] = [None] * len(words)
    beyond: tuple[str, int] | None = None
    for word, value in zip(words, ids, strict=True):
        number = as_count(value, f"{name}: the id of {word!r}")
        if number >= len(words):
            beyond = beyond or (word, number)
        elif ordered[number] is not None:
            raise SourceError(
                f"{name}: {ordered[number]!r} and {word!r} both have id {number}; give each id once"
            )
        else:
            ordered[number] = word
    if beyond is not None:
        raise SourceError(
            f"{name}: expected ids 0 to {len(words) - 1}, each once; no word has id "
            f"{ordered.index(None)}, and {beyond[0]!r} has id {beyond[1]}"
        )
    return [word for word in ordered if word is not None]


def _items(words: Any, enough: int | None) -> list[Any]:
    if hasattr(words, "__array__") and not isinstance(words, Iterable):
        words = np.asarray(words)  # Strings of HDF5, for example.
    _refuse_unordered(words)
    if hasattr(words, "to_pylist"):
        return list(words.to_pylist())  # Of Arrow, whose items are scalars, not str.
    return list(islice(words, None if enough is None else enough + 1))


def _words_of_mapping(words: Mapping[Any, Any]) -> list[str]:
    """Return the words of ``{word: id}`` or ``{id: word}``."""
    keys, values = list(words), list(words.values())
    if all(isinstance(word, str) for word in keys):
        return in_order_of_ids(keys, values, "words")
    if all(isinstance(word, str) for word in values):
        return in_order_of_ids(values, keys, "words")
    kinds = f"{{{type(keys[0]).__name__}: {type(values[0]).__name__}}}"
    raise TypeError(f"words= must be {{word: id}}, not {kinds}")


def _refuse_unordered(words: Any) -> None:
    """Raise TypeError for objects whose items are not words in the order of rows."""
    kind = type(words).__name__
    if isinstance(words, Set) and not isinstance(words, KeysView | ItemsView):
        raise TypeError(f"words= is a {kind}, which has no order; pass a list in the order of rows")
    if hasattr(words, "read"):
        raise TypeError(f"words= is an open file ({kind}); pass its path, or a list of its words")
    shape = getattr(words, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        raise TypeError(
            f"words= is a {kind} of shape {shape}; expected one dimension: pass its column of words"
        )
    if isinstance(words, bytes | bytearray | memoryview) or not isinstance(words, Iterable):
        raise TypeError(f"words= must be {ACCEPTED}, not {kind}")
    if has_masked(words):
        raise TypeError("words= has masked items; give one word for each row")
    labels = getattr(words, "index", None)
    if hasattr(words, "iloc") and _are_shuffled(np.asarray(labels)):
        raise TypeError(
            f"words= is a {kind} whose index has the numbers from 0 in another order than its "
            "rows, so either could be the ids; pass words.sort_index() or words.to_list()"
        )


def _are_shuffled(labels: Any) -> bool:
    """Say whether labels of a series are the numbers from 0, in another order than its rows."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        return False
    numbers = np.arange(len(labels))
    return not np.array_equal(labels, numbers) and np.array_equal(np.sort(labels), numbers)


def _as_text(items: list[Any]) -> list[str]:
    kinds = set(map(type, items))
    if kinds and all(issubclass(kind, bytes) for kind in kinds):
        return [_decoded(item, position) for position, item in enumerate(items)]
    if not all(issubclass(kind, str) for kind in kinds):
        position = next(i for i, item in enumerate(items) if not isinstance(item, str))
        kind = type(items[position]).__name__
        raise TypeError(f"words must be str, not {kind}; found one at position {position}")
    return items


def _decoded(word: bytes, position: int) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise SourceError(
            f"words: the word at position {position} is not UTF-8 ({error.reason} at byte "
            f"{error.start} of {word[:40]!r})"
        ) from error
