"""Nearest words in a store on disk, against gensim with all vectors in RAM.

Run as ``python -m benchmarks.similar``. Both take turns at the same words in one process, the store
being in the page cache, and must give the same answers. Cold, with its files dropped from the page
cache, the store takes turns with a program that only reads the files from start to end.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.device import flush
from benchmarks.peers.words import Gensim
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, against, timed
from benchmarks.times import table as table_of
from embstore.bench.state import evict, files_under, read_through
from embstore.interop.keyedvectors import KeyedVectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The calls to both; new words are drawn each time.
CALLS: dict[str, Callable[[Any, list[str]], Any]] = {
    "most_similar, one word": lambda vectors, w: vectors.most_similar(w[0]),
    "most_similar, a - b + c": lambda vectors, w: vectors.most_similar([w[0], w[2]], [w[1]]),
    "most_similar, 1000 neighbours": lambda vectors, w: vectors.most_similar(w[0], topn=1000),
    "most_similar, all similarities": lambda vectors, w: vectors.most_similar(w[0], topn=None),
    "similar_by_vector": lambda vectors, w: vectors.similar_by_vector(
        vectors[w[0]] + vectors[w[1]]
    ),
}
OURS, THEIRS = "embstore", "gensim"
COLD, READING = "most_similar, cold", "reading the files, cold"
FLOOR = 1.0


def measure_warm(table: GeneratedTable, rounds: int, progress: Callable[[str], None]) -> Times:
    """Return the seconds of every call, by ``call, peer``."""
    from gensim.models import KeyedVectors as InRam  # noqa: PLC0415  # Only where it is measured.

    progress("loading the vectors into RAM, for gensim")
    theirs = InRam(table.row_shape[0])
    theirs.vectors = table.matrix()
    theirs.index_to_key = table.words(np.arange(table.rows))
    theirs.key_to_index = {word: number for number, word in enumerate(theirs.index_to_key)}
    found: Times = {}
    random = np.random.default_rng(0)
    with embstore.open(table.path) as store:
        peers = {OURS: KeyedVectors(store), THEIRS: theirs}
        for turn in range(rounds + 1):
            progress(f"turn {turn} of {rounds}")
            words = table.words(random.integers(0, table.rows, 3))
            for name, call in CALLS.items():
                answers = []
                for peer, vectors in peers.items():
                    answer, seconds = timed(partial(call, vectors, words))
                    answers.append(answer)
                    # The first turn also computes norms, so it is not counted.
                    if turn:
                        found.setdefault(f"{name}, {peer}", []).append(seconds)
                _check(*answers)
    return found


def measure_cold(table: GeneratedTable, rounds: int, progress: Callable[[str], None]) -> Times:
    """Return the seconds of the first search in a fresh store, and of reading its files."""
    found: Times = {COLD: [], READING: []}
    files = files_under(table.path)
    flush(files)
    word = table.words(np.arange(1))[0]
    for turn in range(rounds):
        progress(f"cold, turn {turn + 1} of {rounds}")
        evict(files)
        found[COLD].append(timed(partial(_search_once, table.path, word))[1])
        evict(files)
        found[READING].append(timed(partial(read_through, files))[1])
    return found


def _search_once(path: Path, word: str) -> None:
    # The store is closed, because mapped pages cannot be dropped from the page cache.
    with embstore.open(path) as store:
        KeyedVectors(store).most_similar(word)


def _check(ours: Any, theirs: Any) -> None:
    if isinstance(ours, list):
        if [word for word, _ in ours[:10]] != [word for word, _ in theirs[:10]]:
            raise ValueError(f"wrong neighbours: {ours[:10]}, expected gensim's {theirs[:10]}")
        ours, theirs = ([score for _, score in answer] for answer in (ours, theirs))
    if not np.allclose(ours, theirs, atol=1e-5):
        raise ValueError("wrong similarities: they differ from gensim's by more than 1e-5")


def text(found: Times) -> str:
    """Return the times and ratios as a table."""
    lines = [*table_of(found), ""]
    for name in CALLS:
        ours, theirs = (f"{name}, {peer}" for peer in (OURS, THEIRS))
        lines += against(found, f"{name}, against {THEIRS}", ours, theirs, FLOOR)
    lines += against(found, f"{COLD}, against only reading", COLD, READING)
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = parser_of("similar", __doc__, rounds=15)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--cold-rounds", type=int, default=3)
    given = parser.parse_args()
    if Gensim.missing():
        sys.exit("benchmarks.similar: gensim is not installed")

    with scratch(given.directory, "similar") as place:
        progress("making the table")
        path = place / "table.embstore"
        table = GeneratedTable.make(path, given.rows, given.dimension, words=True)
        found = measure_cold(table, given.cold_rounds, progress)
        found |= measure_warm(table, given.rounds, progress)
    print(text(found))


if __name__ == "__main__":
    main()
