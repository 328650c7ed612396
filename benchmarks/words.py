"""Lookups by word, ``read_one_word``, against a dict and gensim with everything in RAM.

Run as ``python -m benchmarks.words``. All take turns in one process, and every answer is compared.
Words are new str objects in each turn, as a tokenizer makes them, so their hashes are not cached. A
time is that of one word, except for ``dict(key_to_index)``, which is that of all.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, against, at_most, median_of, microseconds
from embstore.bench.timing import check_rows
from embstore.interop.keyedvectors import KeyedVectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Words = list[str]

WORK = "read_one_word"
OURS, DICT, GENSIM = "embstore", "dict", "gensim"
MISSING_SHARE = 0.1
LONG_ROUNDS = 7  # Of calls that take long.

ROW, IDS, KNOWN = 'store["word"]', 'store.ids("word")', '"word" in store'
LOOP, WHOLE = "[kv[w] for w in words if w in kv]", "dict(kv.key_to_index)"
TOGETHER = "store.ids(words)"
# The longest times, in microseconds a word; of `WHOLE`, of all 400,000 words.
MOST_US = {ROW: 2.2, KNOWN: 0.8, IDS: 1.2, LOOP: 4.0, WHOLE: 300_000.0}
TOGETHER_LEAST = 1.3


@dataclass(frozen=True, slots=True)
class Drawn:
    """The words of a turn, and their ids; -1 for missing words."""

    words: Words
    ids: NDArray[np.int64]

    @classmethod
    def draw(
        cls, table: GeneratedTable, count: int, random: np.random.Generator, *, missing: bool
    ) -> Drawn:
        """Draw words of a table; with ``missing``, a tenth are not in it."""
        ids = random.integers(0, table.rows, count)
        words = table.words(ids)
        if missing:
            for place in np.flatnonzero(random.random(count) < MISSING_SHARE).tolist():
                words[place] = f"missing{place}"
                ids[place] = -1
        return cls(words, ids)


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of call: words in a turn, whether some are missing, the ways, the check, most turns.

    The check gets a way's name, its answer and what was drawn; a wrong answer is a ValueError.
    """

    words: int
    missing: bool
    ways: dict[str, Callable[[Words], Any]]
    check: Callable[[str, Any, Drawn], None]
    most_rounds: int = 1000


def gensim_of(table: GeneratedTable, matrix: NDArray[Any], known: dict[str, int]) -> Any:
    """Return gensim's vectors in RAM."""
    from gensim.models import KeyedVectors as InRam  # noqa: PLC0415  # Only where it is measured.

    vectors = InRam(table.row_shape[0], count=0, dtype=np.dtype(table.dtype))
    vectors.vectors, vectors.key_to_index, vectors.index_to_key = matrix, known, list(known)
    return vectors


def tasks(
    store: embstore.EmbeddingStore,
    matrix: NDArray[Any],
    known: dict[str, int],
    vectors: Any,
    sizes: tuple[int, int, int],
) -> dict[str, Task]:
    """Return the kinds of calls by name; sizes are words one by one, in a loop and at once."""
    one, loop, together = sizes
    ours = KeyedVectors(store)

    def rows(name: str, got: Any, drawn: Drawn) -> None:
        ids = drawn.ids[drawn.ids >= 0]
        check_rows(name, ids, np.array(got), matrix[ids])

    def same_ids(name: str, got: Any, drawn: Drawn) -> None:
        _same(name, [int(number) for number in got], drawn.ids.tolist())

    found = {
        ROW: Task(
            one,
            False,
            {
                OURS: lambda words: [store[w] for w in words],
                DICT: lambda words: [matrix[known[w]].copy() for w in words],
            },
            rows,
        ),
        IDS: Task(
            one,
            False,
            {
                OURS: lambda words: [store.ids(w) for w in words],
                DICT: lambda words: [known[w] for w in words],
            },
            same_ids,
        ),
        KNOWN: Task(
            one,
            True,
            {
                OURS: lambda words: [w in store for w in words],
                DICT: lambda words: [w in known for w in words],
            },
            lambda name, got, drawn: _same(name, got, (drawn.ids >= 0).tolist()),
        ),
        LOOP: Task(
            loop,
            True,
            {
                OURS: lambda words: [ours[w] for w in words if w in ours],
                DICT: lambda words: [matrix[known[w]].copy() for w in words if w in known],
            },
            rows,
            LONG_ROUNDS,
        ),
        WHOLE: Task(
            1,
            False,
            {OURS: lambda _: dict(ours.key_to_index), DICT: lambda _: dict(known)},
            lambda name, got, _: _same(name, got, known),
            LONG_ROUNDS,
        ),
        TOGETHER: Task(
            together,
            False,
            {
                OURS: store.ids,
                DICT: lambda words: np.array([known[w] for w in words]),
            },
            same_ids,
        ),
    }
    if vectors is not None:
        found[ROW].ways[GENSIM] = lambda words: [vectors[w] for w in words]
        found[IDS].ways[GENSIM] = lambda words: [vectors.get_index(w) for w in words]
        found[KNOWN].ways[GENSIM] = lambda words: [w in vectors for w in words]
        found[LOOP].ways[GENSIM] = lambda words: [vectors[w] for w in words if w in vectors]
    return found


