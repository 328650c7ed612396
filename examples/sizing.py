"""How to open a table: whether `preload`, `row_cache` and `resident_limit` are worth it.

    python examples/sizing.py          # typical tables, and 16 GiB
    python examples/sizing.py STORE    # a store, or a model's file with --tensor, and free memory

1. A table that fits the free memory is preloaded.
2. Of a larger one, memory can hold the rows that are wanted most. A row cache keeps the bytes of a
   row, the page cache whole pages. Where all rows are wanted alike, neither helps.
3. A limit on resident memory is for a process that something watches, because it costs time.

`embstore bench STORE` measures what your machine makes of it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import embstore

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE_BYTES = 4096
FITS = 0.8  # Of the free memory; the rest is for everything else.
CACHE = 0.6  # The page cache needs some, too.
LIMIT = 0.25
PRELOADED_BYTES_PER_SECOND = 1.7e9  # docs/scale.md


class Advice(NamedTuple):
    """An option of `embstore.open`, its value, and why."""

    option: str
    value: bool | int
    why: str


def advise(
    rows: int, record_bytes: int, free_bytes: int, *, uniform: bool = False, watched: bool = False
) -> list[Advice]:
    """Return the options to open a table with.

    Parameters
    ----------
    rows, record_bytes : int
        Number of rows, and the bytes of each as it is stored.
    free_bytes : int
        Memory that the table may take.
    uniform : bool
        Whether all rows are wanted alike; otherwise some are wanted far more often than others.
    watched : bool
        Whether something counts the resident memory of the process, and minds it.
    """
    found = []
    own_bytes = free_bytes
    if watched:
        own_bytes = max(int(free_bytes * LIMIT), 256 * MIB)
        why = "pages beyond it are unmapped, and stay in the page cache"
        found.append(Advice("resident_limit", own_bytes, why))
    page_bytes = PAGE_BYTES + record_bytes - 1  # Some rows lie on two pages.
    if rows * record_bytes <= free_bytes * FITS:
        seconds = rows * record_bytes / PRELOADED_BYTES_PER_SECOND
        why = f"it fits; after {spoken(seconds)}, no lookup waits for the disk"
        found.append(Advice("preload", True, why))
    elif not uniform and page_bytes > 2 * record_bytes:
        cache = int(own_bytes * CACHE)
        of_rows, of_pages = cache / record_bytes / rows, cache / page_bytes / rows
        why = f"room for {of_rows:.1%} of the rows, or the pages of {of_pages:.1%}"
        found.append(Advice("row_cache", cache, why))
    return found


def spoken(seconds: float) -> str:
    """Return a time in words, without digits that it does not have."""
    return f"some {seconds:.1f} s" if seconds >= 0.1 else "a moment"


def as_size(size_bytes: int) -> str:
    """Return a size in the largest unit that leaves at least one of it."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes:,} bytes"


def free_memory() -> int:
    """Return the free memory in bytes, page cache included; a container may have less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) << 10


def show(name: str, rows: int, record_bytes: int, advice: list[Advice]) -> None:
    """Print a table and how to open it."""
    print(f"{name}: {rows:,} rows of {record_bytes:,} bytes, {as_size(rows * record_bytes)}")
    for option, value, why in advice:
        given = value if value is True else f'"{value // MIB:,} MiB"'.replace(",", "")
        print(f"  {option}={given}: {why}")
    if not advice:
        print("  no option: the page cache does as well as anything")


def main() -> None:
    """Give advice on a store, or on typical tables with 16 GiB of free memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", nargs="?")
    parser.add_argument("--tensor", help="which table of a model")
    parser.add_argument("--uniform", action="store_true", help="all rows are wanted alike")
    parser.add_argument("--watched", action="store_true", help="resident memory is watched")
    given = parser.parse_args()
    if given.store is not None:
        try:
            with embstore.open(given.store, tensor=given.tensor) as store:
                size = store.rows, store.record_bytes
        except (embstore.EmbstoreError, OSError, ValueError) as error:
            sys.exit(f"sizing: {error}")
        how = {"uniform": given.uniform, "watched": given.watched}
        show(given.store, *size, advise(*size, free_memory(), **how))
        return
    show("words", 2_196_017, 1200, advise(2_196_017, 1200, 16 * GIB))
    show("words, watched", 2_196_017, 1200, advise(2_196_017, 1200, 16 * GIB, watched=True))
    show("n-grams", 320_001_536, 160, advise(320_001_536, 160, 16 * GIB))
    show("items", 200_000_000, 512, advise(200_000_000, 512, 16 * GIB))
    show("items, uniform", 200_000_000, 512, advise(200_000_000, 512, 16 * GIB, uniform=True))
    show("passages", 20_000_000, 6144, advise(20_000_000, 6144, 16 * GIB))


if __name__ == "__main__":
    main()
