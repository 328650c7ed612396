"""The memory plan of a build: shares of one limit.

=====  ==============================================================================
share  used for
=====  ==============================================================================
1/8    pieces: rows of one partition, collected until a write is worthwhile
1/8    pieces that are queued for the disk
1/8    rows that are held until the chunk size is known
3/8    the vocabulary; arrays beyond it are files in the staging directory
1/16   attributes; those beyond it are files in the staging directory, too
3/16   the rest: the batch that is being written, blocks that are being parsed
=====  ==============================================================================

A piece of a compressed store has at least one inner chunk. The encoded form of the piece that is
being written comes from the rest.

The limit counts what a build adds to the process, not Python and its libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

from embstore.settle import size_text
from embstore.wording import parameter

DEFAULT_MEMORY_LIMIT = 1 << 30
# A multiple of 2 MiB, so that the page cache can keep written pieces in pages of that size.
MAX_PIECE_BYTES = 4 << 20
MIN_PIECE_BYTES = 4 << 10
MAX_QUEUE_BYTES = 32 << 20
MAX_HELD_BYTES = 64 << 20
# The cost of a partition besides its piece: objects, names, metadata.
PARTITION_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The shares of a build's memory.

    Attributes
    ----------
    piece_bytes : int
        Size of a piece, a power of two.
    queue_bytes : int
        The most bytes of pieces that are queued for the disk.
    held_bytes : int
        The most bytes of rows that are held until the chunk size is known.
    vocabulary_bytes : int
        The most bytes of the vocabulary that stay in memory while it is built.
    attribute_bytes : int
        The same of all attributes.
    """

    piece_bytes: int
    queue_bytes: int
    held_bytes: int
    vocabulary_bytes: int
    attribute_bytes: int


def plan_memory(
    limit: int, partition_count: int, least_piece_bytes: int = MIN_PIECE_BYTES
) -> MemoryPlan:
    """Divide the memory of a build, in which a piece has at least ``least_piece_bytes``.

    Raises
    ------
    ValueError
        If the limit is too low for the partitions; the message has the lowest one.

    Examples
    --------
    >>> plan_memory(1 << 30, 100).piece_bytes
    1048576
    >>> plan_memory(1 << 20, 100)
    Traceback (most recent call last):
      ...
    ValueError: 100 partitions need a memory_limit of at least 6400KiB, not 1MiB; raise it, or
    use fewer partitions
    """
    least_piece_bytes = max(least_piece_bytes, MIN_PIECE_BYTES)
    need = 8 * partition_count * (least_piece_bytes + PARTITION_BYTES)
    if need > limit:
        noun = "partition needs" if partition_count == 1 else "partitions need"
        raise ValueError(
            f"{partition_count} {noun} a {parameter('memory_limit')} of at least "
            f"{size_text(need)}, not {size_text(limit)}; raise it, or use fewer partitions"
        )
    piece_bytes = min(MAX_PIECE_BYTES, limit // 8 // partition_count - PARTITION_BYTES)
    return MemoryPlan(
        piece_bytes=1 << (piece_bytes.bit_length() - 1),
        queue_bytes=min(MAX_QUEUE_BYTES, limit // 8),
        held_bytes=min(MAX_HELD_BYTES, limit // 8),
        vocabulary_bytes=limit // 8 * 3,
        attribute_bytes=limit // 16,
    )
