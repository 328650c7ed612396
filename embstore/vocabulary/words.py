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
# Words are compared this many bytes at a time: most are not longer.
WINDOW_BYTES = 16


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
        starts = self.offsets.take(indices)
        return self.equal_at(starts, self.offsets[1:].take(indices) - starts, other, others)

    def equal_at(
        self,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        other: PackedWords,
        others: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Return where some bytes of ``data`` are equal to ``other[others[k]]``.

        Parameters
        ----------
        starts, lengths : ndarray of int64, shape (n,)
            Where the bytes start in ``data``, and how many they are; in range.
        others : ndarray of int64, shape (n,)

        Returns
        -------
        same : ndarray of bool, shape (n,)
        """
        other_starts = other.offsets.take(others)
        same: NDArray[np.bool_] = lengths == other.offsets[1:].take(others) - other_starts
        # Long words are compared one by one. So are words near the end of the data, from which on
        # a whole window may not exist.
        ours, theirs = _windows(self.data), _windows(other.data)
        alone = starts + lengths >= len(ours)
        alone |= other_starts + lengths >= len(theirs)
        alone |= lengths > LONG_WORD_BYTES
        alone &= same
        for pair in np.flatnonzero(alone).tolist():
            length = int(lengths[pair])
            one = self.data[int(starts[pair]) :][:length]
            same[pair] = np.array_equal(one, other.data[int(other_starts[pair]) :][:length])
        # The others are compared a window at a time, until they end or differ.
        pairs = np.flatnonzero(same & ~alone)
        starts, other_starts, left = (
            values if len(pairs) == len(values) else values.take(pairs)
            for values in (starts, other_starts, lengths)
        )
        while pairs.size:
            differing = _numbers(ours[starts]) ^ _numbers(theirs[other_starts])
            # Of a word that ends within the window, only the first bytes count.
            differing &= _FIRST_BYTES.take(left, 0, mode="clip")
            equal = (differing[:, 0] | differing[:, 1]) == 0
            if not equal.all():
                same[pairs[~equal]] = False
            longer = np.flatnonzero((left > WINDOW_BYTES) & equal)
            pairs, left = pairs.take(longer), left.take(longer) - WINDOW_BYTES
            starts = starts.take(longer) + WINDOW_BYTES
            other_starts = other_starts.take(longer) + WINDOW_BYTES
        return same


def _windows(data: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return, for each position, the window from there on."""
    count = max(len(data) - WINDOW_BYTES + 1, 0)
    return np.ndarray((count,), np.dtype((np.void, WINDOW_BYTES)), data, strides=(1,))


def _numbers(windows: NDArray[np.void]) -> NDArray[np.uint64]:
    """Return windows, shape (n,), as numbers, shape (n, 2)."""
    return windows.view(np.uint64).reshape(-1, WINDOW_BYTES // 8)


def _masks() -> NDArray[np.uint64]:
    lengths, places = np.arange(WINDOW_BYTES + 1), np.arange(WINDOW_BYTES)
    return _numbers(np.where(places < lengths[:, np.newaxis], 255, 0).astype(np.uint8))


# The masks that keep the first n bytes of a window, shape (WINDOW_BYTES + 1, 2).
_FIRST_BYTES = _masks()


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
        try:
            return list(map(str.encode, words))  # Half the time of a call with arguments.
        except UnicodeEncodeError:
            return [str.encode(word, "utf-8", errors) for word in words]
    except TypeError:
        kind = next(type(word).__name__ for word in words if not isinstance(word, str))
        raise TypeError(f"words must be str, not {kind}") from None


def pack(words: Iterable[str], errors: str = "strict") -> PackedWords:
    """Pack words; see `encode` for the parameters and errors."""
    words = words if type(words) is list else list(words)
    # All are encoded together and cut apart again: half the time of encoding each of them.
    try:
        joined = "\0".join(words).encode("utf-8", errors)
    except (TypeError, UnicodeEncodeError):
        return pack_encoded(encode(words, errors))  # Raises an error that names the word.
    listed = joined.split(b"\0")
    if len(listed) != len(words):  # Some word has a NUL, or there is none.
        return pack_encoded(encode(words, errors))
    ends = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
    offsets = np.empty(len(listed) + 1, np.int64)
    offsets[0] = 0
    np.subtract(ends, np.arange(len(ends)), out=offsets[1:-1])
    offsets[-1] = len(joined) - len(ends)
    return PackedWords(np.frombuffer(joined.replace(b"\0", b""), np.uint8), offsets, listed)


def pack_encoded(words: list[bytes]) -> PackedWords:
    """Pack words that are bytes already; the list is kept and must not be changed."""
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=offsets[1:])
    return PackedWords(np.frombuffer(b"".join(words), np.uint8), offsets, words)


def hash_words(words: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return the XXH3 hash (64 bits, seed 0) of each word."""
    return np.fromiter(map(xxh3_64_intdigest, words), np.uint64, len(words))
