"""Packed words: many words as bytes and offsets, without an object for each.

The form is the same on disk, in a build's memory and in a query, so one vectorised comparison
serves all three.
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
        The same words, if they came as a list; it must not be changed.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    listed: list[bytes] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def encoded(self) -> list[bytes]:
        """Return the words as a list of bytes, which must not be changed."""
        if self.listed is not None:
            return self.listed
        base = int(self.offsets[0])
        data = self.data[base : int(self.offsets[-1])].tobytes()
        return [data[start - base : stop - base] for start, stop in pairwise(self.offsets.tolist())]

    def part(self, start: int, stop: int) -> PackedWords:
        """Return the words ``start .. stop - 1``; ``stop`` may be beyond the last word."""
        listed = None if self.listed is None else self.listed[start:stop]
        return PackedWords(self.data, self.offsets[start : stop + 1], listed)

    def select(self, indices: NDArray[Any]) -> PackedWords:
        """Return the words at ``indices``, or where a mask is true."""
        words = self.encoded()
        return pack_encoded([words[i] for i in np.arange(len(self))[indices].tolist()])

    def equal(
        self, indices: NDArray[np.int64], other: PackedWords, others: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return where ``self[indices[k]]`` and ``other[others[k]]`` have equal bytes.

        Parameters
        ----------
        indices, others : ndarray of int64, shape (n,)

        Returns
        -------
        same : ndarray of bool, shape (n,)
        """
        starts, other_starts = self.offsets.take(indices), other.offsets.take(others)
        lengths = self.offsets[1:].take(indices) - starts
        same: NDArray[np.bool_] = lengths == other.offsets[1:].take(others) - other_starts
        lengths = np.where(same, lengths, 0)
        # Long words are compared one by one. So are words near the end of the data, where eight
        # bytes from the last of theirs on may not exist.
        one, another = _by_eight(self.data), _by_eight(other.data)
        alone = lengths > LONG_WORD_BYTES
        alone |= (starts + lengths > len(one)) | (other_starts + lengths > len(another))
        alone &= lengths > 0
        for pair in np.flatnonzero(alone).tolist():
            ours = self.data[starts[pair] : starts[pair] + lengths[pair]]
            same[pair] = np.array_equal(ours, other.data[other_starts[pair] :][: len(ours)])
        # The others are compared eight bytes at a time, until they end or differ.
        pairs = np.flatnonzero((lengths > 0) & ~alone)
        done = 0
        while pairs.size:
            left = lengths.take(pairs) - done
            differing = one[starts.take(pairs) + done] ^ another[other_starts.take(pairs) + done]
            # Of a word that ends within the eight, only the lower bytes count (little endian).
            differing <<= _UNUSED_BITS.take(np.minimum(left, 8))
            same[pairs[differing != 0]] = False
            pairs = pairs[(differing == 0) & (left > 8)]
            done += 8
        return same


# The left shift, in bits, after which only the first n of eight bytes are left.
_UNUSED_BITS = np.array([0, *range(56, -8, -8)], np.uint64)


def _by_eight(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return, for each position, the eight bytes from there on as one number."""
    count = max(len(data) - 7, 0)
    return np.ndarray((count,), "<u8", data, strides=(1,))


def encode(words: Iterable[str], errors: str = "strict") -> list[bytes]:
    """Return words as UTF-8.

    Parameters
    ----------
    words : iterable of str
    errors : {"strict", "surrogatepass"}
        What to do with a lone surrogate, which has no UTF-8. A build must raise. A query encodes
        it as three bytes that no valid word contains, so the word is missing.

    Raises
    ------
    UnicodeEncodeError
        For a lone surrogate, under ``"strict"``.
    TypeError
        If a word is not a str.
    """
    words = list(words)
    try:
        return list(map(str.encode, words))  # Half the time of a call with arguments.
    except UnicodeEncodeError:
        return [word.encode("utf-8", errors) for word in words]
    except TypeError:
        kind = next(type(word).__name__ for word in words if not isinstance(word, str))
        raise TypeError(f"words must be str, not {kind}") from None


def pack(words: Iterable[str], errors: str = "strict") -> PackedWords:
    """Pack words; see `encode` for the parameters and errors."""
    return pack_encoded(encode(words, errors))


def pack_encoded(words: list[bytes]) -> PackedWords:
    """Pack words that are bytes already; the list is kept and must not be changed."""
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=offsets[1:])
    return PackedWords(np.frombuffer(b"".join(words), np.uint8), offsets, words)


def hash_words(words: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return the XXH3 hash (64 bits, seed 0) of each word."""
    return np.fromiter(map(xxh3_64_intdigest, words), np.uint64, len(words))
