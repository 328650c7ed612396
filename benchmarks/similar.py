"""Nearest rows of a store on disk: against NumPy and gensim with all vectors in RAM, and dd.

Run as ``python -m benchmarks.similar``. Each pair takes turns at the same queries in one process,
and must give the same answers.

* ``store.most_similar`` of a preloaded store, for one vector and for a batch, against
  ``matrix @ vector`` and argpartition.
* `KeyedVectors` over a store in the page cache, against gensim's.
* A first search with no file in the page cache, against dd, which reads the same files.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import embstore
from benchmarks.device import flush
from benchmarks.peers.words import Gensim
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, at_least, median_of, timed
from benchmarks.times import table as table_of
from embstore.bench.state import evict, files_under
from embstore.interop.keyedvectors import KeyedVectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.search.metrics import MetricName

Peer = TypeVar("Peer")

OURS, THEIRS, IN_RAM = "embstore", "gensim", "NumPy"
TOPN = 10
# Vectors that are searched for together.
BATCHES = 1, 64
METRICS: tuple[MetricName, ...] = "dot", "cosine"
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
COLD, READING = "most_similar, cold", "dd of the files, cold"
# How fast each is to be, compared with the other.
RAM_GOAL, GENSIM_GOAL, COLD_GOAL = 0.9, 1.0, 0.8


def measure_ram(
    table: GeneratedTable, matrix: NDArray[Any], rounds: int, progress: Callable[[str], None]
) -> Times:
    """Return the seconds of searches of a preloaded store and of a matrix, by ``what, peer``."""
    found: Times = {}
    random = np.random.default_rng(0)
    norms = np.linalg.norm(matrix, axis=1)
    with embstore.open(table.path, preload=True) as store:
        for turn in range(rounds + 1):
            progress(f"in RAM, turn {turn} of {rounds}")
            for metric in METRICS:
                for count in BATCHES:
                    queries = random.standard_normal((count, table.row_shape[0])).astype("f4")
                    peers: dict[str, Callable[[], Any]] = {
                        OURS: partial(store.most_similar, queries, TOPN, metric),
                        IN_RAM: partial(_in_ram, matrix, norms, queries, metric),
                    }
                    answers = {}
                    for peer, call in _in_turn(peers, turn):
                        answers[peer], seconds = timed(call)
                        if turn:  # The first turn also computes norms.
                            found.setdefault(_ram_name(metric, count, peer), []).append(seconds)
                    for one, other in zip(answers[OURS], answers[IN_RAM], strict=True):
                        _check([(store.ids(word), score) for word, score in one], other)
    return found


def _in_ram(
    matrix: NDArray[Any], norms: NDArray[Any], queries: NDArray[Any], metric: MetricName
) -> list[list[tuple[int, float]]]:
    """Return the best rows of a matrix and their scores for each query."""
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    found = []
    for scores in [matrix @ queries[0]] if len(queries) == 1 else queries @ matrix.T:
        if metric == "cosine":
            scores = scores / norms  # noqa: PLW2901
        some = np.argpartition(scores, -TOPN)[-TOPN:]
        best = some[np.argsort(-scores[some])]
        found.append(list(zip(best.tolist(), scores[best].tolist(), strict=True)))
    return found


def _ram_name(metric: str, count: int, peer: str) -> str:
    return f"{metric}, {count} vector{'s' * (count > 1)}, {peer}"


def measure_gensim(
    table: GeneratedTable, matrix: NDArray[Any], rounds: int, progress: Callable[[str], None]
) -> Times:
    """Return the seconds of every call, by ``call, peer``."""
    from gensim.models import KeyedVectors as InRam  # noqa: PLC0415  # Only where it is measured.

    theirs = InRam(table.row_shape[0])
    theirs.vectors = matrix
    theirs.index_to_key = table.words(np.arange(table.rows))
    theirs.key_to_index = {word: number for number, word in enumerate(theirs.index_to_key)}
    found: Times = {}
    random = np.random.default_rng(0)
    with embstore.open(table.path) as store:
        peers = {OURS: KeyedVectors(store), THEIRS: theirs}
        for turn in range(rounds + 1):
            progress(f"gensim, turn {turn} of {rounds}")
            words = table.words(random.integers(0, table.rows, 3))
            for name, call in CALLS.items():
                answers = {}
                for peer, vectors in _in_turn(peers, turn):
                    answers[peer], seconds = timed(partial(call, vectors, words))
                    # The first turn also computes norms, so it is not counted.
                    if turn:
                        found.setdefault(f"{name}, {peer}", []).append(seconds)
                _check(answers[OURS], answers[THEIRS])
    return found


def _in_turn(peers: dict[str, Peer], turn: int) -> Iterable[tuple[str, Peer]]:
    """Return the peers; every other turn, the last is first: it finds the processors idle."""
    return peers.items() if turn % 2 else reversed(peers.items())


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
        found[READING].append(timed(partial(_dd, files))[1])
    return found


def _search_once(path: Path, word: str) -> None:
    # The store is closed, because mapped pages cannot be dropped from the page cache.
    with embstore.open(path) as store:
        store.most_similar(word)


def _dd(files: list[Path]) -> None:
    for file in files:
        command = ["dd", f"if={file}", "of=/dev/null", "bs=8M", "status=none"]
        subprocess.run(command, check=True)


def _check(ours: Any, theirs: Any) -> None:
    if isinstance(ours, list):
        if [name for name, _ in ours[:TOPN]] != [name for name, _ in theirs[:TOPN]]:
            raise ValueError(f"wrong neighbours: {ours[:TOPN]}, expected {theirs[:TOPN]}")
        ours, theirs = ([score for _, score in answer] for answer in (ours, theirs))
    if not np.allclose(ours, theirs, rtol=1e-5, atol=1e-5):
        raise ValueError("wrong similarities: they differ by more than 1e-5")


def text(found: Times) -> str:
    """Return the times and ratios as a table."""
    pairs = [
        (f"{metric}, {count} vector{'s' * (count > 1)}", IN_RAM, RAM_GOAL)
        for metric in METRICS
        for count in BATCHES
    ]
    pairs += [(name, THEIRS, GENSIM_GOAL) for name in CALLS]
    ratios = [
        _ratio(found, f"{name}: speed against {peer}", f"{name}, {OURS}", f"{name}, {peer}", goal)
        for name, peer, goal in pairs
    ]
    ratios.append(_ratio(found, f"{COLD}: speed against dd", COLD, READING, COLD_GOAL))
    return "\n".join([*table_of(found), "", *filter(None, ratios)])


def _ratio(found: Times, what: str, ours: str, theirs: str, goal: float) -> str | None:
    one, other = median_of(found, ours), median_of(found, theirs)
    return None if one is None or other is None else at_least(what, other / one, goal)


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
        progress("loading the vectors into RAM")
        matrix = table.matrix()
        found |= measure_ram(table, matrix, given.rounds, progress)
        found |= measure_gensim(table, matrix, given.rounds, progress)
    print(text(found))


if __name__ == "__main__":
    main()
