"""The benchmark of small lookups runs small and compares its rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import small


def test_all_are_measured(tmp_path):
    command = [sys.executable, "-m", "benchmarks.small", "--bytes", "300KB", "--rounds", "1"]
    command += ["--row-bytes", "160", "--batch", "16", "--whole-bytes", "100KB"]
    command += ["--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    case = small.Case(160, 16, small.HOT)
    for way in (small.TAKE, *small.OURS.values(), small.MATRIX, small.MEMMAP):
        assert f"\n{case}: {way} " in done.stdout
    for work in (small.ONE, small.LOOP):
        assert f"\n160 B, {work}: {small.OURS[4]} " in done.stdout
    assert f"\n{small.WHOLE}: embstore " in done.stdout
    assert not list(tmp_path.iterdir())


def test_wrong_rows_are_found():
    matrix = np.arange(12, dtype=np.float32).reshape(6, 2)
    ways = {"broken": lambda ids, out: matrix[::-1][ids]}
    with pytest.raises(ValueError, match="broken returned wrong rows for"):
        small.time_small(ways, matrix, small.Case(8, 4, small.FRESH), 1)


def test_goals():
    goal = small.Goal(small.Case(1200, 32, small.FRESH), small.OURS[1], 1.1, small.MATRIX)
    name = "read_small, 1,200 B, 32 fresh: "
    found = {name + small.OURS[1]: [1.2e-6], name + small.MATRIX: [1e-6]}
    assert goal.line(found)[0].split()[-4:] == ["1.20", "<=", "1.1", "NO"]
    found[name + small.MATRIX] = [2e-6]
    assert goal.line(found)[0].split()[-4:] == ["0.60", "<=", "1.1", "yes"]
    assert goal.line({}) == []
