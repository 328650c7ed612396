"""Changes of a table against a new build, and against writing and flushing the same bytes.

Run as ``python -m benchmarks.changes``. All take turns in one process, and the page cache is warm.
The rows of every changed store are compared with the generator's, outside of the timing.

====== =========================================================================================
append 1,000 words and rows join 400,000 x 300
update 10 random rows of a table of 5 GB are replaced
grow   100 appends of 10,000 rows, against one build: files, the time of opening, lookups
====== =========================================================================================

A change writes some files and links the others. "write and flush" writes the same files once more:
their bytes come from RAM, holes stay holes, and the clock stops when each file and the directory
are flushed. A new build is one from the changed store, as it would be by hand.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.program import parser_of, progress, scratch
from benchmarks.times import Times, at_least, at_most, median_of, table, timed
from embstore.bench.timing import check_rows
from embstore.formats.own import spec
from tools.make_table import as_bytes, table_rows, table_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.changing.report import ChangeReport

    Progress = Callable[[str], None]
    # Ids, the rows that they have afterwards, and the change.
    Change = tuple[NDArray[np.int64], NDArray[np.float32], Callable[[Path], ChangeReport]]

APPEND, UPDATE, GROW = "append", "update", "grow"
TASKS = (APPEND, UPDATE, GROW)
WRITE, REBUILD = "write and flush", "new build"
APPENDED, BUILT = "after appends", "after one build"
OPEN, LOOKUP = "open", "lookup"

ROWS_AT_ONCE = 1 << 15
BATCH = 4096
MOST_APPEND_MS, MOST_APPEND_TIMES, MOST_APPEND_CHUNKS = 60.0, 1.5, 4.0
MOST_UPDATE_TIMES = 1.3
LEAST_OF_BUILT = 0.95


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the tables and of the changes; the goals hold for the defaults."""

    rows: int = 400_000
    dimension: int = 300
    added: int = 1_000
    update_bytes: int = 5_000_000_000
    replaced: int = 10
    appends: int = 100
    appended: int = 10_000


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured: seconds of every call, and facts to show beside the goals."""

    times: Times
    facts: dict[str, float]


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """The files of a store that a change has written, in memory.

    Attributes
    ----------
    pieces : list of (bytes, bytes, int)
        Of each file, its bytes up to the zeros before its end, its last bytes, and its size.
    """

    pieces: list[tuple[bytes, bytes, int]]

    @classmethod
    def of(cls, store: Path, before: set[int]) -> WrittenFiles:
        """Read the files whose inodes were not in the store ``before``."""
        pieces = []
        for path in _files(store):
            if path.stat().st_ino not in before:
                data = path.read_bytes()
                end = len(data) - spec.CHECKSUM_BYTES
                pieces.append((data[:end].rstrip(b"\0"), data[end:], len(data)))
        return cls(pieces)

    def write(self, place: Path) -> None:
        """Write all files to a new directory, and flush them."""
        place.mkdir()
        descriptors = []
        for number, (start, end, size) in enumerate(self.pieces):
            descriptor = os.open(place / str(number), os.O_WRONLY | os.O_CREAT)
            done = 0
            while done < len(start):
                done += os.pwrite(descriptor, memoryview(start)[done:], done)
            os.pwrite(descriptor, end, size - len(end))
            descriptors.append(descriptor)
        descriptors.append(os.open(place, os.O_RDONLY))
        for descriptor in descriptors:
            os.fsync(descriptor)
            os.close(descriptor)


def time_append(place: Path, sizes: Sizes, rounds: int, progress: Progress) -> Found:
    """Time appends to copies of one store, each by other words."""
    base = place / "base.embstore"
    progress(f"building {sizes.rows:,} x {sizes.dimension}")
    build(base, sizes.rows, sizes.dimension, words=True)

    def change(turn: int) -> Change:
        ids = np.arange(sizes.added) + sizes.rows
        words = [f"{word} of turn {turn}" for word in table_words(ids)]
        rows = table_rows(ids, sizes.dimension)
        return ids, rows, lambda target: embstore.append(target, rows, words=words)

    return _time_change(APPEND, base, change, sizes.dimension, rounds, progress)


def time_update(place: Path, sizes: Sizes, rounds: int, progress: Progress) -> Found:
    """Time updates of copies of one store, each of other rows."""
    base = place / "base.embstore"
    rows = max(sizes.update_bytes // (4 * sizes.dimension), sizes.replaced)
    progress(f"building {rows:,} x {sizes.dimension}")
    build(base, rows, sizes.dimension)

    def change(turn: int) -> Change:
        ids = np.random.default_rng(turn).choice(rows, sizes.replaced, replace=False)
        new = table_rows(ids + rows, sizes.dimension)  # As of other ids.
        return ids, new, lambda target: embstore.update(target, ids, new)

    return _time_change(UPDATE, base, change, sizes.dimension, rounds, progress)


def time_grow(place: Path, sizes: Sizes, rounds: int, progress: Progress) -> Found:
    """Compare a store after many appends with one of a single build."""
    times: Times = {}
    stores = {APPENDED: place / "appended.embstore", BUILT: place / "built.embstore"}
    rows, dimension = sizes.appends * sizes.appended, sizes.dimension
    progress(f"one build of {rows:,} rows")
    times[f"{GROW}: {BUILT}"] = [timed(lambda: build(stores[BUILT], rows, dimension))[1]]
    build(stores[APPENDED], sizes.appended, dimension)
    seconds = []
    for start in range(sizes.appended, rows, sizes.appended):
        progress(f"append {start // sizes.appended} of {sizes.appends - 1}")
        some = table_rows(np.arange(start, start + sizes.appended), dimension)
        _, took = timed(lambda some=some: embstore.append(stores[APPENDED], some))  # type: ignore[misc]
        seconds.append(took)
    times[f"{GROW}: one append"] = seconds
    facts = {f"files {name}": float(len(list(_files(path)))) for name, path in stores.items()}
    opened = {name: embstore.open(path, preload=True) for name, path in stores.items()}
    for turn in range(20 * rounds):
        ids = np.random.default_rng(turn).integers(0, rows, BATCH)
        expected = table_rows(ids, dimension)
        for name, path in stores.items():
            other, took = timed(lambda path=path: embstore.open(path))  # type: ignore[misc]
            other.close()
            times.setdefault(f"{OPEN} {name}", []).append(took)
            opened[name].lookup(ids)
            found, took = timed(lambda store=opened[name], ids=ids: store.lookup(ids))  # type: ignore[misc]
            check_rows(name, ids, found, expected)
            times.setdefault(f"{LOOKUP} {name}", []).append(took)
    for store in opened.values():
        store.close()
    for path in stores.values():
        shutil.rmtree(path)
    return Found(times, facts)


def build(path: Path, rows: int, dimension: int, *, words: bool = False) -> None:
    """Build a store of generated rows, as `embstore.build` would of an array."""
    writer = embstore.StoreWriter(path, row_shape=(dimension,), dtype="float32", rows=rows)
    with writer:
        for ids in _blocks(rows):
            writer.write(table_rows(ids, dimension), table_words(ids) if words else None)


def goals(found: dict[str, Found]) -> list[str]:
    """Return a line for each goal that was measured."""
    lines = []
    for task in (APPEND, UPDATE):
        if task not in found:
            continue
        times, facts = found[task].times, found[task].facts
        own, write = median_of(times, task), median_of(times, f"{task}: {WRITE}")
        assert own is not None
        assert write is not None
        if task == APPEND:
            most = max(MOST_APPEND_MS, 1e3 * write * MOST_APPEND_TIMES)
            lines.append(at_most(f"{task}, milliseconds", own * 1e3, most))
            lines.append(at_most(f"{task}, written chunks", facts["written"], MOST_APPEND_CHUNKS))
        else:
            lines.append(at_most(f"{task}, times {WRITE}", own / write, MOST_UPDATE_TIMES))
            lines.append(at_most(f"{task}, chunk files", facts["chunks"], facts["rows"]))
    if GROW in found:
        times, facts = found[GROW].times, found[GROW].facts
        files = facts[f"files {BUILT}"] / facts[f"files {APPENDED}"]
        lines.append(at_least(f"{GROW}, files of one build", files, LEAST_OF_BUILT))
        for what in (OPEN, LOOKUP):
            built, own = (median_of(times, f"{what} {name}") for name in (BUILT, APPENDED))
            assert built is not None
            assert own is not None
            lines.append(at_least(f"{GROW}, speed of {what}", built / own, LEAST_OF_BUILT))
    return lines


def text(found: dict[str, Found]) -> str:
    """Return the times, the facts and the goals as a table."""
    times: Times = {}
    for each in found.values():
        times |= each.times
    lines = table(times)
    for task, each in found.items():
        lines += [f"{f'{task}, {name}':<46}{value:>8.1f}" for name, value in each.facts.items()]
    return "\n".join([*lines, "", *goals(found)])


def _time_change(
    task: str,
    base: Path,
    change: Callable[[int], Change],
    dimension: int,
    rounds: int,
    progress: Progress,
) -> Found:
    """Time a change of copies of a store in turns with its peers."""
    times: Times = {}
    place, target = base.parent, base.with_name("changed.embstore")
    before = {path.stat().st_ino for path in _files(base)}
    report: Any = None
    for turn in range(rounds + 1):
        progress(f"{task}, turn {turn} of {rounds}")
        # By links; the copy has inodes of its own only where it changes.
        shutil.copytree(base, target, copy_function=os.link)
        ids, rows, apply = change(turn)
        report, own = _timed(lambda apply=apply: apply(target))  # type: ignore[misc]
        with embstore.open(target) as store:
            check_rows(task, ids, store.lookup(ids), rows)
        written = WrittenFiles.of(target, before)
        _, write = _timed(lambda written=written: written.write(place / "written"))  # type: ignore[misc]
        shutil.rmtree(place / "written")
        _, new = _timed(lambda: embstore.build(target, place / "new.embstore").close())
        shutil.rmtree(place / "new.embstore")
        shutil.rmtree(target)
        if turn:  # The first one imports modules.
            times.setdefault(task, []).append(own)
            times.setdefault(f"{task}: {WRITE}", []).append(write)
            times.setdefault(f"{task}: {REBUILD}", []).append(new)
    shutil.rmtree(base)
    facts = {
        "rows": float(report.rows),
        "chunks": float(report.chunks_rewritten),
        "written": report.bytes_written / (report.chunk_rows * 4 * dimension),
        "megabytes": report.bytes_written / 1e6,
    }
    return Found(times, facts)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Time some work on a disk that has finished what was done before, such as removing."""
    os.sync()
    return timed(work)


