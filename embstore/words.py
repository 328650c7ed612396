"""How are many words held without an object for each? As bytes and offsets.

The same packed form is on disk, in a build's memory and in a query, so that one vectorised
comparison serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PackedWords:
    """Words as UTF-8, one after the other.

    Attributes
    ----------
    data : ndarray of uint8
        The bytes of all words.
    offsets : ndarray of int64, shape (n + 1,)
        Word ``i`` is ``data[offsets[i] : offsets[i + 1]]``.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def encoded(self) -> list[bytes]:
        """Return the words as a list of bytes."""
        base = int(self.offsets[0])
        data = self.data[base : int(self.offsets[-1])].tobytes()
        return [data[begin - base : end - base] for begin, end in pairwise(self.offsets.tolist())]

    def select(self, indices: NDArray[Any]) -> PackedWords:
        """Return the words at ``indices`` (or where a mask is true)."""
        words = self.encoded()
        return pack_encoded([words[i] for i in np.arange(len(self))[indices].tolist()])

    def equal(
        self, indices: NDArray[np.int64], other: PackedWords, others: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Say where ``self[indices[k]]`` and ``other[others[k]]`` are the same bytes."""
        begin, begin_other = self.offsets[indices], other.offsets[others]
        lengths = self.offsets[indices + 1] - begin
        same: NDArray[np.bool_] = lengths == other.offsets[others + 1] - begin_other
        lengths = np.where(same, lengths, 0)
        # One flat index over the bytes of all pairs; `steps` counts from 0 within each pair.
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        steps = np.arange(total) - np.repeat(ends - lengths, lengths)
        ours = self.data[np.repeat(begin, lengths) + steps]
        theirs = other.data[np.repeat(begin_other, lengths) + steps]
        differing = np.flatnonzero(ours != theirs)
        if differing.size:
            same[np.searchsorted(ends, differing, side="right")] = False
        return same


def encode(words: Iterable[str], errors: str = "strict") -> list[bytes]:
    """Return words as UTF-8.

    Parameters
    ----------
    words : iterable of str
    errors : {"strict", "surrogatepass"}
        What to do with a lone surrogate, which has no UTF-8. A query passes it on, as three bytes
        that no stored word contains; a build must not.

    Raises
    ------
    UnicodeEncodeError
        Under ``"strict"``, for a lone surrogate.
    TypeError
        If something is not a str.
    """
    words = list(words)
    try:
        return list(map(str.encode, words))  # Half the time of a call with arguments.
    except UnicodeEncodeError:
        if errors == "strict":
            raise
        return [word.encode("utf-8", errors) for word in words]
    except TypeError:
        kind = next(type(word).__name__ for word in words if not isinstance(word, str))
        raise TypeError(f"words must be str, not {kind}") from None


def pack(words: Iterable[str], errors: str = "strict") -> PackedWords:
    """Pack words; see `encode` for the parameters and errors."""
    return pack_encoded(encode(words, errors))


def pack_encoded(words: Sequence[bytes]) -> PackedWords:
    """Pack words that are bytes already."""
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=offsets[1:])
    return PackedWords(np.frombuffer(b"".join(words), np.uint8), offsets)


def hash_words(words: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return the XXH3 hash, 64 bits, seed 0, of each word."""
    return np.fromiter(map(xxh3_64_intdigest, words), np.uint64, len(words))
