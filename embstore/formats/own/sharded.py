"""Arrays of the sharded layout: their metadata, what it lists of chunk files, and shard indexes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from embstore.formats.own import spec
from embstore.formats.own.spec import RawArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.formats.own.compression import Compression
    from embstore.formats.own.fields import Fields


@dataclass(frozen=True, slots=True)
class ShardedArray(RawArray):
    """One array of the store in the sharded layout; its chunks are shards.

    Parameters
    ----------
    inner_rows : int
        Rows in an inner chunk.
    compression : Compression
        The codec of inner chunks.
    """

    inner_rows: int
    compression: Compression

    @property
    def inner_count(self) -> int:
        """Number of inner chunks in a shard, absent ones included."""
        return self.chunk_rows // self.inner_rows

    @property
    def inner_bytes(self) -> int:
        """Bytes of an inner chunk when it is decoded."""
        return self.inner_rows * math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def index_bytes(self) -> int:
        """Bytes of the index at the end of a shard, without its checksum."""
        return self.inner_count * spec.ENTRY_BYTES

    def present_count(self, chunk: int) -> int:
        """Return the number of inner chunks of a shard that have rows."""
        rows = min(self.shape[0] - chunk * self.chunk_rows, self.chunk_rows)
        return -(-rows // self.inner_rows)

    def codecs(self) -> list[dict[str, Any]]:
        """Return the codecs of a chunk, as Zarr metadata has them."""
        checksum = {"name": "crc32c"}
        packing = self.compression.zarr_codec(self.dtype.itemsize, self.inner_bytes)
        configuration = {
            "chunk_shape": [self.inner_rows, *self.shape[1:]],
            "codecs": [self.numbers_codec(), packing, checksum],
            "index_codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                checksum,
            ],
            "index_location": "end",
        }
        return [{"name": "sharding_indexed", "configuration": configuration}]


@dataclass(frozen=True, slots=True)
class ListedChunks:
    """What the metadata of an array lists of its chunk files.

    Attributes
    ----------
    checksums : list of int
        The checksum of each: in the raw layout of its rows, in the sharded one of the whole file.
    tails : list of int
        The last four bytes of each file.
    sizes : list of int
        Its bytes.
    """

    checksums: list[int]
    tails: list[int]
    sizes: list[int]

    def __len__(self) -> int:
        return len(self.checksums)

    def add(self, checksum: int, tail: int, size_bytes: int) -> None:
        """List one more file."""
        self.checksums.append(checksum)
        self.tails.append(tail)
        self.sizes.append(size_bytes)

    def to_json(self, array: RawArray) -> dict[str, Any]:
        """Return the attribute of the array that lists them."""
        if not isinstance(array, ShardedArray):
            return {spec.CHECKSUMS: self.checksums}
        return {
            spec.CHECKSUMS: self.checksums,
            spec.INDEX_CHECKSUMS: self.tails,
            spec.CHUNK_SIZES: self.sizes,
        }


def covered_bytes(array: RawArray, size_bytes: int) -> int:
    """Return how many bytes of a chunk file of ``size_bytes`` its listed checksum covers."""
    return size_bytes if isinstance(array, ShardedArray) else size_bytes - spec.CHECKSUM_BYTES


def parse_listed(array: RawArray, fields: Fields) -> ListedChunks:
    """Return what the attribute of an array lists.

    Raises
    ------
    StoreCorruptError
        If a list is missing, has another length than the array has chunks, or a number is out of
        its bounds.
    """

    def numbers(key: str) -> list[int]:
        found = fields.integers(key)
        if len(found) != array.chunk_count:
            raise fields.error(key, f"has {len(found)} numbers for {array.chunk_count} chunks")
        return found

    checksums = numbers(spec.CHECKSUMS)
    if not isinstance(array, ShardedArray):
        return ListedChunks(checksums, checksums, [array.file_bytes] * len(checksums))
    sizes = numbers(spec.CHUNK_SIZES)
    least = array.index_bytes + 2 * spec.CHECKSUM_BYTES
    if sizes and min(sizes) <= least:
        raise fields.error(spec.CHUNK_SIZES, f"has {min(sizes)}, expected more than {least}")
    return ListedChunks(checksums, numbers(spec.INDEX_CHECKSUMS), sizes)


def check_index(index: bytes, end: int) -> NDArray[np.int64]:
    """Return the entries of an index, shape (inner chunks, 2); both numbers -1 for an absent one.

    Parameters
    ----------
    index : bytes
        The index and its checksum.
    end : int
        Where it starts in its file, and so where the inner chunks end.

    Raises
    ------
    ValueError
        If the checksum differs, or the inner chunks do not stand one behind the other.
    """
    data, tail = index[: -spec.CHECKSUM_BYTES], index[-spec.CHECKSUM_BYTES :]
    stated = int.from_bytes(tail, "little")
    if (computed := google_crc32c.value(data)) != stated:
        raise ValueError(f"it has the checksum {computed:08x}, but ends with {stated:08x}")
    entries: NDArray[np.int64] = np.frombuffer(data, "<i8").reshape(-1, 2)
    absent = entries[:, 1] == -1
    present = int(absent.argmax()) if absent.any() else len(entries)
    sizes = entries[:present, 1]
    if (entries[present:] != -1).any():
        raise ValueError("an absent inner chunk stands before one that is there")
    if present and not 0 < sizes.min() <= sizes.max() <= end:
        raise ValueError("an inner chunk is beyond the end of the file")
    if (np.cumsum(sizes) - sizes != entries[:present, 0]).any() or sizes.sum() != end:
        raise ValueError("inner chunks overlap, or there are gaps between them")
    return entries
