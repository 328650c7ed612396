"""How are many words held without an object for each? As bytes and offsets.

The same packed form is on disk, in a build's memory and in a query, so that one vectorised
comparison serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


# Longer words are compared one by one.
LONG_WORD_BYTES = 256


@dataclass(frozen=True, slots=True)
class PackedWords:
    """Words as UTF-8, one after the other.

    Attributes
    ----------
    data : ndarray of uint8
        The bytes of all words.
    offsets : ndarray of int64, shape (n + 1,)
        Word ``i`` is ``data[offsets[i] : offsets[i + 1]]``.
    listed : list of bytes, optional
        The same words, where they were a list before; it is not to be changed.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    listed: list[bytes] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def encoded(self) -> list[bytes]:
        """Return the words as a list of bytes, which is not to be changed."""
        if self.listed is not None:
            return self.listed
        base = int(self.offsets[0])
        data = self.data[base : int(self.offsets[-1])].tobytes()
        return [data[begin - base : end - base] for begin, end in pairwise(self.offsets.tolist())]

    def part(self, begin: int, end: int) -> PackedWords:
        """Return the words from ``begin`` up to ``end``, which may lie behind the last."""
        listed = None if self.listed is None else self.listed[begin:end]
        return PackedWords(self.data, self.offsets[begin : end + 1], listed)

    def select(self, indices: NDArray[Any]) -> PackedWords:
        """Return the words at ``indices`` (or where a mask is true)."""
        words = self.encoded()
        return pack_encoded([words[i] for i in np.arange(len(self))[indices].tolist()])

    def equal(
        self, indices: NDArray[np.int64], other: PackedWords, others: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Say where ``self[indices[k]]`` and ``other[others[k]]`` are the same bytes."""
        begin, begin_other = self.offsets.take(indices), other.offsets.take(others)
        lengths = self.offsets[1:].take(indices) - begin
        same: NDArray[np.bool_] = lengths == other.offsets[1:].take(others) - begin_other
        lengths = np.where(same, lengths, 0)
        # Long words one by one; so too the last of all, which may end less than eight bytes
        # before the data does.
        one, another = _by_eight(self.data), _by_eight(other.data)
        begin_last, begin_other_last = begin + (lengths - 1 & -8), begin_other + (lengths - 1 & -8)
        alone = lengths > LONG_WORD_BYTES
        alone |= (begin_last >= len(one)) | (begin_other_last >= len(another))
        alone &= lengths > 0
        for pair in np.flatnonzero(alone).tolist():
            ours = self.data[begin[pair] : begin[pair] + lengths[pair]]
            same[pair] = np.array_equal(ours, other.data[begin_other[pair] :][: len(ours)])
        # The others eight bytes at a time, as long as they last and are equal.
        pairs = np.flatnonzero((lengths > 0) & ~alone)
        done = 0
        while pairs.size:
            left = lengths.take(pairs) - done
            differing = one[begin.take(pairs) + done] ^ another[begin_other.take(pairs) + done]
            # Of a word that ends within the eight, only the lower bytes count: little endian.
            differing <<= _UNUSED_BITS.take(np.minimum(left, 8))
            same[pairs[differing != 0]] = False
            pairs = pairs[(differing == 0) & (left > 8)]
            done += 8
        return same


# By how much to shift eight bytes so that the first n of them remain.
_UNUSED_BITS = np.array([0, *range(56, -8, -8)], np.uint64)


def _by_eight(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return, for each place, the eight bytes from there on as one number."""
    count = max(len(data) - 7, 0)
    return np.ndarray((count,), "<u8", data, strides=(1,))


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


def pack_encoded(words: list[bytes]) -> PackedWords:
    """Pack words that are bytes already; the list is kept, and not to be changed any more."""
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=offsets[1:])
    return PackedWords(np.frombuffer(b"".join(words), np.uint8), offsets, words)


def hash_words(words: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return the XXH3 hash, 64 bits, seed 0, of each word."""
    return np.fromiter(map(xxh3_64_intdigest, words), np.uint64, len(words))
