"""Compression of inner chunks: the codecs of the sharded layout, as Zarr and numcodecs have them.

An encoded inner chunk is what ``bytes``, one of these codecs and ``crc32c`` make of its rows. What
is read back is untrusted:

1. The checksum at its end is compared first, so damage never reaches a decoder.
2. The header must state exactly the bytes of an inner chunk. The decoder then writes into an array
   of that size, so no input can make it allocate more.
3. A Blosc chunk must be a single block: for several, its library would start threads of its own.

numcodecs is imported when the first inner chunk is encoded or decoded: it takes 0.3 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import google_crc32c

from embstore.formats.own import spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ZSTD: Final = "zstd"
BLOSC: Final = "blosc"
# The levels of each codec: the lowest, the highest, and the default.
LEVELS: Final = {ZSTD: (1, 22, 3), BLOSC: (1, 9, 5)}
NO_COMPRESSION: Final = "none"

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOSC_HEADER_BYTES = 16
# Bytes of the content size in a frame, by the two highest bits of its descriptor.
_ZSTD_SIZE_BYTES = (0, 2, 4, 8)
_ZSTD_DICTIONARY_BYTES = (0, 1, 2, 4)


@dataclass(frozen=True, slots=True)
class Compression:
    """A codec and its level.

    Parameters
    ----------
    codec : {"zstd", "blosc"}
        ``"blosc"`` is Zstandard over bytes that were sorted by their place in a number.
    level : int
        1 to 22 for zstd, 1 to 9 for blosc: higher is smaller, and slower to write.

    Raises
    ------
    ValueError
        If the codec is unknown, or the level out of range.

    Examples
    --------
    >>> str(Compression("zstd", 3))
    'zstd:3'
    """

    codec: str
    level: int

    def __post_init__(self) -> None:
        if self.codec not in LEVELS:
            raise ValueError(f"compression must be one of {', '.join(LEVELS)}, not {self.codec!r}")
        low, high, _ = LEVELS[self.codec]
        if not low <= self.level <= high:
            raise ValueError(f"the level of {self.codec} must be {low} to {high}, not {self.level}")

    def __str__(self) -> str:
        return f"{self.codec}:{self.level}"

    def zarr_codec(self, itemsize: int, inner_bytes: int) -> dict[str, Any]:
        """Return the codec as Zarr metadata names it, for numbers of ``itemsize`` bytes."""
        if self.codec == ZSTD:
            return {"name": ZSTD, "configuration": {"level": self.level, "checksum": False}}
        configuration = {
            "typesize": itemsize,
            "cname": "zstd",
            "clevel": self.level,
            "shuffle": "bitshuffle" if itemsize == 1 else "shuffle",
            "blocksize": inner_bytes,
        }
        return {"name": BLOSC, "configuration": configuration}

    def encode(self, data: NDArray[np.uint8], itemsize: int) -> bytes:
        """Return the encoded form of an inner chunk, with its checksum at the end.

        Parameters
        ----------
        data : ndarray of uint8, shape (inner_bytes,)
            The bytes of its rows.
        itemsize : int
            Bytes of a number.
        """
        # Imported here because opening and lookups in other layouts must not wait for it.
        from numcodecs import blosc, zstd  # noqa: PLC0415

        if self.codec == ZSTD:
            packed = zstd.compress(data, self.level)
        else:
            shuffle = blosc.BITSHUFFLE if itemsize == 1 else blosc.SHUFFLE
            # A view of numbers: the library takes their size from the array.
            numbers = data.view(f"u{itemsize}")
            packed = blosc.compress(numbers, b"zstd", self.level, shuffle, len(data))
        checksum: int = google_crc32c.value(packed)
        return bytes(packed) + checksum.to_bytes(spec.CHECKSUM_BYTES, "little")


def as_compression(value: Any, name: str) -> Compression | None:
    """Return the compression that a caller gave: a codec, or a codec and a level.

    Raises
    ------
    TypeError, ValueError
        If it is not a text, or not such a text.

    Examples
    --------
    >>> as_compression("zstd:19", "compression")
    Compression(codec='zstd', level=19)
    >>> as_compression("none", "compression") is None
    True
    """
    if value is None or isinstance(value, Compression):
        return value
    choices = f"{', '.join(map(repr, LEVELS))}, one of these with a level as in 'zstd:9', or 'none'"
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {choices}, not {value!r} ({type(value).__name__})")
    if value == NO_COMPRESSION:
        return None
    codec, colon, level = value.partition(":")
    if codec not in LEVELS or (colon and not (level.isascii() and level.isdecimal())):
        raise ValueError(f"{name} must be {choices}, not {value!r}")
    if len(level) > 2:
        raise ValueError(f"{name}: the level of {codec} must be at most {LEVELS[codec][1]}")
    return Compression(codec, int(level) if colon else LEVELS[codec][2])


def decode(codec: str, data: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Fill ``out``, shape (inner_bytes,), with the rows of an encoded inner chunk.

    Raises
    ------
    ValueError
        If it is damaged, or is not the encoded form of that many bytes; the message completes a
        sentence that names the inner chunk.
    """
    if len(data) <= spec.CHECKSUM_BYTES:
        raise ValueError(f"has {len(data)} bytes, too few for rows and a checksum")
    packed, tail = data[: -spec.CHECKSUM_BYTES], data[-spec.CHECKSUM_BYTES :]
    stated = int.from_bytes(tail.tobytes(), "little")
    if (computed := google_crc32c.value(packed)) != stated:
        raise ValueError(f"has the checksum {computed:08x}, but ends with {stated:08x}")
    # Imported here because opening and lookups in other layouts must not wait for it.
    from numcodecs import blosc, zstd  # noqa: PLC0415

    head = packed[:_BLOSC_HEADER_BYTES].tobytes()
    try:
        if codec == ZSTD:
            if (found := _zstd_size(head)) == len(out):
                zstd.decompress(packed, out)
        elif (found := _blosc_size(head, len(packed))) == len(out):
            blosc.decompress(packed, out)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    if found != len(out):
        raise ValueError(f"holds {found} bytes, expected {len(out)}")


def _zstd_size(head: bytes) -> int:
    """Return the number of bytes that the first frame of zstd says it holds (RFC 8878, 3.1.1)."""
    if len(head) < 6 or not head.startswith(_ZSTD_MAGIC):
        raise ValueError("it does not start as zstd does")
    descriptor = head[4]
    has_window = not descriptor >> 5 & 1
    size_bytes = _ZSTD_SIZE_BYTES[descriptor >> 6] or (0 if has_window else 1)
    start = 5 + has_window + _ZSTD_DICTIONARY_BYTES[descriptor & 3]
    field = head[start : start + size_bytes]
    if not size_bytes or len(field) < size_bytes:
        raise ValueError("it does not say how many bytes it holds")
    return int.from_bytes(field, "little") + (256 if size_bytes == 2 else 0)


def _blosc_size(head: bytes, packed_bytes: int) -> int:
    """Return the number of bytes that a Blosc chunk says it holds."""
    if len(head) < _BLOSC_HEADER_BYTES or head[0] != 2:
        raise ValueError("it does not start as Blosc, format 2, does")
    size, block, stated = (int.from_bytes(head[at : at + 4], "little") for at in (4, 8, 12))
    if stated != packed_bytes:
        raise ValueError(f"it says that it has {stated} bytes, but it has {packed_bytes}")
    if block < size:
        raise ValueError(f"it has blocks of {block} bytes, expected one of {size}")
    return size
