"""A filter in front of words in files: most new words are told apart without reading a file.

It is a Bloom filter whose bits of a word are in one number of 64 bits, so that a word costs one
access to memory. With 10 bits of the filter for each word, it lets one new word in 60 through; with
20, one in 500. A word that was added is never held back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Each word sets this many bits, or fewer if some coincide.
BITS_OF_A_WORD = 4
# Bits of a hash that choose one of them. The bits above all these choose the number.
_CHOICE_BITS = 6
_BLOCK_SHIFT = np.uint64(BITS_OF_A_WORD * _CHOICE_BITS)


class WordFilter:
    """What is known of the hashes of many words.

    Parameters
    ----------
    memory_bytes : int
        The most memory to use.

    Examples
    --------
    >>> words = WordFilter(1 << 20)
    >>> words.add(np.array([7 << 40], np.uint64))
    >>> words.may_have(np.array([7 << 40, 8 << 40], np.uint64)).tolist()
    [True, False]
    """

    def __init__(self, memory_bytes: int) -> None:
        count = 1 << max((memory_bytes // 8).bit_length() - 1, 0)
        self._blocks = np.zeros(count, np.uint64)
        self._mask = np.uint64(count - 1)

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Add the words with these hashes."""
        places, bits = self._places(hashes), _bits(hashes)
        while bits.size:
            # Of several words written to one place, the last stays; the others are written again.
            self._blocks[places] = self._blocks.take(places) | bits
            lost = np.flatnonzero((self._blocks.take(places) & bits) != bits)
            places, bits = places.take(lost), bits.take(lost)

    def may_have(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which of the words may have been added; False is certain."""
        bits = _bits(hashes)
        found: NDArray[np.bool_] = (self._blocks.take(self._places(hashes)) & bits) == bits
        return found

    def _places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((hashes >> _BLOCK_SHIFT) & self._mask).view(np.int64)


def _bits(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = np.zeros(len(hashes), np.uint64)
    for number in range(BITS_OF_A_WORD):
        chosen = hashes >> np.uint64(number * _CHOICE_BITS)
        chosen &= np.uint64((1 << _CHOICE_BITS) - 1)
        bits |= np.uint64(1) << chosen
    return bits
