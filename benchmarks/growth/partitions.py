"""Tables in many partitions: building, exporting and repartitioning them.

No store is removed before the last one is built: for minutes, ext4 without a journal looks at each
inode that was deleted before it makes a new one, which then takes several times as long.
"""

from __future__ import annotations

import shutil
import statistics
from typing import TYPE_CHECKING

import numpy as np

import embstore
from benchmarks.growth.curves import Curve, Values
from benchmarks.growth.tables import repeated_block
from benchmarks.times import at_most, timed
from embstore.bench.timing import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.growth.sizes import Sizes
    from embstore.table.numbering import Strategy

    Progress = Callable[[str], None]
    # Seconds of each turn, by strategy.
    Seconds = dict[str, list[float]]

ROW_BYTES = 64
STRATEGIES: tuple[Strategy, ...] = ("mod", "div")
ONE = "one partition"
WORKS = ("export", "repartition")
MOST_MS_A_FILE, MOST_OF_ONE = 1.0, 3.0


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curves of builds, exports and repartitions, by the number of partitions."""
    block = repeated_block(ROW_BYTES)
    matrix = np.resize(block, (sizes.partitioned_rows, block.shape[1]))
    build: dict[str, Values] = {}
    built: list[Path] = []
    ways: dict[str, dict[str, Values]] = {work: {} for work in WORKS}
    for count in sizes.partitions:
        taken: dict[str, Seconds] = {work: {} for work in WORKS}
        stores = {ONE: place / f"one_{count}.embstore"}
        embstore.build(matrix, stores[ONE]).close()
        for strategy in STRATEGIES:
            progress(f"partitions: building {count:,}, {strategy}")
            stores[strategy] = place / f"{strategy}_{count}.embstore"
            seconds = time_build(matrix, stores[strategy], count, strategy)
            build.setdefault(f"{strategy}, s", {})[count] = seconds
            build.setdefault(f"{strategy}, ms a file", {})[count] = seconds * 1e3 / count
        for turn in range(sizes.rounds):
            progress(f"partitions: reading {count:,}, turn {turn + 1} of {sizes.rounds}")
            for name, path in stores.items():
                for work, value in zip(WORKS, time_reads(path, matrix, place), strict=True):
                    taken[work].setdefault(name, []).append(value)
        for work in WORKS:
            for name, values in taken[work].items():
                ways[work].setdefault(f"{name}, s", {})[count] = statistics.median(values)
        built += stores.values()
    for path in built:
        shutil.rmtree(path)
    found = Curve("build, many partitions", "partitions", build)
    for strategy in STRATEGIES:
        last = found.last(f"{strategy}, ms a file")
        found.goals.append(at_most(f"build, {strategy}, ms a chunk file", last, MOST_MS_A_FILE))
    return [found, *(_reads(work, ways[work]) for work in WORKS)]


def time_build(matrix: NDArray[np.float32], path: Path, count: int, strategy: Strategy) -> float:
    """Build a store in some partitions; return the seconds until it is on the disk."""
    store, seconds = timed(
        lambda: embstore.build(matrix, path, partitions=count, strategy=strategy)
    )
    store.close()
    return seconds


def time_reads(path: Path, matrix: NDArray[np.float32], place: Path) -> tuple[float, float]:
    """Return the seconds of an export to ``.npy``, and of a repartition to one partition."""
    with embstore.open(path) as store:
        # Both start from a file that is in the page cache, with its pages mapped.
        store.scan(lambda ids, rows: rows[:, 0].sum())
        file, other = place / "exported.npy", place / "again.embstore"
        _, exported = timed(lambda: embstore.export(store, file))
        again, built = timed(lambda: embstore.build(store, other, partitions=1))
    ids = np.arange(len(matrix))
    check_rows("export", ids, np.load(file), matrix)
    with again:
        check_rows("repartition", ids, np.asarray(again), matrix)
    file.unlink()
    shutil.rmtree(other)
    return exported, built


def _reads(work: str, ways: dict[str, Values]) -> Curve:
    """Return the curve of exports or repartitions, with its goal."""
    curve = Curve(f"{work}, many partitions", "partitions", ways)
    one = curve.last(f"{ONE}, s")
    for strategy in STRATEGIES:
        ratio = curve.last(f"{strategy}, s") / one
        curve.goals.append(at_most(f"{work}, {strategy}, times {ONE}", ratio, MOST_OF_ONE))
    return curve