def _files(store: Path) -> Iterator[Path]:
    return (path for path in store.rglob("*") if path.is_file())


def _blocks(rows: int) -> Iterator[Any]:
    for start in range(0, rows, ROWS_AT_ONCE):
        yield np.arange(start, min(start + ROWS_AT_ONCE, rows))


def main() -> None:
    """Read the arguments, measure, print."""
    usual = Sizes()
    parser = parser_of("changes", __doc__, rounds=5)
    parser.add_argument("--rows", type=int, default=usual.rows, help="rows to append to")
    parser.add_argument("--dimension", type=int, default=usual.dimension)
    parser.add_argument("--added", type=int, default=usual.added, help="rows to append")
    parser.add_argument(
        "--bytes", type=as_bytes, default=usual.update_bytes, help="size of the table to update"
    )
    parser.add_argument("--appends", type=int, default=usual.appends)
    parser.add_argument("--appended", type=int, default=usual.appended, help="rows of each")
    parser.add_argument("--task", action="append", choices=TASKS, help="by default all")
    given = parser.parse_args()
    sizes = Sizes(
        rows=given.rows,
        dimension=given.dimension,
        added=given.added,
        update_bytes=given.bytes,
        appends=given.appends,
        appended=given.appended,
    )
    measure = {APPEND: time_append, UPDATE: time_update, GROW: time_grow}
    found = {}
    with scratch(given.directory, "changes") as place:
        for task in given.task or TASKS:
            found[task] = measure[task](place, sizes, given.rounds, progress)
    print(text(found))


if __name__ == "__main__":
    main()
