"""Kinds of lookups, and seeded ids for them.

=========== ======================================================================================
open        opening the store; no lookups
read_random uniform ids
read_hot    Zipf-distributed ids, exponent 1.1, scattered over the table
read_one    one uniform id, ``store[5]``
read_same   the same 1 or 32 ids in every call: the cost of a call when its rows are in the
            processor's caches
=========== ======================================================================================
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

OPEN, RANDOM, HOT, ONE, SAME = WORKS = ("open", "read_random", "read_hot", "read_one", "read_same")
# One cold row takes as long as the disk does, however it is asked for, and is then warm.
WARM_ONLY = (ONE, SAME)

BATCHES = (1, 32, 256, 4096, 65536)
HOT_BATCH = 4096
SAME_BATCHES = (1, 32)
ZIPF_EXPONENT = 1.1
STREAM_ROWS = 1 << 18  # Warm rows are drawn from this many, more than a processor's cache holds.
DRAWN_TOGETHER = 4096


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of lookup and the number of ids in a call (0 for `OPEN`)."""

    work: str
    batch: int


def cases(works: Sequence[str], batches: Sequence[int]) -> list[Case]:
    """Return the lookups to time: each kind with its batch sizes.

    `HOT` is timed with `HOT_BATCH` ids if ``batches`` has it, otherwise with all of them. An
    unknown kind or a batch size below 1 is a ValueError.

    Examples
    --------
    >>> cases(["read_random", "read_one"], [32])
    [Case(work='read_random', batch=32), Case(work='read_one', batch=1)]
    """
    if unknown := [name for name in works if name not in WORKS]:
        raise ValueError(f"unknown work {unknown[0]!r}; expected one of {', '.join(WORKS)}")
    if not batches or min(batches) < 1:
        raise ValueError(f"batches must be 1 id or more, not {list(batches)}")
    hot = [HOT_BATCH] if HOT_BATCH in batches else batches
    sizes = {OPEN: (0,), RANDOM: batches, HOT: hot, ONE: (1,), SAME: SAME_BATCHES}
    return [Case(name, batch) for name in works for batch in sizes[name]]


def draw_ids(work: str, rows: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return ``size`` ids below ``rows``: the same for the same arguments, on every machine."""
    name = RANDOM if work == ONE else work
    random = np.random.default_rng([seed, rows, zlib.crc32(name.encode())])
    if work == HOT:
        return scatter(zipf_ranks(random.random(size), rows), rows)
    return random.integers(0, rows, size, dtype=np.int64)


def stream_ids(case: Case, rows: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return about ``size`` ids, a whole number of batches; one batch for `SAME`."""
    batches = 1 if case.work == SAME else max(size // case.batch, 1)
    return draw_ids(case.work, rows, batches * case.batch, seed)


def fresh(case: Case, rows: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield newly drawn batches of ids without end; an id repeats only by chance."""
    together = max(DRAWN_TOGETHER // case.batch, 1) * case.batch
    for step in count():
        ids = draw_ids(case.work, rows, together, seed * 1_000_003 + step)
        yield from ids.reshape(-1, case.batch)


def zipf_ranks(
    uniform: NDArray[np.float64], rows: int, exponent: float = ZIPF_EXPONENT
) -> NDArray[np.int64]:
    """Turn uniform numbers in [0, 1) into Zipf-distributed ranks; rank 0 is the most frequent.

    It inverts the distribution function of the power law ``x ** -exponent`` on [1, rows + 1) and
    rounds down, so it needs no table of frequencies. The first few ranks come slightly less
    often than in the exact distribution.
    """
    power = 1 - exponent
    highest = (rows + 1) ** power - 1
    ranks: NDArray[np.int64] = ((1 + uniform * highest) ** (1 / power)).astype(np.int64) - 1
    return np.asarray(ranks.clip(0, rows - 1))


def scatter(ranks: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Map ranks to ids one to one, neighbours far apart, so that hot rows share no pages."""
    # Multiples of the golden ratio are spread evenly.
    step = max(min(int(rows * 0.6180339887), (1 << 62) // rows), 1)
    while math.gcd(step, rows) != 1:
        step += 1
    return np.asarray(ranks * step % rows, np.int64)
