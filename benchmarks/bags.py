"""Sums of bags of rows in a store, against torch's embedding_bag on an array in RAM.

Run as ``python -m benchmarks.bags``. All take turns in one process, with newly drawn bags each
time, and must give the same answers. The store is preloaded, or only in the page cache (``warm``).
NumPy gathers all rows and then sums them with ``np.add.reduceat``.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.program import parser_of, progress, scratch
from benchmarks.table import GeneratedTable
from benchmarks.times import Times, against, timed
from benchmarks.times import table as table_of
from embstore import RaggedIds, embedding_lookup_sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

OURS = "embstore, preloaded"
TORCH = "torch embedding_bag"
FLOOR = 1.0


@dataclass(frozen=True, slots=True)
class Bags:
    """The bags of one call."""

    ids: NDArray[np.int64]
    splits: NDArray[np.int64]
    weights: NDArray[np.float32] | None

    @classmethod
    def draw(cls, work: str, bags: int, bag_ids: int, rows: int, seed: int) -> Bags:
        """Draw bags for one of `WORKS`."""
        random = np.random.default_rng(seed)
        if work == "bags of any length":
            lengths = random.integers(1, 2 * bag_ids, bags)
        else:
            lengths = np.full(bags, bag_ids)
        splits = np.concatenate([[0], np.cumsum(lengths)])
        weighted = work == "weighted bags"
        weights = random.random(splits[-1], np.float32) if weighted else None
        return cls(random.integers(0, rows, splits[-1]), splits, weights)


WORKS = ("bags", "weighted bags", "bags of any length")


def with_embstore(params: Any) -> Callable[[Bags], NDArray[Any]]:
    """Return a function that sums bags of a store or an array by embstore."""

    def call(bags: Bags) -> NDArray[Any]:
        weights = None if bags.weights is None else RaggedIds(bags.weights, bags.splits)
        ids = RaggedIds(bags.ids, bags.splits)
        return embedding_lookup_sparse(params, ids, weights, combiner="sum")

    return call


def with_numpy(matrix: NDArray[Any]) -> Callable[[Bags], NDArray[Any]]:
    """Return a function that sums bags by NumPy; no bag may be empty."""

    def call(bags: Bags) -> NDArray[Any]:
        rows = matrix[bags.ids]
        if bags.weights is not None:
            rows *= bags.weights[:, np.newaxis]
        return np.add.reduceat(rows, bags.splits[:-1], axis=0)

    return call


def with_torch(matrix: NDArray[Any]) -> Callable[[Bags], NDArray[Any]]:
    """Return a function that sums bags by torch, on its default number of threads."""
    import torch  # noqa: PLC0415  # Only where it is measured.

    table = torch.from_numpy(matrix)

    def call(bags: Bags) -> NDArray[Any]:
        weights = None if bags.weights is None else torch.from_numpy(bags.weights)
        with torch.inference_mode():
            rows = torch.nn.functional.embedding_bag(
                torch.from_numpy(bags.ids),
                table,
                torch.from_numpy(bags.splits),
                mode="sum",
                per_sample_weights=weights,
                include_last_offset=True,
            )
        return np.asarray(rows.numpy())

    return call


def measure(
    table: GeneratedTable,
    bags: int,
    bag_ids: int,
    rounds: int,
    progress: Callable[[str], None],
) -> Times:
    """Return the seconds of every call, by ``work: peer``."""
    progress("loading the rows into RAM")
    matrix = table.matrix()
    found: Times = {}
    with embstore.open(table.path) as warm, embstore.open(table.path, preload=True) as preloaded:
        peers = {OURS: with_embstore(preloaded), "embstore, warm": with_embstore(warm)}
        if importlib.util.find_spec("torch") is not None:
            peers[TORCH] = with_torch(matrix)
        peers["embstore, array in RAM"] = with_embstore(matrix)
        peers["matrix[ids], reduceat"] = with_numpy(matrix)
        for turn in range(rounds + 1):
            progress(f"turn {turn} of {rounds}")
            for work in WORKS:
                drawn = Bags.draw(work, bags, bag_ids, table.rows, turn)
                answers = []
                for name, peer in peers.items():
                    answer, seconds = timed(partial(peer, drawn))
                    answers.append(answer)
                    if turn:  # The first turn also maps pages and starts threads.
                        found.setdefault(f"{work}: {name}", []).append(seconds)
                for name, answer in zip(peers, answers, strict=True):
                    if not np.allclose(answer, answers[0], rtol=1e-4, atol=1e-4):
                        raise ValueError(f"wrong sums: {name} differs from {OURS}")
    return found


def text(found: Times) -> str:
    """Return the times and ratios as a table."""
    lines = [*table_of(found), ""]
    for work in WORKS:
        ours, theirs = (f"{work}: {name}" for name in (OURS, TORCH))
        lines += against(found, f"{work}, against {TORCH}", ours, theirs, FLOOR)
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = parser_of("bags", __doc__, rounds=15)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--bags", type=int, default=4096, help="bags in a call")
    parser.add_argument("--bag-ids", type=int, default=20, help="ids in a bag")
    given = parser.parse_args()

    with scratch(given.directory, "bags") as place:
        progress("making the table")
        path = place / "table.embstore"
        table = GeneratedTable.make(path, given.rows, given.dimension)
        found = measure(table, given.bags, given.bag_ids, given.rounds, progress)
    print(text(found))


if __name__ == "__main__":
    main()
