r"""Fields of text lines as Arrow arrays, without a Python object for each.

A line is regular if it is a word and ``dimension`` fields, separated by single spaces. A block of
regular lines is parsed as a whole:

1. Find the spaces and newlines; every ``dimension + 1``-th of them must be a newline.
2. The text without them, and the offset where each field ends, is an Arrow array of strings.
3. Arrow casts the strings to numbers in row order, so nothing is transposed. The words are masked
   out of the cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPACE, _NEWLINE = b" "[0], b"\n"[0]
_BLANKS = np.frombuffer(b" \t\r", np.uint8)


@dataclass(frozen=True, slots=True)
class Lines:
    r"""Positions of the lines of a block, and of the spaces in them.

    Attributes
    ----------
    data : bytes
        The lines, each with its ``\n``.
    separators : ndarray of int64
        Positions of the spaces and newlines.
    newlines : ndarray of int64, shape (n,)
        Positions of the newlines.
    field_counts : ndarray of int64, shape (n,)
        Spaces in each line.
    """

    data: bytes
    separators: NDArray[np.int64]
    newlines: NDArray[np.int64]
    field_counts: NDArray[np.int64]

    def irregular(self, dimension: int) -> NDArray[np.bool_]:
        """Return which lines are not a word and ``dimension`` fields, or end in a blank."""
        # An empty line has no byte before its newline, but too few fields anyway.
        last = np.frombuffer(self.data, np.uint8)[self.newlines - 1]
        irregular: NDArray[np.bool_] = self.field_counts != dimension
        return irregular | np.isin(last, _BLANKS)


def find_lines(data: bytes) -> Lines:
    r"""Find the lines and fields of a block that ends in ``\n``."""
    text = np.frombuffer(data, np.uint8)
    separators = np.flatnonzero((text == _SPACE) | (text == _NEWLINE))
    ends = np.flatnonzero(text[separators] == _NEWLINE)
    return Lines(data, separators, separators[ends], np.diff(ends, prepend=-1) - 1)


def find_irregular(data: bytes, dimension: int) -> tuple[Lines, NDArray[np.int64]]:
    r"""Return the lines of a block that ends in ``\n``, and the positions of the irregular ones.

    If most lines are irregular, lines probably end in ``\r\n`` or in a space: such line ends are
    then replaced by ``\n`` in the whole block.
    """
    lines = find_lines(data)
    irregular = lines.irregular(dimension)
    if np.count_nonzero(irregular) * 2 > len(irregular):
        lines = find_lines(data.replace(b"\r\n", b"\n").replace(b" \n", b"\n"))
        irregular = lines.irregular(dimension)
    return lines, np.flatnonzero(irregular)


class FieldArray:
    """The fields of regular lines, one after the other.

    Parameters
    ----------
    lines : Lines
        The lines, all of them regular.
    dimension : int
        Numbers at the end of each line.
    columns : int
        Fields of attributes between the word and these numbers.
    """

    def __init__(self, lines: Lines, dimension: int, columns: int = 0) -> None:
        self._shape = (len(lines.newlines), 1 + columns + dimension)
        self._first = 1 + columns
        ends = lines.separators
        offsets = np.zeros(len(ends) + 1, np.int32)
        np.subtract(ends, np.arange(len(ends)), out=offsets[1:], casting="unsafe")
        self._text = pa.py_buffer(lines.data.translate(None, b" \n"))
        self._offsets = pa.py_buffer(offsets)

    def words(self) -> pa.BinaryArray:
        """Return the first field of each line."""
        return self._texts(0)

    def columns(self) -> list[pa.BinaryArray]:
        """Return the fields of each attribute."""
        return [self._texts(place) for place in range(1, self._first)]

    def _texts(self, place: int) -> pa.BinaryArray:
        buffers = [None, self._offsets, self._text]
        fields = pa.BinaryArray.from_buffers(pa.binary(), self._shape[0] * self._shape[1], buffers)
        return fields.take(pa.array(np.arange(place, len(fields), self._shape[1])))

    def numbers(self, dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return the numbers, a row for each line; None if a field is not a number."""
        try:
            numbers = pc.cast(self._strings(), pa.from_numpy_dtype(dtype))
        except pa.ArrowInvalid:
            return None
        values = np.frombuffer(numbers.buffers()[1], dtype, self._shape[0] * self._shape[1])
        return np.ascontiguousarray(values.reshape(self._shape)[:, self._first :])

    def first_unreadable(self, dtype: np.dtype[Any]) -> tuple[int, int, bytes]:
        """Find the first that is not a number; return its line, position from 1, and text."""
        strings = self._strings()
        good, bad = 0, len(strings)
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                pc.cast(strings[good:middle], pa.from_numpy_dtype(dtype))
                good = middle
            except pa.ArrowInvalid:
                bad = middle
        line, field = divmod(good, self._shape[1])
        start, end = np.frombuffer(self._offsets, np.int32)[good : good + 2].tolist()
        return line, field - self._first + 1, self._text[start:end].to_pybytes()

    def _strings(self) -> pa.StringArray:
        """Return all fields as strings, with words and attributes masked."""
        valid = np.ones(self._shape, np.bool_)
        valid[:, : self._first] = False
        mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
        masked = self._shape[0] * self._first
        return pa.StringArray.from_buffers(valid.size, self._offsets, self._text, mask, masked)
