"""Sums over the rows of a table, from which its fingerprint is made.

`embstore.formats.own.spec` specifies the arithmetic. In short, each row and its id give two numbers
of 64 bits, and the numbers of all rows are added up. A sum does not depend on the order in which
rows come, so it is the same for any partitions and chunks, can be computed by several threads, and
can be adjusted when some rows change.

1. A row is cut into words of 64 bits, and a key is added to each. Each word is multiplied by its
   own upper half, and by that of the next word; the products are added up.
2. Two rounds of mixing make two numbers of these sums and the id.

Each step passes over a block that fits the processor's cache. NumPy releases the GIL.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.formats.own import spec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.formats.own.heading import Heading

    Words = NDArray[np.uint64]

WORD_BYTES = 8
# Words in a block; two arrays of this length are in use at a time. Rows that are mixed at a time.
BLOCK_WORDS = 1 << 15
BLOCK_ROWS = 1 << 13
# Up to this many words, a row's products are computed column by column, which is faster.
NARROW_WORDS = 8
_MODULUS = 1 << 64
_HALF = np.uint64(32)
_STEP = np.uint64(spec.FINGERPRINT_STEP)
_ROUNDS = tuple((np.uint64(shift), np.uint64(factor)) for shift, factor in spec.FINGERPRINT_ROUNDS)
_LAST_SHIFT = np.uint64(spec.FINGERPRINT_LAST_SHIFT)


class RowSums:
    """Two sums over rows and their ids.

    Parameters
    ----------
    first, second : int
        The sums so far.

    Examples
    --------
    >>> sums, same = RowSums(), RowSums()
    >>> rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    >>> sums.add(rows, range(4))
    >>> same.add(rows[[3, 1]], range(3, 0, -2))
    >>> same.add(rows[[0, 2]], range(0, 4, 2))
    >>> (sums.first, sums.second) == (same.first, same.second)
    True
    """

    def __init__(self, first: int = 0, second: int = 0) -> None:
        self.first, self.second = first, second

    def add(self, rows: NDArray[Any], ids: range | NDArray[np.int64]) -> None:
        """Add rows, shape (n, ...), each with an id below 2**64."""
        for first, second in _row_hashes(rows, ids):
            self.first = (self.first + int(first.sum())) % _MODULUS
            self.second = (self.second + int(second.sum())) % _MODULUS

    def subtract(self, rows: NDArray[Any], ids: range | NDArray[np.int64]) -> None:
        """Subtract rows that were added with these ids."""
        some = RowSums()
        some.add(rows, ids)
        self.merge(RowSums(-some.first, -some.second))

    def add_words(self, hashes: Words, first: int) -> None:
        """Add words by their XXH3 hashes, shape (n,); the ids count up from ``first``."""
        start = spec.FINGERPRINT_FIRST_WORD + first
        self.add(hashes, range(start, start + len(hashes)))

    def add_values(self, values: NDArray[Any], first: int) -> None:
        """Add values of an attribute, or hashes of strings, shape (n,).

        The first one counts as a row of the id ``first`` modulo 2**64.
        """
        self.add(values, range(first, first + len(values)))

    def merge(self, other: RowSums) -> None:
        """Add the sums of other rows."""
        self.first = (self.first + other.first) % _MODULUS
        self.second = (self.second + other.second) % _MODULUS

    def fingerprint(self, heading: Heading) -> str:
        """Return the fingerprint of the table whose rows and words were added."""
        upper, lower = heading.halves()
        return f"{(self.first + upper) % _MODULUS:016x}{(self.second + lower) % _MODULUS:016x}"

    @classmethod
    def of_fingerprint(cls, fingerprint: str, heading: Heading) -> RowSums:
        """Return the sums from which `fingerprint`, with the same heading, gives this one."""
        upper, lower = heading.halves()
        first, second = int(fingerprint[:16], 16) - upper, int(fingerprint[16:], 16) - lower
        return cls(first % _MODULUS, second % _MODULUS)


def _row_hashes(rows: NDArray[Any], ids: range | NDArray[np.int64]) -> Any:
    """Yield the two hashes of each row, shape (n,), for some thousand rows at a time."""
    if not rows.size:
        return
    row_bytes = rows[0].nbytes
    word_count = -(-row_bytes // WORD_BYTES)
    step, products = BLOCK_ROWS, _products
    if word_count <= NARROW_WORDS:
        step, products = min(max(BLOCK_WORDS // word_count, 1), BLOCK_ROWS), _narrow_products
    for start in range(0, len(rows), step):
        first, second = products(rows[start : start + step], row_bytes, word_count)
        numbers = _times_step(ids[start : start + step])
        first += numbers
        _mix(first, numbers)
        second += first
        _mix(second, numbers)
        yield first, second


def _times_step(ids: range | NDArray[np.int64]) -> Words:
    """Return ids, each times the step of the fingerprint."""
    if isinstance(ids, range):
        numbers = np.arange(len(ids), dtype=np.uint64)
        numbers *= np.uint64(ids.step * spec.FINGERPRINT_STEP % _MODULUS)
        numbers += np.uint64(ids.start * spec.FINGERPRINT_STEP % _MODULUS)
        return numbers
    return ids.astype(np.uint64) * _STEP


def _words(rows: NDArray[Any], row_bytes: int, word_count: int) -> Words:
    """Return rows as words, shape (n, word_count), padded with zeros."""
    flat = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).reshape(len(rows), row_bytes)
    missing = word_count * WORD_BYTES - row_bytes
    if not missing:
        return flat.view("<u8")
    # Copied by the largest unit that divides a row.
    unit = np.dtype(f"<u{next(size for size in (4, 2, 1) if row_bytes % size == 0)}")
    padded = np.zeros((len(rows), word_count * WORD_BYTES), np.uint8)
    padded.view(unit)[:, : row_bytes // unit.itemsize] = flat.view(unit)
    return padded.view("<u8")


def _narrow_products(rows: NDArray[Any], row_bytes: int, word_count: int) -> tuple[Words, Words]:
    """Return the two sums of products of each row, for rows of few words."""
    words = _words(rows, row_bytes, word_count)
    keys = _keys(0, word_count + 1)
    keyed = np.add(words.T, keys[:word_count, np.newaxis])
    upper = keyed >> _HALF
    first, second = keyed[0] * upper[0], keyed[-1] * (keys[word_count] >> _HALF)
    product = upper[0] * keys[word_count]
    second += product
    for column in range(1, word_count):
        first += np.multiply(keyed[column], upper[column], out=product)
        second += np.multiply(keyed[column - 1], upper[column], out=product)
    return first, second


def _products(rows: NDArray[Any], row_bytes: int, word_count: int) -> tuple[Words, Words]:
    """Return the two sums of products of each row, block by block."""
    first, second, opening, before = np.zeros((4, len(rows)), np.uint64)
    width = min(word_count, BLOCK_WORDS)
    step = min(BLOCK_WORDS // width, len(rows))
    # All blocks use the same memory: the pages of fresh memory would take a fifth of the time.
    keyed, upper = np.empty((2, step, width), np.uint64)
    for row in range(0, len(rows), step):
        some = slice(row, row + step)
        words = _words(rows[some], row_bytes, word_count)
        for start in range(0, word_count, width):
            block = words[:, start : start + width]
            count, columns = block.shape
            keys = _keys(start, start + columns)
            x = np.add(block, keys, out=keyed[:count, :columns])
            high = np.right_shift(x, _HALF, out=upper[:count, :columns])
            first[some] += np.einsum("ij,ij->i", x, high)
            second[some] += np.einsum("ij,ij->i", x[:, :-1], high[:, 1:])
            if start:  # Across the border of two blocks.
                second[some] += before[some] * high[:, 0]
            else:
                opening[some] = high[:, 0]
            before[some] = x[:, -1]
    (last,) = _keys(word_count, word_count + 1)
    before *= last >> _HALF
    opening *= last
    second += before
    second += opening
    return first, second


def _keys(start: int, stop: int) -> Words:
    """Return the keys ``start .. stop - 1``."""
    return _make_keys(start, stop) if stop > BLOCK_WORDS else _first_keys()[start:stop]


@lru_cache(maxsize=1)
def _first_keys() -> Words:
    return _make_keys(0, BLOCK_WORDS)


def _make_keys(start: int, stop: int) -> Words:
    keys = np.arange(start + 1, stop + 1, dtype=np.uint64)
    keys *= _STEP
    _mix(keys, np.empty_like(keys))
    return keys


def _mix(numbers: Words, scratch: Words) -> None:
    """Scramble each number in place."""
    for shift, factor in _ROUNDS:
        numbers ^= np.right_shift(numbers, shift, out=scratch)
        numbers *= factor
    numbers ^= np.right_shift(numbers, _LAST_SHIFT, out=scratch)
