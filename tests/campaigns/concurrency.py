"""Lookups by many threads and processes, under builds that replace the store.

For some time, one process replaces a store again and again, by a table of another size, while
readers look up in it, each from many threads:

* forked ones, forked during lookups on other threads, with the store open;
* spawned ones that were sent the open store, pickled;
* spawned ones that open it by its path.

Readers reopen the store now and then, with and without a resident limit, mapped and chunked,
prefetch, ask for statistics, and close stores that other threads are using. Each table has its own
numbers and words, so each answer shows its table: always that of the store object that was asked.
An answer may also be the error that the store was closed, or (from the chunked reader, which opens
files when it needs them) replaced; nothing else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import random
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tools.make_table import table_rows

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.opener import ReaderName

COLUMNS = 16
LIMITS = (None, "64MiB")
ROW_CACHE = "100KiB"  # Half of the small table, bookkeeping included.


@dataclass(frozen=True, slots=True)
class Size:
    """The duration, the number of processes and of threads in each, and the rows of a table."""

    seconds: float
    processes: int
    threads: int
    rows: int


SMALL = Size(seconds=2, processes=3, threads=4, rows=3000)
FULL = Size(seconds=60, processes=4, threads=16, rows=8_000)


def run(folder: Path, seed: int, size: Size) -> str:
    """Look up while the store is replaced; return how often."""
    path = folder / "t.embstore"
    write_table(path, 0, size.rows)
    spawn = multiprocessing.get_context("spawn")
    results: Any = spawn.SimpleQueue()
    stop: Any = spawn.Event()
    replacer = spawn.Process(target=_replace, args=(path, size.rows, seed, stop, results))
    replacer.start()
    readers = _start_readers(path, seed, size, results)
    try:
        for reader in readers:
            reader.join(size.seconds + 300)
    finally:
        stop.set()
        hanging = [reader for reader in readers if reader.is_alive()]
        for reader in hanging:
            reader.kill()
        replacer.join(300)
    if hanging:
        raise AssertionError(f"{len(hanging)} processes hang")
    lookups, rows, opens, tables = _sum(results, [*readers, replacer])
    return (
        f"{size.processes} processes x {size.threads} threads, {size.seconds:g} s: {lookups:,} "
        f"lookups of {rows:,} rows in {opens:,} opened stores while {tables:,} tables replaced "
        "each other; every row is from the table of its store"
    )


def _start_readers(path: Path, seed: int, size: Size, results: Any) -> list[Any]:
    """Start the reading processes in the three ways."""
    fork: Any = multiprocessing.get_context("fork")
    spawn: Any = multiprocessing.get_context("spawn")
    end = time.time() + size.seconds + 5  # Spawned processes need some seconds to start.
    handle = embstore.open(path)
    ways: list[tuple[Any, Any]] = [(fork, handle), (spawn, pickle.dumps(handle)), (spawn, None)]
    readers = []
    with _busy(handle, seed):
        for number in range(size.processes):
            method, given = ways[number % 3]
            arguments = (seed + number, given, path, size, end, results)
            readers.append(method.Process(target=_read, args=arguments))
            readers[-1].start()
    return readers


def _sum(results: Any, processes: list[Any]) -> tuple[int, ...]:
    """Return lookups, rows, opened stores and tables, summed over all processes."""
    counts, tables = np.zeros(3, np.int64), 0
    for _ in processes:
        if results.empty():
            codes = [process.exitcode for process in processes]
            raise AssertionError(f"a process died: exit statuses {codes}")
        result = results.get()
        if isinstance(result, str):
            raise AssertionError(result)
        if isinstance(result, int):
            tables = result
        else:
            counts += result
    return (*counts.tolist(), tables)


def write_table(path: Path, generation: int, rows: int) -> None:
    """Build the table of a generation at ``path``; each has another number of rows."""
    rows -= generation % 7
    with embstore.StoreWriter(
        path,
        row_shape=(COLUMNS,),
        dtype="float32",
        partitions=1 + generation % 4,
        strategy="mod",
        overwrite=True,
        chunk_rows=256,
        source={"generation": generation},
    ) as writer:
        words = [_word(generation, number) for number in range(rows)]
        writer.write(table_rows(np.arange(rows), COLUMNS, generation), words)


def _word(generation: int, number: int) -> str:
    return f"{generation}-{number}"


def _replace(path: Path, rows: int, seed: int, stop: Any, results: Any) -> None:
    """Replace the store until told to stop; report how often, or the traceback."""
    generation = 0
    try:
        while not stop.is_set():
            generation += 1
            write_table(path, generation, rows)
            time.sleep(random.Random(seed + generation).uniform(0, 0.2))
        results.put(generation)
    except BaseException:
        results.put(f"the build of table {generation}: {traceback.format_exc()}")
        raise


@contextlib.contextmanager
def _busy(store: embstore.EmbeddingStore, seed: int) -> Any:
    """Look up on a few threads of this process, while it forks."""
    done = threading.Event()
    ids = np.random.default_rng(seed).integers(0, len(store), 20_000)

    def work() -> None:
        while not done.is_set():
            store.lookup(ids)
            store[int(ids[0])]

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.2)
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


class _Shared:
    """The store that the threads of a process share; any of them may reopen it.

    Attributes
    ----------
    current : tuple of EmbeddingStore and str
        The store, and its reader.
    opens : int
        How often it was opened.
    """

    def __init__(self, path: Path, handle: embstore.EmbeddingStore | bytes | None) -> None:
        self.path = path
        self.opens = 0
        try:
            store = pickle.loads(handle) if isinstance(handle, bytes) else handle
        except embstore.StoreChangedError:
            store = None  # It was replaced since.
        self.current = self.open(random.Random(0)) if store is None else (store, "mapped")

    def open(self, random_numbers: random.Random) -> tuple[embstore.EmbeddingStore, str]:
        """Open the store, with a random reader, and a random limit or a row cache."""
        self.opens += 1
        reader: ReaderName = random_numbers.choice(("mapped", "mapped", "mapped", "chunked"))
        if reader == "mapped" and random_numbers.random() < 0.3:
            return embstore.open(self.path, reader=reader, row_cache=ROW_CACHE), reader
        limit = random_numbers.choice(LIMITS)
        return embstore.open(self.path, reader=reader, resident_limit=limit), reader


def _read(
    seed: int,
    handle: embstore.EmbeddingStore | bytes | None,
    path: Path,
    size: Size,
    end: float,
    results: Any,
) -> None:
    """Look up on many threads until the end; report how often, or the tracebacks."""
    problems: list[str] = []
    counts = np.zeros(3, np.int64)
    try:
        shared = _Shared(path, handle)
        lock = threading.Lock()

        def work(number: int) -> None:
            try:
                found = _look_up(shared, random.Random(seed * 1000 + number), end, problems)
            except BaseException:
                problems.append(traceback.format_exc())
            else:
                with lock:
                    counts[:2] += found

        threads = [threading.Thread(target=work, args=(n,)) for n in range(size.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts[2] = shared.opens
    except BaseException:
        problems.append(traceback.format_exc())
    results.put("\n".join(problems) if problems else counts)


def _look_up(
    shared: _Shared, random_numbers: random.Random, end: float, problems: list[str]
) -> tuple[int, int]:
    lookups = rows = 0
    while time.time() < end and not problems:
        store, reader = shared.current
        if random_numbers.random() < 0.02:
            fresh = shared.open(random_numbers)
            if random_numbers.random() < 0.5:
                store.close()  # While other threads use it.
            shared.current = fresh
            store, reader = fresh
        try:
            rows += _check(store, random_numbers)
            lookups += 1
        except embstore.StoreClosedError:
            continue
        except embstore.StoreNotFoundError:
            # Only a chunked store may lose its files, also one closed in the meantime.
            if reader == "mapped":
                raise
            shared.current = shared.open(random_numbers)
    return lookups, rows


def _check(store: embstore.EmbeddingStore, random_numbers: random.Random) -> int:
    """Look up rows and words; return the number of rows, raise if one is of another table."""
    generation = store.source["generation"]
    count = random_numbers.choice((1, 7, 300, 4000))
    ids = np.random.default_rng(random_numbers.randrange(2**32)).integers(0, len(store), count)
    if random_numbers.random() < 0.2:
        store.prefetch(ids)
    if random_numbers.random() < 0.2:
        _compare(store.submit(ids).result(), ids, generation)
    _compare(store.lookup(ids), ids, generation)
    some = ids[:20]
    words = store.words(some)
    if words != [_word(generation, number) for number in some.tolist()]:
        raise AssertionError(f"words of another table than {generation}: {words}")
    if not np.array_equal(store.ids(words), some):
        raise AssertionError(f"ids of another table than {generation}")
    _compare(store[int(ids[0])][np.newaxis], ids[:1], generation)
    if store.stats().rows < count:
        raise AssertionError("the statistics lost rows")
    return count + 1


def _compare(rows: Any, ids: Any, generation: int) -> None:
    if not np.array_equal(rows, table_rows(ids, COLUMNS, generation)):
        raise AssertionError(f"rows of another table than {generation}")
