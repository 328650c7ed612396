"""The size of a one-dimensional array, as a manifest states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.formats.own import spec

if TYPE_CHECKING:
    from embstore.formats.own.fields import Fields
    from embstore.formats.own.spec import RawArray


@dataclass(frozen=True, slots=True)
class ArraySize:
    """Length and chunk size of a one-dimensional array."""

    length: int
    chunk_rows: int


def check_pages(array: RawArray) -> None:
    """Refuse chunks that cannot be mapped next to each other, because they do not end on a page.

    Raises
    ------
    ValueError
        If the array has several chunks of such a size.
    """
    if array.chunk_count > 1 and array.chunk_bytes % spec.SMALL_CHUNK_BYTES:
        raise ValueError(
            f"{array.name} has chunks of {array.chunk_bytes} bytes, expected a multiple of "
            f"{spec.SMALL_CHUNK_BYTES}"
        )


def parse_size(reader: Fields) -> ArraySize:
    """Return the size that two fields of an object state."""
    return ArraySize(
        length=reader.integer("length", high=spec.MAX_BYTES // 8),
        chunk_rows=reader.integer("chunk_rows", low=1, high=spec.MAX_BYTES // 8),
    )


def size_to_json(size: ArraySize) -> dict[str, int]:
    """Return the two fields."""
    return {"length": size.length, "chunk_rows": size.chunk_rows}
