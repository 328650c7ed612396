"""The mappings that a store will need, one for each chunk file, against those that a process has.

Linux limits them by ``sysctl vm.max_map_count``. A store with more chunk files than that can only
be read file by file, so it is refused before it is written.
"""

from __future__ import annotations

from pathlib import Path

from embstore.settle import size_text

LIMIT_FILE = Path("/proc/sys/vm/max_map_count")
# What a process maps besides a store: Python has some 300, with torch or pyarrow 1,500.
OTHER_MAPPINGS = 2048


def mapping_limit() -> int | None:
    """Return how many mappings the system allows a process; None where it does not say."""
    try:
        return int(LIMIT_FILE.read_text())
    except (OSError, ValueError):
        return None


def check_chunk_count(count: int, partition_count: int, chunk_bytes: int | None = None) -> None:
    """Refuse a store with more chunk files than a process can map.

    Parameters
    ----------
    count : int
        The chunk files of all partitions.
    partition_count : int
        The partitions of the store.
    chunk_bytes : int, optional
        The bytes of a chunk, if that is settled.

    Raises
    ------
    ValueError
        If there are too many.
    """
    limit = mapping_limit()
    if limit is None or count <= limit - OTHER_MAPPINGS:
        return
    size = "" if chunk_bytes is None else f", of {size_text(chunk_bytes)} each"
    fewer = "use fewer partitions" if count <= partition_count else "use larger chunks (chunk_rows)"
    raise ValueError(
        f"{partition_count} partitions are {count} chunk files or more{size}, and each takes a "
        f"mapping when the store is opened; a process has {limit} (sysctl vm.max_map_count), of "
        f"which {OTHER_MAPPINGS} are left to other uses. {fewer[0].upper()}{fewer[1:]}, or raise "
        f"the limit: sysctl -w vm.max_map_count={_next_limit(count)}"
    )


def _next_limit(count: int) -> int:
    return 1 << (count + OTHER_MAPPINGS - 1).bit_length()
