r"""Ends of words with spaces, in word2vec's binary format.

Nothing in the format tells a space in a word from the space after it. A reading of a row is an end
of its word. It is possible if the word is printable text, a newline follows the vector if one
follows other vectors, and another row may start there. Of several possible readings, only those
with a plausible vector remain: read from a wrong position, a vector has numbers of any size. A row
with more than one reading left is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embstore.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_SPACE, _NEWLINE = b" "[0], b"\n"[0]
# Where another space is looked for, after the first one.
_LOOKED_AT_BYTES = 48
# Fewer numbers may look plausible by chance.
_ENOUGH_NUMBERS = 4
# A number is usual if it is 0, or at least this share of the largest of its vector. The first and
# the last number may be text in a wrong reading; the right one must not fail by chance.
_USUAL = 2.0**-20
_USUAL_AT_ENDS = 2.0**-28
_USUAL_SHARE = 0.75
_MANY_NUMBERS = 8
# Rows that tell whether newlines follow vectors.
_TRIED_ROWS = 3
_TEXT = re.compile(rb"[^\x00-\x1f\x7f]*+")
_MAX_WORD_BYTES = 4096


def plausible(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which vectors, shape (n, dimension), have mostly numbers of similar sizes."""
    with np.errstate(invalid="ignore", over="ignore"):
        sizes = np.abs(vectors)
        largest = sizes.max(axis=1, keepdims=True, initial=0)
        usual = ((sizes >= largest * _USUAL) | (sizes == 0)) & np.isfinite(sizes)
        ends = sizes[:, [0, -1]]
        ends_fit = ((ends >= largest * _USUAL_AT_ENDS) | (ends == 0)).all(axis=1)
    share = _USUAL_SHARE if vectors.shape[1] >= _MANY_NUMBERS else 1
    found: NDArray[np.bool_] = (usual.mean(axis=1) >= share) & ends_fit
    return found


def sure_count(
    data: NDArray[np.uint8], ends: NDArray[np.int64], vector_bytes: int, *, at_end: bool
) -> tuple[int, bool]:
    """Return how many rows, from the first on, have words that surely end at their first space.

    Also return whether there is a doubt about the next row; if not, more data will tell.

    Parameters
    ----------
    data : ndarray of uint8
        Bytes of the file.
    ends : ndarray of int64, shape (n,)
        The positions of the first space of each row.
    vector_bytes : int
        Bytes of a vector.
    at_end : bool
        Whether the file ends with the data.
    """
    size = _LOOKED_AT_BYTES
    if at_end:
        data = np.concatenate([data, np.zeros(size, np.uint8)])
    else:
        ends = ends[: np.searchsorted(ends, len(data) - size)]
    length = len(data) - size * at_end
    after = _windows(data, size)[ends + 1].view(np.uint8).reshape(-1, size)
    rows = np.flatnonzero((after == _SPACE).any(axis=1))
    text = np.logical_and.accumulate((after[rows] >= _SPACE) & (after[rows] != 0x7F), axis=1)
    found, columns = np.nonzero(text & (after[rows] == _SPACE))
    rows = rows[found]
    starts = ends[rows] + columns + 2
    fits = starts + vector_bytes <= length
    sure = len(ends)
    if not at_end and not fits.all():
        sure = int(rows[~fits].min())
    rows, starts = rows[fits], starts[fits]
    usual = plausible(_vectors(data, starts, vector_bytes))
    for row, start in zip(rows[usual].tolist(), starts[usual].tolist(), strict=True):
        if row > sure:
            break
        word_start = int(ends[row - 1]) + 1 + vector_bytes if row else 0
        word = data[word_start : start - 1].tobytes().lstrip(b"\n")
        following = data[start + vector_bytes : length][:_MAX_WORD_BYTES].tobytes().lstrip(b"\n")
        if _is_text(word) and (not following or next(_spaces(following, 0), None) is not None):
            return row, True
    return sure, False


def enough_bytes(vector_bytes: int) -> int:
    """Return the bytes that `careful_reader` looks at."""
    return (_TRIED_ROWS + 1) * (_MAX_WORD_BYTES + vector_bytes)


def careful_reader(
    data: NDArray[np.uint8],
    first: int,
    left: int,
    vector_bytes: int,
    place: Callable[[int], str],
) -> CarefulReader:
    """Return a reader of the rows from here on; see `CarefulReader.find` for the parameters."""
    if first:
        return CarefulReader(vector_bytes, bytes(data[:1]) == b"\n", place)
    reader = CarefulReader(vector_bytes, True, place)
    try:
        reader.find(data, 0, left, at_end=True, enough=_TRIED_ROWS)
    except SourceError:
        return CarefulReader(vector_bytes, False, place)
    return reader