def _same(name: str, got: Any, expected: Any) -> None:
    if got != expected or type(got) is not type(expected):
        raise ValueError(f"{name} returned a wrong answer")


def time_tasks(
    chosen: dict[str, Task],
    table: GeneratedTable,
    rounds: int,
    progress: Callable[[str], None],
) -> Times:
    """Return the seconds of a word, by ``task: way``."""
    random = np.random.default_rng(6)
    found: Times = {}
    for name, task in chosen.items():
        progress(name)
        for turn in range(min(rounds, task.most_rounds) + 1):
            for way, call in task.ways.items():
                drawn = Drawn.draw(table, task.words, random, missing=task.missing)
                start = perf_counter()
                got = call(drawn.words)
                seconds = perf_counter() - start
                task.check(way, got, drawn)
                if turn:  # The first turn warms up.
                    found.setdefault(f"{WORK}, {name}: {way}", []).append(seconds / task.words)
    return found


def measure(
    place: Path,
    rows: int,
    dimension: int,
    sizes: tuple[int, int, int],
    rounds: int,
    progress: Callable[[str], None],
) -> Times:
    """Make a table with words in a directory, and time all kinds of calls."""
    progress("making the table")
    table = GeneratedTable.make(place / "words.embstore", rows, dimension, words=True)
    matrix = table.matrix()
    known = {word: number for number, word in enumerate(table.words(np.arange(table.rows)))}
    has_gensim = importlib.util.find_spec("gensim") is not None
    vectors = gensim_of(table, matrix, known) if has_gensim else None
    with embstore.open(table.path, preload=True) as store:
        chosen = tasks(store, matrix, known, vectors, sizes)
        return time_tasks(chosen, table, rounds, progress)


def text(found: Times) -> str:
    """Return the times, the goals and the ratios."""
    lines = [*microseconds(found), ""]
    for name, most in MOST_US.items():
        value = median_of(found, f"{WORK}, {name}: {OURS}")
        if value is not None:
            lines.append(at_most(f"{WORK}, {name}, us", value * 1e6, most))
    for name in (*MOST_US, TOGETHER):
        for peer in (DICT, GENSIM):
            lines += against(
                found,
                f"{name}, against {peer}",
                f"{WORK}, {name}: {OURS}",
                f"{WORK}, {name}: {peer}",
                TOGETHER_LEAST if name == TOGETHER else None,
            )
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = parser_of("words", __doc__, rounds=100)
    parser.add_argument("--rows", type=int, default=400_000, help="words in the store")
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--one", type=int, default=200, help="words looked up one by one")
    parser.add_argument("--loop", type=int, default=20_000, help="words of the comprehension")
    parser.add_argument("--together", type=int, default=10_000, help="words looked up at once")
    given = parser.parse_args()

    sizes = given.one, given.loop, given.together
    with scratch(given.directory, "words") as place:
        found = measure(place, given.rows, given.dimension, sizes, given.rounds, progress)
    print(text(found))


if __name__ == "__main__":
    main()
