"""The comparison of ways to get rows on Ray: its arguments, and the report of given numbers."""

from __future__ import annotations

import numpy as np

from benchmarks import ray_rows
from benchmarks.ray_rows import DATASET, OWN, RESULTS, Plan, report_lines, rows_of


def test_report():
    plan = Plan(servers=(1, 4), batches=(64,))
    found = {
        (64, 1, OWN): [60.0, 90.0, 80.0],
        (64, 1, RESULTS): [30.0, 10.0, 20.0],
        (64, 1, DATASET): [6.0, 9.0, 8.0],
        (64, 4, OWN): [120.0, 180.0, 240.0],
        (64, 4, RESULTS): [120.0, 120.0, 120.0],
    }
    lines = list(report_lines(found, plan))
    assert lines[1].split() == ["1", "64", "80", "20", "(4.0x)", "8", "(10.0x)"]
    assert lines[2].split() == ["4", "64", "180", "120", "(1.5x)", "-"]
    assert lines[3:] == [
        "embstore, batch 64: 4 servers give 2.00 times the rows of 1",
        "goal: 2 times the rows of Ray results: missed, 1.5 to 4.0",
        "goal: 10 times the rows of RandomAccessDataset: met, 10.0 to 10.0",
    ]
    without = {key: value for key, value in found.items() if key[2] != DATASET}
    assert list(report_lines(without, plan))[-1] == "RandomAccessDataset: this Ray does not have it"


def test_rows_are_generated():
    rows = rows_of(np.array([0, 5]))
    assert rows.shape == (2, 300)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[1], np.arange(5, 305))


def test_arguments_are_the_plan(tmp_path, monkeypatch):
    asked: list[Plan] = []

    def run(folder, plan):
        asked.append(plan)
        yield "done"

    monkeypatch.setattr(ray_rows, "run", run)
    ray_rows.main(["--directory", str(tmp_path)])
    ray_rows.main(["--directory", str(tmp_path), "--servers", "1", "3", "--rounds", "2"])
    assert asked == [Plan(), Plan(servers=(1, 3), rounds=2)]
    assert not list(tmp_path.iterdir())