def _vectors(
    data: NDArray[np.uint8], starts: NDArray[np.int64], vector_bytes: int
) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = _windows(data, vector_bytes)[starts].view("<f4")
    return vectors.reshape(len(starts), vector_bytes // 4)


def _windows(data: NDArray[np.uint8], size: int) -> NDArray[np.void]:
    return np.ndarray((max(0, len(data) - size + 1),), f"V{size}", data, strides=(1,))


@dataclass(frozen=True, slots=True)
class CarefulReader:
    """Finds rows one by one.

    Parameters
    ----------
    vector_bytes : int
        Bytes of a vector.
    newlines : bool
        Whether a newline follows each vector.
    place : callable
        Returns how messages refer to a row.
    """

    vector_bytes: int
    newlines: bool
    place: Callable[[int], str]

    def find(
        self,
        data: NDArray[np.uint8],
        first: int,
        left: int,
        *,
        at_end: bool,
        enough: int | None = None,
    ) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return the words of the next whole rows, and the positions where they end.

        Parameters
        ----------
        data : ndarray of uint8
            Bytes of the file, from the end of a vector on.
        first : int
            The number of the first row.
        left : int
            The rows that the file has from here on.
        at_end : bool
            Whether the file ends with the data.
        enough : int, optional
            The most rows to find.

        Raises
        ------
        SourceError
            If a row has no reading, or more than one.
        """
        text = data.tobytes()
        words: list[bytes] = []
        ends: list[int] = []
        position = 0
        while len(words) < min(left, enough or left):
            is_last = len(words) == left - 1
            start, ways = self._readings(text, position, is_last=is_last)
            # Another block may change what is seen from here.
            if not at_end and start + 2 * (_MAX_WORD_BYTES + self.vector_bytes) > len(text):
                break
            if len(ways) > 1:
                ways = self._plausible(data, ways)
            if len(ways) != 1:
                raise self._error(text, first + len(words), start, len(ways))
            words.append(text[start : ways[0]])
            ends.append(ways[0])
            position = ways[0] + 1 + self.vector_bytes
        return words, np.array(ends, np.int64)

    def _readings(self, text: bytes, position: int, *, is_last: bool) -> tuple[int, list[int]]:
        """Return the start of a word, and all of its possible ends."""
        start = position
        while text[start : start + 1] == b"\n":
            start += 1
        ends = []
        for end in _spaces(text, start):
            after = end + 1 + self.vector_bytes
            if after <= len(text) and self._may_follow(text, after, is_last=is_last):
                ends.append(end)
        return start, ends

    def _may_follow(self, text: bytes, position: int, *, is_last: bool) -> bool:
        """Return whether the next row, or the end of the file, may be at a position."""
        if is_last:
            return not text[position:].strip(b"\n")
        if self.newlines:
            if text[position : position + 1] != b"\n":
                return False
            position += 1
        return next(_spaces(text, position), None) is not None

    def _plausible(self, data: NDArray[np.uint8], ends: list[int]) -> list[int]:
        if self.vector_bytes < 4 * _ENOUGH_NUMBERS:
            return ends
        starts = np.array(ends) + 1
        vectors = _vectors(data, starts, self.vector_bytes)
        return [end for end, fits in zip(ends, plausible(vectors), strict=True) if fits]

    def _error(self, text: bytes, row: int, start: int, ways: int) -> SourceError:
        found = repr(text[start : start + 40])
        what = "no end of its word fits" if not ways else "its word may end at several spaces"
        return SourceError(
            f"{self.place(row)}: expected a word, a space and {self.vector_bytes // 4} 32-bit "
            f"numbers, but {what}, found {found}; if words have spaces, write the table again with "
            "underscores, or as text; else, is the header right, and are the numbers 32-bit?"
        )


def _is_text(word: bytes) -> bool:
    """Return whether a word is UTF-8 without control characters."""
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return _TEXT.fullmatch(word) is not None


def _spaces(text: bytes, start: int) -> Iterator[int]:
    """Yield the positions of the spaces that may end a word, which is text in UTF-8."""
    match = _TEXT.match(text, start, start + _MAX_WORD_BYTES)
    limit = match.end() if match else start
    end = text.find(b" ", start, limit)
    while end >= 0:
        if not _is_text(text[start:end]):
            return
        yield end
        end = text.find(b" ", end + 1, limit)
