r"""How do lines of a word and numbers become arrays? Without cutting them into Python objects.

A block is regular if each of its lines is a word and ``dimension`` fields, with single spaces
between. Such a block is taken apart as a whole:

1. The spaces and newlines are found; every ``dimension + 1``-th of them must be a newline.
2. The text without them, and where each field ends in it, is an Arrow array of strings.
3. Arrow casts the strings to numbers, row after row, so that nothing has to be transposed. The
   words are masked out of the cast.
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
    r"""Where the lines of a block begin and end, and what is between.

    Attributes
    ----------
    data : bytes
        The lines, each with its ``\n``.
    separators : ndarray of int64
        Where the spaces and newlines are.
    newlines : ndarray of int64, shape (n,)
        Where the newlines are.
    field_counts : ndarray of int64, shape (n,)
        Spaces in each line.
    """

    data: bytes
    separators: NDArray[np.int64]
    newlines: NDArray[np.int64]
    field_counts: NDArray[np.int64]

    def irregular(self, dimension: int) -> NDArray[np.bool_]:
        """Say which lines are not a word and ``dimension`` fields, or end in a blank."""
        # A line without anything has no byte before its newline, but too few fields anyway.
        last = np.frombuffer(self.data, np.uint8)[self.newlines - 1]
        irregular: NDArray[np.bool_] = self.field_counts != dimension
        return irregular | np.isin(last, _BLANKS)


def find_lines(data: bytes) -> Lines:
    r"""Find the lines and fields of a block that ends in ``\n``."""
    text = np.frombuffer(data, np.uint8)
    separators = np.flatnonzero((text == _SPACE) | (text == _NEWLINE))
    ends = np.flatnonzero(text[separators] == _NEWLINE)
    return Lines(data, separators, separators[ends], np.diff(ends, prepend=-1) - 1)


class Fields:
    """The fields of regular lines.

    Parameters
    ----------
    lines : Lines
        Lines that are all regular.
    dimension : int
        Fields behind each word.
    """

    def __init__(self, lines: Lines, dimension: int) -> None:
        self._shape = (len(lines.newlines), dimension + 1)
        ends = lines.separators
        offsets = np.zeros(len(ends) + 1, np.int32)
        np.subtract(ends, np.arange(len(ends)), out=offsets[1:], casting="unsafe")
        self._text = pa.py_buffer(lines.data.translate(None, b" \n"))
        self._offsets = pa.py_buffer(offsets)

    def words(self) -> pa.BinaryArray:
        """Return the first field of each line."""
        buffers = [None, self._offsets, self._text]
        fields = pa.BinaryArray.from_buffers(pa.binary(), self._shape[0] * self._shape[1], buffers)
        return fields.take(pa.array(np.arange(0, len(fields), self._shape[1])))

    def numbers(self, dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return the others as numbers, one row a line; None if one of them is no number."""
        try:
            numbers = pc.cast(self._strings(), pa.from_numpy_dtype(dtype))
        except pa.ArrowInvalid:
            return None
        values = np.frombuffer(numbers.buffers()[1], dtype, self._shape[0] * self._shape[1])
        return np.ascontiguousarray(values.reshape(self._shape)[:, 1:])

    def first_unreadable(self, dtype: np.dtype[Any]) -> tuple[int, int, bytes]:
        """Return the line, the field, and the text of what is the first that is no number."""
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
        begin, end = np.frombuffer(self._offsets, np.int32)[good : good + 2].tolist()
        return line, field, self._text[begin:end].to_pybytes()

    def _strings(self) -> pa.StringArray:
        """Return all fields as strings, with the words masked."""
        valid = np.ones(self._shape, np.bool_)
        valid[:, 0] = False
        mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
        return pa.StringArray.from_buffers(
            valid.size, self._offsets, self._text, mask, self._shape[0]
        )
