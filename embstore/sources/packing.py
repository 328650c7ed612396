"""Packing of words that were read as bytes, with a check that they are UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embstore.errors import SourceError
from embstore.settle import shown_bytes
from embstore.vocabulary.words import PackedWords, pack_encoded
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Callable


def packed_binary(
    column: pa.BinaryArray,
    encoding_errors: str,
    place: Callable[[int], str],
) -> PackedWords:
    """Pack an Arrow array of bytes, without nulls.

    Parameters
    ----------
    column : pyarrow.BinaryArray
        The words.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8.
    place : callable
        Returns how messages refer to the word at a position.

    Raises
    ------
    SourceError
        If a word is not UTF-8 and ``encoding_errors`` is ``"strict"``.
    """
    try:
        column.cast(pa.string())  # Only to check that each word is UTF-8.
    except pa.ArrowInvalid:
        return pack_encoded(_decoded(column.to_pylist(), encoding_errors, place))
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
    if not offsets.size:  # Arrow may leave out the offsets of an empty array.
        return pack_encoded([])
    text = column.buffers()[2]
    data = np.frombuffer(text, np.uint8) if text is not None else np.empty(0, np.uint8)
    start, end = offsets[[0, -1]].tolist()
    return PackedWords(data[start:end], offsets.astype(np.int64) - start)


def packed_list(
    words: list[bytes],
    encoding_errors: str,
    place: Callable[[int], str],
) -> PackedWords:
    """Pack a list of bytes; see `packed_binary` for the parameters and errors."""
    try:
        pa.array(words, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        words = _decoded(words, encoding_errors, place)
    return pack_encoded(words)


def _decoded(
    words: list[bytes],
    encoding_errors: str,
    place: Callable[[int], str],
) -> list[bytes]:
    for position, word in enumerate(words):
        try:
            words[position] = word.decode("utf-8", encoding_errors).encode()
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{place(position)}: the word is not UTF-8 ({error.reason} at byte {error.start} "
                f"of {shown_bytes(word)}); convert the file, or use "
                f"{option('encoding_errors', 'replace')} or {option('encoding_errors', 'ignore')}"
            ) from error
    return words
