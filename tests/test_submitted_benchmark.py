"""The benchmark of announced lookups runs small and compares its rows."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

from benchmarks import submitted
from benchmarks.table import GeneratedTable
from tests.helpers.programs import run_python


class Announcing:
    """A store that notes what is asked of it, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prefetch(self, ids):
        self.asked.append(f"prefetch {ids[0]}")

    def submit(self, ids):
        self.asked.append(f"submit {ids[0]}")
        future: Future[np.ndarray] = Future()
        future.set_result(ids)
        return future

    def lookup(self, ids):
        self.asked.append(f"lookup {ids[0]}")
        return ids


BATCHES = np.arange(4).reshape(4, 1)


def test_all_are_measured(tmp_path):
    command = ["-m", "benchmarks.submitted", "--bytes", "200KB"]
    command += ["--dimension", "10", "--turn-rows", "100", "--rounds", "1", "--disk-seconds", "0"]
    done = run_python(*command, "--directory", tmp_path)
    for batch in submitted.BATCHES:
        for name in submitted.ways():
            assert f"\nbatches of {batch:,}, {name} " in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ahead", submitted.AHEAD)
def test_every_batch_is_announced_ahead_of_its_lookup(ahead):
    store = Announcing()
    assert np.array_equal(submitted.prefetched(ahead, store, BATCHES), BATCHES)
    assert sorted(store.asked) == sorted(f"{w} {n}" for w in ("lookup", "prefetch") for n in "0123")
    for number in range(4):
        before = store.asked[: store.asked.index(f"lookup {number}")]
        assert sum(w.startswith("prefetch") for w in before) == min(number + 1 + ahead, 4)
    store = Announcing()
    assert np.array_equal(submitted.submitted(ahead, store, BATCHES), BATCHES)
    assert store.asked == [f"submit {n}" for n in "0123"]


def test_wrong_rows_are_found(tmp_path):
    table = GeneratedTable.make(tmp_path / "t.embstore", 100, 3)
    with pytest.raises(ValueError, match="embstore returned wrong rows"):
        submitted.time_turn(
            table,
            lambda store, some: [store.lookup(ids[::-1]) for ids in some],
            np.arange(40).reshape(5, 8),
            None,
        )


def test_verdict():
    measured = {
        (32, "lookup"): submitted.Measured([1e5], [0.5]),
        (32, "submit, 1 ahead"): submitted.Measured([2e5], [0.9]),
        (4096, "lookup"): submitted.Measured([2e5], [0.7]),
    }
    small, large = submitted.text(measured, None).splitlines()[-2:]
    assert small.split()[-4:] == ["0.90", ">=", "0.8", "yes"]
    assert large.split()[-4:] == ["0.70", ">=", "0.8", "NO"]
