"""How fast are nearest words found on disk? Against gensim, which has all vectors in RAM.

Run as ``python -m benchmarks.similar``. Both are asked for the same words in turns, in one process,
and must answer the same; the store is in the page cache. Cold, with its files dropped from there,
the store takes turns with a program that only reads these files from begin to end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.peers.words import Gensim
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, against, timed
from benchmarks.times import table as table_of
from embstore.bench.peers import load_matrix
from embstore.bench.state import flush, read_through
from embstore.bench.table import files_under
from embstore.interop.keyedvectors import KeyedVectors
from embstore.reading.residence import drop_cache

if TYPE_CHECKING:
    from collections.abc import Callable

# What is asked of both; words are drawn anew each time.
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
    theirs.vectors = load_matrix(table)
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
                    # The first time, norms are computed.
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
        for file in files:
            drop_cache(file)
        found[COLD].append(timed(partial(_search_once, table.path, word))[1])
        for file in files:
            drop_cache(file)
        found[READING].append(timed(partial(read_through, files))[1])
    return found


def _search_once(path: Path, word: str) -> None:
    # Closed, or its pages would stay mapped, and not be dropped.
    with embstore.open(path) as store:
        KeyedVectors(store).most_similar(word)


def _check(ours: Any, theirs: Any) -> None:
    if isinstance(ours, list):
        if [word for word, _ in ours[:10]] != [word for word, _ in theirs[:10]]:
            raise ValueError(f"other neighbours than gensim's: {ours[:10]}, not {theirs[:10]}")
        ours, theirs = ([score for _, score in answer] for answer in (ours, theirs))
    if not np.allclose(ours, theirs, atol=1e-5):
        raise ValueError("other similarities than gensim's")


def text(found: Times) -> str:
    """Return a table of what was measured."""
    lines = [*table_of(found), ""]
    for name in CALLS:
        ours, theirs = (f"{name}, {peer}" for peer in (OURS, THEIRS))
        lines += against(found, f"{name}, against {THEIRS}", ours, theirs, FLOOR)
    lines += against(found, f"{COLD}, against only reading", COLD, READING)
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similar", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--cold-rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("data"), help="where files go")
    given = parser.parse_args()
    if Gensim.missing():
        sys.exit("benchmarks.similar: gensim is not installed")
    given.directory.mkdir(parents=True, exist_ok=True)

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(dir=given.directory, prefix="embstore-similar-") as scratch:
        progress("making the table")
        path = Path(scratch).absolute() / "table.embstore"
        table = GeneratedTable.make(path, given.rows, given.dimension, words=True)
        found = measure_cold(table, given.cold_rounds, progress)
        found |= measure_warm(table, given.rounds, progress)
    print(text(found))


if __name__ == "__main__":
    main()
