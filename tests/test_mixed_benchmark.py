"""The benchmark of warm and cold lookups runs small and compares its rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import mixed
from benchmarks.peers.own import Embstore
from benchmarks.table import GeneratedTable


def test_all_are_measured(tmp_path):
    command = [sys.executable, "-m", "benchmarks.mixed", "--bytes", "200KB", "--dimension", "10"]
    command += ["--calls", "6", "--rounds", "1", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    for mixture in mixed.MIXTURES:
        for name in ("embstore", "np.memmap"):
            assert f"\nread_mixed, 32 rows, {mixture}: {name} " in done.stdout
    assert not list(tmp_path.iterdir())


def test_mixtures():
    warm, cold = np.arange(100), np.arange(1000, 1320).reshape(10, 32)
    random = np.random.default_rng(0)
    drawn = {name: mixed.draw_mixed(name, warm, cold, random) for name in mixed.MIXTURES}
    assert (drawn[mixed.WARM] < 100).all()
    assert (drawn[mixed.COLD] == cold).all()
    assert (drawn[mixed.IN_TURN][::2] < 100).all()
    assert (drawn[mixed.IN_TURN][1::2] == cold[1::2]).all()
    assert 0 < (drawn[mixed.HITS] >= 1000).mean() < 0.05


def test_wrong_rows_are_found(tmp_path, monkeypatch):
    table = GeneratedTable.make(tmp_path / "t.embstore", 100, 3)
    monkeypatch.setattr(Embstore, "lookup", lambda self, ids: table.expected(ids[::-1]))
    with pytest.raises(ValueError, match="embstore returned wrong rows"):
        mixed.time_mixed(Embstore(table), np.arange(8), np.arange(40, 80).reshape(5, 8))


def test_verdict():
    name = f"{mixed.WORK}, 32 rows, "
    found = {f"{name}{mixture}: embstore": [2e-4] for mixture in mixed.MIXTURES}
    found[f"{name}{mixed.IN_TURN}: embstore"] = [2e-4, 4e-4]
    goal, halves = mixed.text(found, 32).splitlines()[-2:]
    assert goal.split()[-4:] == ["300.00", "<=", "300", "yes"]
    assert halves.split()[-1] == "1.50"
