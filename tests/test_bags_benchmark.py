"""The benchmark of bags runs small and compares its answers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import bags
from benchmarks.table import GeneratedTable


def test_all_are_measured(tmp_path):
    command = [sys.executable, "-m", "benchmarks.bags", "--rows", "300", "--dimension", "5"]
    command += ["--bags", "40", "--bag-ids", "4", "--rounds", "2", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    for work in bags.WORKS:
        assert f"\n{work}: {bags.OURS} " in done.stdout
    assert not list(tmp_path.iterdir())


def test_verdict():
    found = {f"bags: {bags.OURS}": [1e-3], f"bags: {bags.TORCH}": [5e-4, 2e-3, 2e-3]}
    assert bags.text(found).splitlines()[-1].split()[-2:] == ["2.00x", "yes"]
    found[f"bags: {bags.TORCH}"] = [5e-4]
    assert bags.text(found).splitlines()[-1].split()[-2:] == ["0.50x", "NO"]


def test_wrong_sums_are_found(tmp_path, monkeypatch):
    table = GeneratedTable.make(tmp_path / "t.embstore", 30, 3)
    monkeypatch.setattr(bags, "with_numpy", lambda matrix: lambda drawn: matrix[:1] + drawn.ids[0])
    with pytest.raises(ValueError, match=r"wrong sums: matrix\[ids\], reduceat differs"):
        bags.measure(table, 5, 2, 1, lambda line: None)
