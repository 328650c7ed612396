"""Which rows are asked for? Seeded streams of ids, so that every peer gets the same.

========== =================================================================================
open       nothing yet: from the import being done to the store being ready
read_random uniform ids
read_hot   Zipf ids, exponent 1.1: some rows are asked for again and again, scattered over the table
read_one   one uniform id, the way the peer likes best (``store[5]``)
read_same  the same 1 or 32 ids in every call, so that their rows are in the processor's caches:
           what a call costs besides waiting for memory
read_words words instead of ids, uniform
build      the peer's own files, written from the rows of the store
========== =================================================================================
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCHES = (1, 32, 256, 4096, 65536)
HOT_BATCH = 4096
WORDS_BATCH = 10_000
SAME_BATCHES = (1, 32)
ZIPF_EXPONENT = 1.1

OPEN, RANDOM, HOT, ONE, SAME, WORDS, BUILD = WORKS = (
    *("open", "read_random", "read_hot"),
    *("read_one", "read_same", "read_words", "build"),
)
# One cold row takes as long as the disk does, whichever way it is asked for; and is warm then.
WARM_ONLY = (ONE, SAME)


@dataclass(frozen=True, slots=True)
class Case:
    """A piece of work: its name, and how many rows one call asks for (0 where it asks for none)."""

    work: str
    batch: int

    def __post_init__(self) -> None:
        if self.work not in WORKS:
            raise ValueError(f"there is no work {self.work!r}; there are {', '.join(WORKS)}")


def cases(works: tuple[str, ...], batches: tuple[int, ...]) -> list[Case]:
    """Return the lookups to time: each work with each batch size it is asked in.

    Hot rows are asked for in batches of `HOT_BATCH` if that is among ``batches``.
    """
    found = []
    usual = HOT_BATCH in batches
    for work in works:
        if work == ONE:
            found.append(Case(work, 1))
        elif work == SAME:
            found += [Case(work, batch) for batch in SAME_BATCHES]
        elif work == WORDS:
            found.append(Case(work, WORDS_BATCH))
        elif work == HOT:
            found += [Case(work, batch) for batch in batches if batch == HOT_BATCH or not usual]
        elif work == RANDOM:
            found += [Case(work, batch) for batch in batches]
        else:
            Case(work, 0)  # It is checked, and has no lookups.
    return found


def draw_ids(work: str, rows: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return ``count`` ids below ``rows``: the same for the same arguments, on every machine.

    Examples
    --------
    >>> draw_ids("read_random", 1000, 4, seed=1).tolist() == draw_ids(
    ...     "read_random", 1000, 4, seed=1
    ... ).tolist()
    True
    """
    name = RANDOM if work == ONE else work
    random = np.random.default_rng([seed, rows, zlib.crc32(name.encode())])
    if work == HOT:
        return scatter(zipf_ranks(random.random(count), rows), rows)
    return random.integers(0, rows, count, dtype=np.int64)


def zipf_ranks(
    uniform: NDArray[np.float64], rows: int, exponent: float = ZIPF_EXPONENT
) -> NDArray[np.int64]:
    """Turn uniform numbers in [0, 1) into ranks, 0 the most frequent, with Zipf's frequencies.

    The inverse of the distribution function of the power law ``x ** -exponent`` on [1, rows + 1),
    rounded down: no table of frequencies is needed, however many rows there are. The first few
    ranks come a little less often than in the sum's own distribution.

    Examples
    --------
    >>> zipf_ranks(np.array([0.0, 0.5, 0.999]), 1_000_000).tolist()
    [0, 107, 970672]
    """
    power = 1 - exponent
    highest = (rows + 1) ** power - 1
    ranks: NDArray[np.int64] = ((1 + uniform * highest) ** (1 / power)).astype(np.int64) - 1
    return np.asarray(ranks.clip(0, rows - 1))


def scatter(ranks: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Give each rank an id of its own, neighbours far apart, so that hot rows share no pages."""
    # The golden ratio's multiples are spread evenly.
    step = max(min(int(rows * 0.6180339887), (1 << 62) // rows), 1)
    while math.gcd(step, rows) != 1:
        step += 1
    return np.asarray(ranks * step % rows, np.int64)
