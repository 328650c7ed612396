"""Words: building them beyond their share of the memory; then cold ones, on the same stores."""

from __future__ import annotations

import shutil
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

import embstore
from benchmarks.growth import cold_words
from benchmarks.growth.cold_words import word
from benchmarks.growth.curves import Curve, Values
from benchmarks.times import at_least

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.growth.sizes import Sizes

    Progress = Callable[[str], None]

WRITTEN_TOGETHER = 1 << 16
# Enough for all words at once.
AMPLE_MEMORY = "8GiB"
BUILT, AMPLE = "million words/s", f"million words/s, {AMPLE_MEMORY}"
LEAST_BUILT = 1.0


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curves by the number of words."""
    built: dict[str, Values] = {BUILT: {}, AMPLE: {}}
    cold: dict[str, Values] = {}
    path = place / "words.embstore"
    for count in sizes.words:
        for way, memory in ((AMPLE, AMPLE_MEMORY), (BUILT, sizes.words_memory)):
            progress(f"words: building {count:,}")
            built[way][count] = count / time_build(path, count, memory) / 1e6
        progress(f"words: {count:,} cold")
        found = cold_words.measure(path, count, sizes.rounds, lmdb=count <= sizes.lmdb_words)
        for way, value in found.items():
            cold.setdefault(way, {})[count] = value
        shutil.rmtree(path)
    curve = Curve("words, built beyond the memory share", "words", built)
    what = "words, built, million a second"
    curve.goals.append(at_least(what, curve.last(BUILT), LEAST_BUILT))
    return [curve, *cold_words.curves(cold)]


def time_build(path: Path, count: int, memory_limit: int | str) -> float:
    """Build a store of bytes with words; return its seconds, without those of making words."""
    start = perf_counter()
    writer = embstore.StoreWriter(
        path,
        row_shape=(),
        dtype="uint8",
        rows=count,
        memory_limit=memory_limit,
        overwrite=True,
    )
    seconds = perf_counter() - start
    for first in range(0, count, WRITTEN_TOGETHER):
        words = [word(number) for number in range(first, min(first + WRITTEN_TOGETHER, count))]
        start = perf_counter()
        writer.write(np.zeros(len(words), np.uint8), words)
        seconds += perf_counter() - start
    start = perf_counter()
    writer.publish()
    return seconds + perf_counter() - start
