"""Arrays of one axis that grow with a table: words, and values of attributes.

An array keeps its chunks and grows in the last one: whole chunks are linked, and what is in the
last one is copied. An array that grows from little to much would so end as very many files, or as
chunks that cannot be mapped next to each other. So it is rewritten, with the chunks of a new
array, if it would have

* more than 32 chunks of less than 16 MiB; a new array has at most 16 of these, so it has grown to
  twice its size since, and the work of all rewrites together is a small multiple of the array;
* more than one chunk, of a size that does not end on a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from embstore.formats.own import spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embstore.formats.own.spec import RawArray
    from embstore.writing.arrays import ArrayWriter

FEW_CHUNKS: Final = 32
LARGE_CHUNK_BYTES: Final = 16 << 20


class NextArrays(Protocol):
    """The arrays of the next version of a store, made from those of the old one."""

    def check_chunk(self, array: RawArray, chunk: int) -> None:
        """Read a chunk file of the old version once, and compare it with the listed checksum.

        Raises
        ------
        StoreCorruptError
            If it differs.
        """
        ...

    def read_chunk(self, array: RawArray, chunk: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the items of an old chunk as bytes, shape (n, item bytes), piece by piece."""
        ...

    def new_array(
        self, name: str, item_shape: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int
    ) -> ArrayWriter:
        """Return the writer of an array, which is empty."""
        ...

    def grow_array(self, array: RawArray) -> ArrayWriter:
        """Return the writer of an array that goes on where one of the old version ends."""
        ...

    def link_chunk(self, writer: ArrayWriter, array: RawArray, chunk: int) -> None:
        """Take over a whole chunk of an old array as the next one of ``writer``."""
        ...


def grown_chunk_rows(array: RawArray, length: int) -> int:
    """Return the items in a chunk of an array that grows to ``length``.

    Examples
    --------
    >>> import numpy as np
    >>> from embstore.formats.own.spec import RawArray
    >>> array = RawArray("vocabulary/bytes", (100_000,), np.dtype("uint8"), 1 << 16)
    >>> [grown_chunk_rows(array, length) >> 10 for length in (100_000, 32 << 16, 33 << 16)]
    [64, 64, 256]
    >>> small = RawArray("vocabulary/bytes", (100,), np.dtype("uint8"), 128)
    >>> [grown_chunk_rows(small, length) for length in (128, 129)]
    [128, 256]
    """
    count = -(-length // array.chunk_rows)
    is_many = count > FEW_CHUNKS and array.chunk_bytes < LARGE_CHUNK_BYTES
    has_gaps = count > 1 and array.chunk_bytes % spec.SMALL_CHUNK_BYTES != 0
    if is_many or has_gaps:
        return spec.choose_chunk_rows(length, array.dtype.itemsize)
    return array.chunk_rows


def check_rewritten(arrays: NextArrays, array: RawArray, length: int) -> None:
    """Check the chunks of an old array that are read when it grows to ``length``.

    Raises
    ------
    StoreCorruptError
        If one does not have its checksum.
    """
    whole = array.shape[0] // array.chunk_rows
    if grown_chunk_rows(array, length) != array.chunk_rows:
        whole = 0
    for chunk in range(whole, array.chunk_count):
        arrays.check_chunk(array, chunk)


def grow(arrays: NextArrays, array: RawArray, length: int) -> ArrayWriter:
    """Return the writer of an array that will grow to ``length``; it has the old items.

    Raises
    ------
    StoreCorruptError
        If a chunk that is read does not have its checksum.
    """
    chunk_rows = grown_chunk_rows(array, length)
    if chunk_rows == array.chunk_rows:
        return arrays.grow_array(array)
    writer = arrays.new_array(array.name, array.shape[1:], array.dtype, chunk_rows)
    for chunk in range(array.chunk_count):
        for piece in arrays.read_chunk(array, chunk):
            writer.append(piece)
    return writer
